"""A producer of a simulated run: submits jobs, one or many, as a client of the SDK would.

What it asks for is drawn here; what becomes of it is written in each job's payload (`fate`). Job
numbers are unique over the run, so a job is known by its number wherever it turns up.

Not here: how a request travels (`desk`), what has to come of it (`auditor`).
"""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import msgspec
import trio

from jobengine.domain.instant import SECOND
from jobengine.engine import Engine
from jobengine.messages.answers import decode_submit_facts, submit_facts
from jobengine.messages.lease_shard import Actor, IdempotencyClaim
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.fate import Fate, Step
from jobengine.testing.sim.session_door import submit_over_session
from jobengine.testing.sim.world import World
from jobengine.wire.jobs import JobRequest
from jobengine.wire.translate import JobTranslator

__all__ = ["JOB_TYPES", "SOURCES", "Numbers", "Producer"]

JOB_TYPES: Final = ("scan", "fetch", "report")
SOURCES: Final = ("osv", "ghsa")
PATH: Final = "/jobs"
_PAUSES_S: Final = (0.0, 0.05, 0.5, 3.0, 12.0)
_SIZES: Final = (1, 1, 1, 5, 12, 40)
_OVER_SESSION: Final = 0.2
"""Which part of the submits takes a worker's session."""
_IN_SERIES: Final = 0.7
"""Which part of the bulks is alike, and of those, without anything but the ordinary."""
_PLAIN: Final = 0.8
_ORDINARY: Final = ("jobType", "payload", "priority", "maxRetries", "leaseSeconds", "backoff")
_STEPS: Final[tuple[tuple[Step, ...], ...]] = (
    ("complete",),
    ("complete",),
    ("complete",),
    ("fail", "complete"),
    ("fail", "fail", "complete"),
    ("fail",),
    ("fail_for_good",),
)
_DYING: Final = 0.6
"""Which part of the jobs fails for good where there are to be many dead letters."""
_REFUSED: Final[tuple[tuple[Step, ...], ...]] = (("refused", "complete"), ("refused",) * 5)
_EXPIRE_S: Final = (5.0, 10.0, 30.0)
_DUE_S: Final = (2.0, 10.0, 30.0)
_BACKLOG_MAX: Final = 80
_DEADLINES_MAX: Final = 40
_NARROW: Final = {"concurrencyKey": "narrow", "concurrencyLimit": 1}


class Numbers:
    """The numbers of a run's jobs, from 1."""

    def __init__(self) -> None:
        self._count = count(1)
        self.last = 0

    def next(self) -> int:
        self.last = next(self._count)
        return self.last


class Producer:
    """Submits `jobs` jobs for one tenant, then ends; one at a time with `lull_s` between, where
    that is not 0. `sourced`: some of them belong to sources."""

    def __init__(
        self,
        tenant_id: str,
        jobs: int,
        *,
        world: World,
        desk: Desk,
        dice: random.Random,
        numbers: Numbers,
        sourced: bool,
        habits: frozenset[str],
        lull_s: float,
    ) -> None:
        self._tenant_id = tenant_id
        self._left = jobs
        self._world = world
        self._desk = desk
        self._dice = dice
        self._numbers = numbers
        self._sourced = sourced
        self._habits = habits
        self._lull_s = lull_s
        self.job_ids: list[str] = []
        """Of jobs that are known to have been created."""

    async def run(self) -> None:
        if "backlog" in self._habits:
            await self._submit(self._backlog(self._take(_BACKLOG_MAX)))
        if "deadlines" in self._habits and self._left > 0:
            await self._submit(self._deadlines(self._take(_DEADLINES_MAX)))
        while self._left > 0:
            size = self._take(1 if self._lull_s else self._dice.choice(_SIZES))
            is_series = size > 1 and self._dice.random() < _IN_SERIES
            await self._submit(
                self._series(size) if is_series else [self._job() for _ in range(size)]
            )
            await trio.sleep(self._lull_s or self._dice.choice(_PAUSES_S))

    def _take(self, most: int) -> int:
        """How many jobs to submit, of those that are left."""
        size = min(self._left, most)
        self._left -= size
        return size

    async def _submit(self, requests: list[dict[str, Any]]) -> None:
        body = msgspec.json.encode(requests)
        key = f"k{self._dice.getrandbits(48):x}" if self._dice.random() < 0.9 else None
        claim = key and IdempotencyClaim(key, PATH, hashlib.sha256(body).hexdigest())
        actor = Actor("producer")

        async def attempt(engine: Engine) -> dict[str, Any]:
            translator = JobTranslator()
            ids = engine.gateway.new_job_ids(len(requests))
            jobs = [
                translator.new_job(request, job_id)
                for request, job_id in zip(_requests.decode(body), ids, strict=True)
            ]
            answer = await engine.gateway.submit(self._tenant_id, actor, jobs, claim or None)
            facts = (
                submit_facts(answer.outcomes, answer.jobs)
                if answer.stored is None
                else decode_submit_facts(answer.stored)
            )
            return {
                "replayed": answer.replayed,
                "outcomes": [
                    {
                        "outcome": each.outcome,
                        "jobId": each.job_id,
                        "refusal": each.refusal and str(each.refusal.code),
                    }
                    for each in facts.outcomes
                ],
            }

        async def over_session() -> dict[str, Any]:
            return await submit_over_session(self._world, self._tenant_id, requests, key)

        carry = over_session if self._dice.random() < _OVER_SESSION else None
        answered = await self._desk.ask(
            self._tenant_id, "submit", {"jobs": requests}, attempt, key=key, carry=carry
        )
        if answered is not None and answered.refusal is None:
            self.job_ids += [
                each["jobId"] for each in answered.answer["outcomes"] if each["refusal"] is None
            ]

    def _backlog(self, size: int) -> list[dict[str, Any]]:
        """Small jobs of one type; the last of them become due together."""
        dice = self._dice
        job_type, at_once = dice.choice(JOB_TYPES), dice.choice((0, size // 4, size // 2))
        due = [self._instant(due_s) for due_s in _DUE_S]
        jobs: list[dict[str, Any]] = []
        for place in range(size):
            fate = Fate(number=self._numbers.next(), steps=("complete",), work_ms=20)
            job: dict[str, Any] = {"jobType": job_type, "payload": msgspec.to_builtins(fate)}
            if place >= at_once and self._world.names_instants:
                job["notBefore"] = due[place * len(due) // size]
            jobs.append(job)
        return jobs

    def _deadlines(self, size: int) -> list[dict[str, Any]]:
        """Jobs of which one runs at a time, and which expire one after the other."""
        instants = [self._instant(10 + 30 * place / size) for place in range(size)]
        jobs: list[dict[str, Any]] = []
        for expires_at in instants:
            fate = Fate(number=self._numbers.next(), steps=("complete",), work_ms=5_000)
            payload = msgspec.to_builtins(fate)
            job = {"jobType": JOB_TYPES[0], "payload": payload, "expiresAt": expires_at}
            jobs.append(job | _NARROW)
        return jobs

    def _series(self, size: int) -> list[dict[str, Any]]:
        """Jobs that differ in their payloads alone; in most of them nothing else is special."""
        first = self._job()
        if self._dice.random() < _PLAIN:
            first = {name: first[name] for name in _ORDINARY}
        return [first, *({**first, "payload": self._job()["payload"]} for _ in range(size - 1))]

    def _job(self) -> dict[str, Any]:
        """A job as a user writes it."""
        dice = self._dice
        fate = Fate(
            number=self._numbers.next(),
            steps=self._steps(),
            work_ms=dice.choice((0, 0, 20, 400, 400, 5_000, 15_000)),
            logs=dice.choice((0, 0, 0, 2)),
            progress=dice.random() < 0.2,
            follow_ups=dice.choice((0, 0, 0, 0, 0, 1, 2)),
            secret=f"s3cr3t{dice.getrandbits(40):x}" if dice.random() < 0.2 else "",
        )
        job: dict[str, Any] = {
            "jobType": dice.choice(JOB_TYPES),
            "payload": msgspec.to_builtins(fate),
            "priority": dice.randrange(10),
            "maxRetries": dice.choice((0, 1, 3, 6)),
            "leaseSeconds": dice.choice((2, 10, 30)),
            "backoff": {
                "kind": dice.choice(("fixed", "linear", "exponential")),
                "baseSeconds": dice.choice((1, 2)),
                "maxSeconds": 60,
                "jitter": dice.choice(("none", "full")),
            },
            "cost": dice.choice((1, 1, 1, 0, 2)),
        }
        if dice.random() < 0.15 and self._world.names_instants:
            job["notBefore"] = self._instant(dice.choice((1.0, 10.0, 90.0)))
        if dice.random() < 0.05:
            job["expiresAt"] = self._instant(dice.choice((100.0, 300.0)))
        elif "deadlines" in self._habits and "notBefore" not in job and dice.random() < 0.5:
            job["expiresAt"] = self._instant(dice.choice(_EXPIRE_S))
            job |= _NARROW
        if dice.random() < 0.15:
            job["uniqueKey"] = f"u{dice.randrange(6)}"
            if dice.random() < 0.3:
                job |= {"uniqueKey": f"w{dice.randrange(3)}", "uniqueScope": "window"}
                job["windowSeconds"] = dice.choice((5, 60))
        if "concurrencyKey" not in job and dice.random() < 0.2:
            job |= {"concurrencyKey": f"c{dice.randrange(3)}", "concurrencyLimit": 2}
        if self._sourced and dice.random() < (0.8 if "push_back" in self._habits else 0.3):
            job["sourceId"] = dice.choice(SOURCES)
        if dice.random() < 0.05:
            job["hold"] = True
        if dice.random() < 0.05:
            job["timeoutSeconds"] = dice.choice((2, 20))
        return job

    def _steps(self) -> tuple[Step, ...]:
        dice = self._dice
        if "redrives" in self._habits and dice.random() < _DYING:
            return ("fail_for_good",)
        if "push_back" in self._habits and dice.random() < 0.5:
            return dice.choice(_REFUSED)
        return dice.choice(_STEPS)

    def _instant(self, from_now_s: float) -> str:
        at = self._world.clock.moment().at + round(from_now_s * SECOND)
        instant = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at)
        return instant.isoformat().replace("+00:00", "Z")


_requests: Final = msgspec.json.Decoder(list[JobRequest])
