"""Who makes runs in a simulated run: DAGs with every trigger rule, maps, approvals, callbacks and
runs of runs; lets them grow, gives some up, and runs parts of them again.

A run token is a key: a run that is asked for again is the same run, and so is a rerun.

I1  Every node that waits for an answer gets one in the end, so that every run can end.

Not here: what is asked of the engine, and how (`run_desk`), the nodes (`node_drawing`), what has to
come of it (`rules/runs`).
"""

import random
from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.node_drawing import NodeDrawing, answered_kind
from jobengine.testing.sim.producer import Numbers
from jobengine.testing.sim.run_desk import RunDesk

__all__ = ["Composer"]

_PAUSES_S: Final = (0.5, 5.0, 30.0)
_RERUN_PAUSES_S: Final = (1.0, 3.0, 8.0)
_RERUNS: Final = 3
"""How many are asked for, for each run that is made; of a run that has not ended it is refused."""
_GROWS_S: Final = (0.0, 0.3, 2.0)
_ANSWERS_S: Final = 2.0
_TRIES: Final = 40
_DAG_IDS: Final = ("d0", "d1")
_OVER: Final = (None, "RUN_ENDED")
"""What answers an answer for good."""


@attrs.frozen
class _Asked:
    """A run that was asked for: of `nodes`, as a rerun of `run_id` where that is given."""

    request: dict[str, Any]
    nodes: Sequence[dict[str, Any]]
    run_id: str | None = None


class Composer:
    """Makes `runs` runs for one tenant, and asks for reruns where that is a habit."""

    def __init__(
        self,
        tenant_id: str,
        runs: int,
        desk: Desk,
        dice: random.Random,
        numbers: Numbers,
        habits: frozenset[str],
    ) -> None:
        self._left = runs
        self._desk = RunDesk(tenant_id, desk)
        self._dice = dice
        self._habits = habits
        self._dags = _DAG_IDS if runs and "sub_runs" in habits else ()
        callbacks = "callbacks" in habits
        self._drawing = NodeDrawing(dice, numbers, callbacks=callbacks, dag_ids=self._dags)
        self._known: list[tuple[str, Sequence[dict[str, Any]]]] = []
        """Runs that are there, and their nodes."""
        self._open: list[tuple[str, str, str]] = []
        """What has no answer yet: run, key and kind of node."""
        self._unanswered: list[_Asked] = []
        """Requests for runs of which nothing is known yet."""
        self._grown = 0

    async def prepare(self) -> None:
        """Register what runs may be of."""
        for place, dag_id in enumerate(self._dags):
            nodes = self._drawing.dag(self._dags[:place])
            for _ in range(_TRIES):
                if await self._desk.register(dag_id, nodes) is not None:
                    break

    async def run(self) -> None:
        dice = self._dice
        reruns = _RERUNS * self._left if "reruns" in self._habits else 0
        pauses_s = _RERUN_PAUSES_S if reruns else _PAUSES_S
        while self._left > 0 or (self._known and reruns > 0):
            await trio.sleep(dice.choice(pauses_s))
            if self._left > 0:
                self._left -= 1
                await self._make()
            await self._answer()
            if self._known and reruns > 0:
                reruns -= 1
                await trio.sleep(dice.choice(pauses_s))
                await self._rerun()

    async def _make(self) -> None:
        """A run, that may grow and may be given up."""
        dice = self._dice
        run_id = await self._create()
        if run_id is not None and "growth" in self._habits:
            await trio.sleep(dice.choice(_GROWS_S))
            await self._grow()
        if run_id is not None and dice.random() < 0.2:
            await trio.sleep(dice.choice(_PAUSES_S))
            await self._desk.cancel(run_id)

    async def finish(self) -> None:
        """Ask again for what had no answer, and answer what waits, until nothing is left."""
        while self._open or self._unanswered:
            for asked in list(self._unanswered):
                await self._ask(asked)
            await self._answer()
            await trio.sleep(_ANSWERS_S)

    async def _create(self) -> str | None:
        nodes = self._drawing.run()
        request = {
            "runToken": self._token(),
            "failFast": self._dice.random() < 0.3,
            "jobs": nodes,
        }
        asked = _Asked(request, nodes)
        self._unanswered.append(asked)
        return await self._ask(asked)

    async def _rerun(self) -> None:
        run_id, nodes = self._dice.choice(self._known)
        request: dict[str, Any] = {"runToken": self._token()}
        if self._dice.random() < 0.6:
            first, anywhere = nodes[0]["key"], self._dice.choice(nodes)["key"]
            request["key"] = self._dice.choice((first, anywhere))
        asked = _Asked(request, nodes, run_id)
        self._unanswered.append(asked)
        await self._ask(asked)

    async def _ask(self, asked: _Asked) -> str | None:
        """The id of the run, once it is known to be there."""
        if asked.run_id is None:
            answered = await self._desk.create(asked.request)
        else:
            answered = await self._desk.rerun(asked.run_id, asked.request)
        if answered is None:
            return None
        self._unanswered.remove(asked)
        if answered.refusal is not None:
            return None
        run_id = str(answered.answer["runId"])
        self._known.append((run_id, asked.nodes))
        self._wait_for(run_id, asked.nodes)
        return run_id

    async def _grow(self) -> None:
        run_id, nodes = self._known.pop()
        self._grown += 1
        growth = self._drawing.growth(self._grown, nodes)
        # Whether it has grown may stay unknown; then what it has to answer is answered in vain.
        self._wait_for(run_id, growth["jobs"])
        answered = await self._desk.extend(run_id, growth)
        has_grown = answered is not None and answered.refusal is None
        self._known.append((run_id, [*nodes, *growth["jobs"]] if has_grown else nodes))

    def _wait_for(self, run_id: str, nodes: Sequence[dict[str, Any]]) -> None:
        for node in nodes:
            kind = answered_kind(node)
            if kind is not None:
                self._open.append((run_id, node["key"], kind))

    async def _answer(self) -> None:
        """Answer every node that waits for it; some are not open yet, some never will be."""
        for run_id, key, kind in list(self._open):
            answered = await self._desk.answer(run_id, key, kind, agrees=self._dice.random() < 0.7)
            if answered is not None and answered.refusal in _OVER:
                self._open.remove((run_id, key, kind))

    def _token(self) -> str:
        return f"r{self._dice.getrandbits(48):x}"
