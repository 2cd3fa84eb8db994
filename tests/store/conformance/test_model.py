"""Random histories into the memory store and PostgreSQL: every answer is the same."""

import itertools
import random
from collections.abc import Iterable
from typing import Any

import hypothesis
import msgspec
import trio
from hypothesis import strategies as st

from jobengine.domain.change import (
    ArtifactRow,
    ChangeSet,
    CommitBatch,
    DeadLetterRow,
    IdempotencyRow,
    JobRow,
    LogRow,
    RegistryRow,
    RunPartRow,
    RunRow,
    UniqueRow,
)
from jobengine.domain.entry import Head
from jobengine.domain.job import Job, State, allowed_targets
from jobengine.domain.run import ENDED, RunState
from jobengine.store.errors import HeadMovedError, StaleRowError, StatementRefusedError
from jobengine.store.memory import MemoryStore
from jobengine.store.port import DeadLetterFilter, JobFilter, Lane, Store
from jobengine.store.postgres.opening import open_postgres_store
from jobengine.store.runs import RunFilter
from tests.store.conformance.scribe import (
    NOW,
    Scribe,
    change_row,
    definition,
    job_id,
    new_row,
)

NUMBERS = range(12)
"""Even ones are the first tenant's jobs, odd ones the second's."""

QUEUES = ("q1", "q2")
LETTER_STATES = ("open", "replayed", "discarded")

small = st.integers(0, 11)
step = st.tuples(
    st.sampled_from(
        ["job"] * 20
        + ["letter", "key", "artifact", "log", "answer", "run", "run", "part", "document"] * 2
        + ["stale", "head"]
    ),
    small,
    small,
    small,
)
histories = st.lists(st.lists(step, min_size=1, max_size=5), min_size=1, max_size=12)
examples = itertools.count()


def job_value(job: Job) -> tuple[Any, ...]:
    return msgspec.structs.astuple(job)


class Author:
    """Turns steps into batches that are legal for what the model holds, or wrong on purpose."""

    def __init__(self, model: MemoryStore, tenant_ids: tuple[str, str], shard: int) -> None:
        self.scribe = Scribe(model)
        self.model = model
        self.tenant_ids = tenant_ids
        self.shard = shard

    async def batch(self, steps: Iterable[tuple[str, int, int, int]]) -> CommitBatch:
        changes = {each: ChangeSet(tenant_id=each, entries=[]) for each in self.tenant_ids}
        for change in changes.values():
            change.rows, change.dead_letters, change.artifacts = [], [], []
            change.logs, change.unique, change.idempotency = [], [], []
            change.runs, change.run_parts, change.registry = [], [], []
            change.webhooks = []
        wrong_heads = []
        for kind, a, b, c in steps:
            change = changes[self.tenant_ids[a % 2]]
            if kind == "head":
                wrong_heads.append(change.tenant_id)
            else:
                await self._add(change, kind, a, b, c)
        heads = dict(self.scribe.heads)
        for tenant_id in wrong_heads:
            self.scribe.heads[tenant_id] = Head(7, b"\7" * 32)
        batch = self.scribe.batch(*(changes[each] for each in self.tenant_ids))
        self.scribe.heads = heads
        return batch

    async def _add(self, change: ChangeSet, kind: str, number: int, b: int, c: int) -> None:
        tenant_id = change.tenant_id
        of_job: dict[str, Any] = {"tenant_id": tenant_id, "job_id": job_id(number)}
        match kind:
            case "job" | "stale":
                if all(row.job_id != job_id(number) for row in change.rows):
                    change.rows.append(await self._row(tenant_id, number, b, c, kind == "stale"))
            case "letter":
                name = f"d{number}"
                letter = await self.model.dead_letter(tenant_id, name)
                if all(row.dead_letter_id != name for row in change.dead_letters):
                    change.dead_letters.append(self._letter(of_job, name, letter, b, c))
            case "key":
                until_at = None if c % 2 else NOW + c
                change.unique.append(
                    UniqueRow(key=f"k{b % 3}", until_at=until_at, dropped=c > 6, **of_job)
                )
            case "artifact":
                change.artifacts.append(
                    ArtifactRow(attempt=b % 2, name=f"n{c % 3}", size_bytes=b, at=NOW + c, **of_job)
                )
            case "log":
                lines = msgspec.Raw(b"[%d]" % b)
                change.logs.append(LogRow(attempt=c, at=NOW + b, lines=lines, **of_job))
            case "run":
                if all(row.run_id != job_id(number) for row in change.runs):
                    change.runs.append(await self._run(tenant_id, number, b, c))
            case "part":
                if all(row.run_id != job_id(number) for row in change.run_parts):
                    body = msgspec.Raw(b'{"kept":{"a":"%d"}}' % b)
                    change.run_parts.append(
                        RunPartRow(tenant_id=tenant_id, run_id=job_id(number), body=body)
                    )
            case "document":
                change.registry.append(await self._document(tenant_id, number, b, c))
            case "answer":
                at = NOW + len(self.scribe.written.get(tenant_id, ())) * 100 + b
                key = (f"k{c % 2}", f"/{c % 3}", at)
                if all((row.key, row.path, row.at) != key for row in change.idempotency):
                    change.idempotency.append(
                        IdempotencyRow(
                            tenant_id=tenant_id,
                            key=key[0],
                            path=key[1],
                            body_digest="d",
                            answer=msgspec.Raw(b'{"b":%d}' % b),
                            at=at,
                        )
                    )

    async def _row(self, tenant_id: str, number: int, b: int, c: int, stale: bool) -> JobRow:
        fields: dict[str, Any] = {
            "due_at": NOW + b % 3,
            "delayed": b % 3 > 0,
            "failures": c,
            "reason": "error" if c > 5 else None,
            "progress": msgspec.Raw(b"%d" % c if c % 3 else b"null"),
        }
        if c % 4 == 0:
            fields["expires_at"] = NOW + b
        jobs = await self.model.jobs(tenant_id, [job_id(number)])
        if not jobs:
            run_id = job_id(number % 2) if c % 3 else None
            about = definition(
                queue=QUEUES[c % 2], labels={"l": str(b % 2)}, run_id=run_id, node_key=f"k{c}"
            )
            state = ("pending", "scheduled", "running")[b % 3]
            row = new_row(number, state, tenant_id=tenant_id, shard=self.shard, about=about)
        else:
            (job,) = jobs
            targets = [*allowed_targets(job.state), job.state]
            state = str(targets[c % len(targets)])
            row = change_row(job, state, shard=self.shard)
            if c == 5:
                row.payload = msgspec.Raw(b"null" if b % 2 else b'{"b": %d}' % b)
            row.attempt = job.attempt + (state == "running" and job.state != "running")
            if row.attempt < 1 and state == "running":
                row.attempt = 1
            if stale:
                row.from_state = str(list(State)[b % 6])
                row.rank, row.worker_id, row.task_runner_id = 1, "w", "r"
                row.queue, row.job_type = job.definition.queue, job.definition.job_type
                row.started_at, row.attempt = NOW, 1
        if state == "scheduled":
            fields["rank"] = c % 4
        elif state == "running" and row.from_state != "running":
            fields |= {"worker_id": f"w{b % 3}", "started_at": NOW + c % 2}
        return msgspec.structs.replace(row, **fields)

    async def _run(self, tenant_id: str, number: int, b: int, c: int) -> RunRow:
        run = await self.model.run(tenant_id, job_id(number))
        state = list(RunState)[c % 5]
        row = RunRow(
            tenant_id=tenant_id,
            shard=self.shard,
            run_id=job_id(number),
            state=str(state),
            nodes=b,
            started_at=NOW + b if b % 3 or state is RunState.RUNNING else None,
            finished_at=NOW + c if state in ENDED else None,
            cancel_requested_at=NOW if b == c else None,
        )
        if run is not None and b:
            row.from_state = str(run.state if b % 5 else RunState.RUNNING)
            return row
        row.run_token, row.created_at, row.created_by = f"t{b}", NOW + c % 2, "ops"
        row.dag_id = f"d{b % 2}"
        return row

    async def _document(self, tenant_id: str, number: int, b: int, c: int) -> RegistryRow:
        row = RegistryRow(tenant_id=tenant_id, kind="dag", name=f"n{number}", version=1 + b % 3)
        known = await self.model.registered(tenant_id, "dag", row.name, row.version)
        if known is None or b == c:
            row.digest, row.body = f"{c:064x}", msgspec.Raw(b"[%d]" % c)
            row.created_at, row.created_by = NOW + b, "ops"
        else:
            row.disabled_at = (None, 0, NOW + c)[c % 3]
        return row

    def _letter(
        self, of_job: dict[str, Any], name: str, letter: DeadLetterRow | None, b: int, c: int
    ) -> DeadLetterRow:
        row = DeadLetterRow(
            dead_letter_id=name,
            state=LETTER_STATES[b % 3],
            job_type="scan",
            queue=QUEUES[c % 2],
            attempts=b,
            at=NOW + c,
            **of_job,
        )
        if letter is not None and c:
            row.from_state = LETTER_STATES[c % 3] if c > 8 else letter.state
            row.replayed_as = job_id(b) if b % 2 else None
        return row


async def outcome(store: Store, batch: CommitBatch) -> object:
    try:
        await store.commit(batch)
    except HeadMovedError as error:
        return "head moved", error.tenant_ids
    except StaleRowError as error:
        return "stale", error.tenant_id, error.ids
    except StatementRefusedError as error:
        return "refused", error.sqlstate  # not by which key: several may be taken
    return "committed"


async def answers(store: Store, tenant_ids: tuple[str, str], shard: int) -> dict[str, Any]:
    """What every read of the port says."""
    said: dict[str, Any] = {"heads": await store.heads(tenant_ids)}
    said["leased"] = [
        (each.worker_id, each.task_runner_id, each.granted_at, job_value(each.job))
        for each in await store.leased(shard)
    ]
    for now_at in (NOW, NOW + 2):
        said[f"lanes {now_at}"] = await store.lanes(shard, now_at)
        for tenant_id, queue in itertools.product(tenant_ids, QUEUES):
            lane = Lane(tenant_id, queue, "scan")
            page = await store.ready(lane, None, now_at, 2, 100)
            after = (page[-1].rank, page[-1].job.job_id) if page else None
            rest = await store.ready(lane, after, now_at, 100, 20)
            said[f"ready {lane} {now_at}"] = [
                (each.rank, job_value(each.job)) for each in (*page, *rest)
            ]
    said["delayed"] = [
        (each.rank, job_value(each.job)) for each in await store.delayed(shard, None, 100)
    ]
    said["live runs"] = await store.runs_live(shard, None, 100)
    said["expiring"] = await store.expiring(shard, (NOW, job_id(2)), 100)
    for tenant_id in tenant_ids:
        said[tenant_id] = await of_tenant(store, tenant_id)
    return said


async def of_tenant(store: Store, tenant_id: str) -> dict[str, Any]:
    ids = [job_id(number) for number in NUMBERS]
    jobs = {job.job_id: job_value(job) for job in await store.jobs(tenant_id, ids)}
    claims = await store.claims(
        tenant_id,
        ["k0", "k1", "k2"],
        list(itertools.product(("k0", "k1"), ("/0", "/1", "/2"))),
        NOW + 3,
    )
    listed = []
    for wanted in (
        JobFilter(),
        JobFilter(states=frozenset({State.SCHEDULED, State.RUNNING})),
        JobFilter(states=frozenset({State.FAILED}), label=("l", "1")),
        JobFilter(queue="q1"),
    ):
        page = await store.job_list(tenant_id, wanted, job_id(8), 100)
        listed.append([job_value(job) for job in page.jobs])
    return {
        "runs": await of_planning(store, tenant_id, ids),
        "jobs": jobs,
        "counts": await store.job_counts(tenant_id),
        "listed": listed,
        "holders": {key: job_value(job) for key, job in claims.holders.items()},
        "answers": claims.answers,
        "blocks": await store.blocks(tenant_id, 2, 3, 2_000),
        "entries": await store.entries(tenant_id, [1, 3, 4, 9]),
        "letters": [
            await store.dead_letters(tenant_id, DeadLetterFilter(states=states), None, 100)
            for states in (frozenset[str](), frozenset({"open"}))
        ],
        "artifacts": [await store.artifacts(tenant_id, each) for each in ids],
        "logs": [[row for _, row in await store.logs(tenant_id, each, 0, 9)] for each in ids],
    }


async def of_planning(store: Store, tenant_id: str, ids: list[str]) -> dict[str, Any]:
    listed = await store.registry_list(tenant_id, "dag", None, None, 100)
    return {
        "by id": [await store.run(tenant_id, each) for each in ids],
        "by token": [await store.run_by_token(tenant_id, f"t{number}") for number in NUMBERS],
        "listed": [
            await store.run_list(tenant_id, wanted, (NOW + 1, job_id(4)), 100)
            for wanted in (
                RunFilter(),
                RunFilter(states=frozenset({RunState.PENDING, RunState.FAILED}), dag_id="d1"),
            )
        ],
        "exported": await store.run_export(tenant_id, NOW + 2, NOW + 9, None, 100),
        "parts": [await store.run_parts(tenant_id, each) for each in ids],
        "nodes": [await store.run_nodes(tenant_id, job_id(n), None, 3) for n in (0, 1)],
        "named": await store.node_records(tenant_id, ids),
        "durations": await store.typical_durations(tenant_id, 4),
        "documents": [(row.name, row.version, row.digest, row.disabled_at) for row in listed],
        "newest": [document_of(await store.registered(tenant_id, "dag", "n2", None))],
        "of a digest": [
            document_of(await store.registered_digest(tenant_id, "dag", f"{number:064x}"))
            for number in NUMBERS
        ],
    }


def document_of(row: RegistryRow | None) -> object:
    return row and (row.name, row.version, bytes(row.body), row.created_at, row.created_by)


async def check(conninfo: str, history: list[list[tuple[str, int, int, int]]]) -> None:
    shard = next(examples)
    tenant_ids = (f"a{shard}", f"b{shard}")
    model = MemoryStore()
    author = Author(model, tenant_ids, shard)
    async with open_postgres_store(conninfo, dice=random.Random(1), pool_size_max=1) as store:
        for steps in history:
            batch = await author.batch(steps)
            expected = await outcome(model, batch)
            hypothesis.event(str(expected if expected == "committed" else expected[0]))  # type: ignore[index]
            assert await outcome(store, batch) == expected
            if expected == "committed":
                author.scribe.note(batch)
        assert await answers(store, tenant_ids, shard) == await answers(model, tenant_ids, shard)


@hypothesis.settings(
    max_examples=30,
    deadline=None,
    phases=[each for each in hypothesis.Phase if each is not hypothesis.Phase.explain],
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(history=histories)
def test_random_histories_are_answered_as_the_model_answers_them(
    migrated_database: str, history: list[list[tuple[str, int, int, int]]]
) -> None:
    trio.run(check, migrated_database, history)
