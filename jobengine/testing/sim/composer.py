"""Who makes runs in a simulated run: DAGs with every trigger rule, maps and approvals.

What each node comes to is written in its payload (`fate`), as of any job. A run token is a key: a
run that is asked for again is the same run.

I1  Every approval is answered in the end, so that every run can end.

Not here: how a request travels (`desk`), what has to come of it (`rules/runs`).
"""

import random
from typing import Any, Final

import msgspec
import trio

from jobengine.domain.redaction import Redactor
from jobengine.domain.run import RunState
from jobengine.domain.run_record import RunRecord
from jobengine.engine import Engine
from jobengine.http.run_requests import decode_run, plan_request
from jobengine.messages.lease_shard import Actor
from jobengine.messages.runs import RunPlan
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.fate import Fate, Step
from jobengine.testing.sim.producer import JOB_TYPES, Numbers

__all__ = ["Composer"]

_COMPOSER: Final = Actor("composer")
_PAUSES_S: Final = (0.5, 5.0, 30.0)
_ANSWERS_S: Final = 2.0
_SIZES: Final = (1, 3, 5, 8)
_TRIGGERS: Final = (
    "all_succeeded",
    "all_succeeded",
    "all_succeeded",
    "all_done",
    "any_succeeded",
    "any_failed",
    "none_failed",
)
_STEPS: Final[tuple[tuple[Step, ...], ...]] = (
    ("complete",),
    ("complete",),
    ("complete",),
    ("fail", "complete"),
    ("fail_for_good",),
)


class Composer:
    """Makes `runs` runs for one tenant, cancels some, and answers approvals."""

    def __init__(
        self, tenant_id: str, runs: int, desk: Desk, dice: random.Random, numbers: Numbers
    ) -> None:
        self._tenant_id = tenant_id
        self._left = runs
        self._desk = desk
        self._dice = dice
        self._numbers = numbers
        self._open: list[tuple[str, str]] = []
        """Approvals that have no answer yet: run and key."""
        self._unanswered: list[dict[str, Any]] = []
        """Requests for runs of which nothing is known yet."""

    async def run(self) -> None:
        while self._left > 0:
            self._left -= 1
            await trio.sleep(self._dice.choice(_PAUSES_S))
            self._unanswered.append(self._request())
            run_id = await self._create(self._unanswered[-1])
            if run_id is not None and self._dice.random() < 0.2:
                await trio.sleep(self._dice.choice(_PAUSES_S))
                await self._cancel(run_id)
            await self._answer_approvals()

    async def finish(self) -> None:
        """Ask again for what had no answer, and answer approvals, until none is left."""
        while self._open or self._unanswered:
            for request in list(self._unanswered):
                await self._create(request)
            await self._answer_approvals()
            await trio.sleep(_ANSWERS_S)

    def _request(self) -> dict[str, Any]:
        token = f"r{self._dice.getrandbits(48):x}"
        return {
            "runToken": token,
            "failFast": self._dice.random() < 0.3,
            "jobs": self._nodes(),
        }

    async def _create(self, request: dict[str, Any]) -> str | None:
        token, nodes, body = request["runToken"], request["jobs"], msgspec.json.encode(request)

        async def attempt(engine: Engine) -> dict[str, Any]:
            created = await engine.gateway.runs.create(self._plan(engine, body), _COMPOSER)
            assert created.run is not None
            return {"runId": created.run.run_id, "jobIds": []}

        answered = await self._desk.ask(self._tenant_id, "run", request, attempt, key=token)
        if answered is None:
            return None
        self._unanswered.remove(request)
        if answered.refusal is not None:
            return None
        run_id = str(answered.answer["runId"])
        self._open += [(run_id, node["key"]) for node in nodes if node.get("kind") == "approval"]
        return run_id

    def _plan(self, engine: Engine, body: bytes) -> RunPlan:
        request, gateway = decode_run(body), engine.gateway
        run_id = gateway.new_id()
        record = RunRecord(
            tenant_id=self._tenant_id,
            run_id=run_id,
            run_token=request.run_token,
            state=RunState.PENDING,
            nodes=0,
            created_at=gateway.clock.moment().at,
            created_by=_COMPOSER.subject,
            fail_fast=bool(request.fail_fast),
            correlation_id=run_id,
        )
        made = plan_request(record, request, Redactor())
        return RunPlan(record=made.record, nodes=made.nodes, jobs=made.jobs, graph=made.graph)

    def _nodes(self) -> list[dict[str, Any]]:
        """Nodes of a run as a user writes them, each behind some of those before it."""
        dice, nodes = self._dice, list[dict[str, Any]]()
        for number in range(dice.choice(_SIZES)):
            above = [node["key"] for node in nodes]
            behind = sorted(dice.sample(above, min(len(above), dice.choice((0, 1, 1, 2)))))
            node: dict[str, Any] = {"key": f"n{number}", "dependsOn": behind}
            listed = [key for key in behind if _gives_list(nodes[int(key[1:])])]
            if dice.random() < 0.1:
                node |= {"kind": "approval"}
            elif listed and dice.random() < 0.2:
                node |= self._work(items=0) | {"kind": "map", "over": f"results.{listed[0]}"}
                node["join"] = dice.choice(("all_succeeded", "all_done", "none_failed"))
            else:
                node |= self._work(items=dice.choice((0, 2, 3)))
            if behind and node.get("kind") != "map":
                node["trigger"] = dice.choice(_TRIGGERS)
            nodes.append(node)
        return nodes

    def _work(self, items: int) -> dict[str, Any]:
        dice = self._dice
        fate = Fate(
            number=self._numbers.next(),
            steps=dice.choice(_STEPS),
            work_ms=dice.choice((0, 20, 400, 5_000)),
            items=items,
        )
        return {
            "jobType": dice.choice(JOB_TYPES),
            "payload": msgspec.to_builtins(fate),
            "maxRetries": dice.choice((1, 3)),
            "leaseSeconds": dice.choice((2, 10)),
        }

    async def _cancel(self, run_id: str) -> None:
        async def attempt(engine: Engine) -> dict[str, Any]:
            await engine.gateway.runs.cancel(self._tenant_id, run_id, _COMPOSER)
            return {}

        await self._desk.ask(self._tenant_id, "cancel_run", {"runId": run_id}, attempt)

    async def _answer_approvals(self) -> None:
        for run_id, key in list(self._open):
            approves = self._dice.random() < 0.7

            async def attempt(
                engine: Engine, run_id: str = run_id, key: str = key, approves: bool = approves
            ) -> dict[str, Any]:
                runs = engine.gateway.runs
                act = runs.approve if approves else runs.reject
                answer = await act(self._tenant_id, run_id, key, _COMPOSER)
                return {"state": str(answer.state)}

            about = {"runId": run_id, "key": key}
            answered = await self._desk.ask(self._tenant_id, "approve", about, attempt)
            if answered is not None and answered.refusal in (None, "RUN_ENDED"):
                self._open.remove((run_id, key))


def _gives_list(node: dict[str, Any]) -> bool:
    return "kind" not in node and "items" in node["payload"]
