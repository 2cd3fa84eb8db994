"""An operator of a simulated run: acts on single jobs and on workers, as a person at a console.

It knows jobs from what producers were told, and dead letters from the list that it reads.

I1  Before the run ends it has released whatever is held, so that all that was accepted can finish.

Not here: limits (`limiter`), runs (`composer`).
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from jobengine.domain.instant import SECOND
from jobengine.domain.job import State
from jobengine.engine import Engine
from jobengine.messages.answers import decode_operate_facts
from jobengine.messages.lease_shard import (
    Actor,
    CancelJob,
    DiscardDeadLetter,
    DrainWorker,
    IdempotencyClaim,
    OperateAnswer,
    PrioritizeJob,
    ReleaseJob,
    ReplayJob,
    RetryJob,
)
from jobengine.store.port import DeadLetterFilter, JobFilter
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.virtual_time import sleep

__all__ = ["OPERATOR", "Operator"]

OPERATOR: Final = Actor("operator", "simulated", "SIM-1")
_PAUSES_S: Final = (0.5, 3.0, 12.0)
_VERBS: Final = ("cancel", "retry", "release", "replay", "prioritize", "explain", "drain", "letter")
_DRAIN_S: Final = 60
_LOOK_S: Final = 20.0
_LETTERS_MAX: Final = 20
_LISTED_MAX: Final = 1_000
_EXPLAINED_MAX: Final = 3


class Operator:
    """`jobs` are those it knows of, `workers` the ids of workers it may drain."""

    def __init__(
        self,
        tenant_id: str,
        jobs: Callable[[], Sequence[str]],
        workers: Sequence[str],
        desk: Desk,
        dice: random.Random,
    ) -> None:
        self._tenant_id = tenant_id
        self._jobs = jobs
        self._workers = workers
        self._desk = desk
        self._dice = dice

    async def run(self) -> None:
        while True:
            await trio.sleep(self._dice.choice(_PAUSES_S))
            if self._jobs():
                await self._act(self._dice.choice(_VERBS))

    async def finish(self) -> None:
        while held := await self._held():
            for job_id in held:
                await self._operate("release", job_id)
            await trio.sleep(_PAUSES_S[0])

    async def look_after(self) -> None:
        """Release what is held later: a submit may have been under way when all seemed done."""
        while True:
            await sleep(_LOOK_S)
            await self.finish()

    async def _held(self) -> list[str]:
        """Jobs that wait for a release, as the list of them shows; those of nobody as well."""
        found: list[str] = []
        wanted = JobFilter(states=frozenset({State.PENDING}))

        async def attempt(engine: Engine) -> dict[str, Any]:
            page = await engine.gateway.store.job_list(self._tenant_id, wanted, None, _LISTED_MAX)
            found[:] = [job.job_id for job in page.jobs if job.definition.run_id is None]
            return {}

        while await self._desk.ask(self._tenant_id, "list", {}, attempt) is None:
            await trio.lowlevel.checkpoint()
        return found

    async def _act(self, verb: str) -> None:
        match verb:
            case "explain":
                await self._explain()
            case "drain":
                await self._drain()
            case "letter":
                await self._answer_letter()
            case _:
                await self._operate(verb, self._dice.choice(self._jobs()))

    async def _operate(self, verb: str, job_id: str, dead_letter_id: str | None = None) -> None:
        """Something done to one job; with a key it is done once, however often it is asked."""
        priority = self._dice.randrange(10)
        key = f"o{self._dice.getrandbits(48):x}"
        body = hashlib.sha256(f"{verb} {job_id} {priority}".encode()).hexdigest()
        claim = IdempotencyClaim(key, f"/jobs/{job_id}:{verb}", body)

        async def attempt(engine: Engine) -> dict[str, Any]:
            def build(ask_id: int) -> Any:
                named: dict[str, Any] = {
                    "ask_id": ask_id,
                    "tenant_id": self._tenant_id,
                    "job_id": job_id,
                    "actor": OPERATOR,
                    "claim": claim,
                }
                match verb:
                    case "cancel":
                        return CancelJob(**named)
                    case "retry":
                        return RetryJob(dead_letter_id=dead_letter_id, **named)
                    case "release":
                        return ReleaseJob(**named)
                    case "prioritize":
                        return PrioritizeJob(priority=priority, **named)
                    case "discard":
                        return DiscardDeadLetter(dead_letter_id=dead_letter_id or "", **named)
                    case _:
                        new_job_id = engine.gateway.new_id()
                        return ReplayJob(
                            new_job_id=new_job_id, dead_letter_id=dead_letter_id, **named
                        )

            answer = await engine.gateway.operate(self._tenant_id, build)
            return {"jobId": _job_of(answer)}

        await self._desk.ask(self._tenant_id, verb, {"jobId": job_id}, attempt, key=key)

    async def _answer_letter(self) -> None:
        """Take up one of the dead letters: retry, replay or discard it."""
        found: list[tuple[str, str]] = []

        async def attempt(engine: Engine) -> dict[str, Any]:
            letters = await engine.gateway.store.dead_letters(
                self._tenant_id, DeadLetterFilter(), None, _LETTERS_MAX
            )
            found[:] = [(letter.job_id, letter.dead_letter_id) for letter in letters]
            return {}

        await self._desk.ask(self._tenant_id, "letters", {}, attempt)
        if found:
            job_id, letter_id = self._dice.choice(found)
            await self._operate(
                self._dice.choice(("retry", "replay", "discard")), job_id, letter_id
            )

    async def _explain(self) -> None:
        known = self._jobs()
        job_ids = [self._dice.choice(known) for _ in range(min(_EXPLAINED_MAX, len(known)))]

        async def attempt(engine: Engine) -> dict[str, Any]:
            told = await engine.gateway.explain(self._tenant_id, job_ids)
            return {
                "jobs": [
                    {
                        "jobId": each.job_id,
                        "state": str(each.state),
                        "gates": [(gate.gate, gate.key) for gate in each.gates],
                    }
                    for each in told
                ]
            }

        await self._desk.ask(self._tenant_id, "explain", {"jobIds": job_ids}, attempt)

    async def _drain(self) -> None:
        worker_id = self._dice.choice(self._workers)

        async def attempt(engine: Engine) -> dict[str, Any]:
            deadline_at = engine.gateway.clock.moment().at + _DRAIN_S * SECOND
            await engine.gateway.administer(
                self._tenant_id,
                lambda ask_id: DrainWorker(
                    ask_id=ask_id,
                    tenant_id=self._tenant_id,
                    actor=OPERATOR,
                    worker_id=worker_id,
                    deadline_at=deadline_at,
                ),
            )
            return {}

        await self._desk.ask(self._tenant_id, "drain", {"workerId": worker_id}, attempt)


def _job_of(answer: OperateAnswer) -> str | None:
    """The job that was changed or made; of a repeat, the one of the first time."""
    if answer.job is not None:
        return answer.job.job_id
    return None if answer.stored is None else decode_operate_facts(answer.stored).job.job_id
