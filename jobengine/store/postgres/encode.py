"""A commit batch as the parameters of the leanest statement that can store it.

Job rows travel as columns (``columns.py``). Rows of the other kinds travel as they are, one JSON
array a kind, written by msgspec from the structs. The compressed bodies of blocks, and behind them
the documents of jobs, are octets.

I1  Nothing of the batch is changed: after a failure the same batch can be encoded again.
I2  Blocks stand in the order of their tenants' ids, so that heads are locked in one order.
I3  A key, an artifact, a webhook, and a version of a document, is named once: what a batch does to
    it in turn is folded into one row, for a statement sees the tables as they were before it.

Not here: what the server does with them (``sql/commit.sql``).
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
import zstandard

from jobengine.domain.change import (
    ArtifactRow,
    CommitBatch,
    ControlRow,
    GateStateRow,
    RegistryRow,
    UniqueRow,
    WebhookRow,
)
from jobengine.domain.entry import Block
from jobengine.store.errors import StatementRefusedError
from jobengine.store.postgres.columns import JobColumns

__all__ = ["COMMITS", "commit_parameters"]

COMMITS: Final = (
    "commit_created", "commit_changed", "commit_moved", "commit_jobs", "commit_all"
)  # fmt: skip
"""The statements that commit, the leanest first."""

_compress: Final = zstandard.ZstdCompressor(level=1).compress
R = TypeVar("R", ControlRow, GateStateRow)
_encode = msgspec.json.Encoder().encode


class _BlockRow(msgspec.Struct):
    """A block without its octets: ``o`` is where they start, ``n`` and ``z`` count the body's."""

    t: str
    f: int
    l: int  # noqa: E741
    at: int
    o: int
    n: int
    z: int


class _KeyRow(msgspec.Struct):
    """What becomes of one key; ``h`` are the holders that this batch may replace."""

    t: str
    k: str
    i: str
    u: int | None
    dp: bool
    h: list[str]
    at: int | None


def commit_parameters(batch: CommitBatch) -> tuple[str, dict[str, Any]]:
    """The statement's name and its parameters.

    Raises:
        StatementRefusedError: two jobs of the batch would hold one unique key.
    """
    changes = batch.changes
    blocks, octets = _blocks(batch.blocks)
    jobs = JobColumns(changes, sum(map(len, octets)))
    name = _statement_for(batch, jobs)
    parameters: dict[str, Any] = {
        "batch_id": batch.batch_id,
        "blocks": _encode(blocks),
        "octets": b"".join(octets + jobs.documents),
        "ids": jobs.ids,
        "numbers": jobs.numbers,
        "leases": _encode(jobs.leases),
    }
    if name != "commit_changed":
        parameters["created"] = _encode(jobs.created)
    if name != "commit_created":
        parameters["changed"] = _encode(jobs.changed)
    if name in ("commit_jobs", "commit_all"):
        parameters["gate_states"] = _encode(_last(change.gate_states for change in changes))
    if name == "commit_all":
        parameters |= _rare_parameters(batch)
    return name, parameters


def _statement_for(batch: CommitBatch, jobs: JobColumns) -> str:
    if any(
        change.dead_letters or change.artifacts or change.logs or change.unique
        or change.idempotency or change.api_keys or change.revocations or change.redrives
        or change.controls or change.runs or change.run_parts or change.registry
        or change.webhooks
        for change in batch.changes
    ):  # fmt: skip
        return "commit_all"
    if (
        jobs.wait
        or any(change.gate_states for change in batch.changes)
        or any(block.first_seq == 1 for block in batch.blocks)
    ):
        return "commit_jobs"
    if not jobs.created:
        return "commit_changed"
    return "commit_moved" if jobs.changed else "commit_created"


def _rare_parameters(batch: CommitBatch) -> dict[str, Any]:
    """Of what few commits hold."""
    changes = batch.changes
    ats = {block.tenant_id: block.at for block in batch.blocks}
    keys = [row for change in changes for row in change.unique]
    artifacts = [row for change in changes for row in change.artifacts]
    made, changed = _fold_webhooks(change.webhooks for change in changes)
    return {
        "dead_letters": _encode([row for change in changes for row in change.dead_letters]),
        "artifacts": _encode(_fold_artifacts(artifacts)),
        "logs": _encode([row for change in changes for row in change.logs]),
        "unique_keys": _encode(_fold_keys(keys, ats)),
        "answers": _encode([row for change in changes for row in change.idempotency]),
        "api_keys": _encode([row for change in changes for row in change.api_keys]),
        "revocations": _encode([row for change in changes for row in change.revocations]),
        "controls": _encode(_last(change.controls for change in changes)),
        "redrives": _encode([row for change in changes for row in change.redrives]),
        "runs": _encode([row for change in changes for row in change.runs]),
        "run_parts": _encode([row for change in changes for row in change.run_parts]),
        "registry": _encode(_fold_documents(change.registry for change in changes)),
        "webhooks_made": _encode(made),
        "webhooks_changed": _encode(changed),
    }


def _blocks(blocks: Sequence[Block]) -> tuple[list[_BlockRow], list[bytes]]:
    rows: list[_BlockRow] = []
    octets: list[bytes] = []
    start = 0
    for block in sorted(blocks, key=attrgetter("tenant_id")):
        stored = _compress(block.body)
        octets += (block.previous, block.link, stored)
        rows.append(
            _BlockRow(
                t=block.tenant_id,
                f=block.first_seq,
                l=block.last_seq,
                at=block.at,
                o=start,
                n=len(stored),
                z=len(block.body),
            )
        )
        start += len(block.previous) + len(block.link) + len(stored)
    return rows, octets


def _last(rows: Iterable[Iterable[R]]) -> list[R]:
    """The last row of each name, for a batch tells of one at most once."""
    return list(
        {
            (row.tenant_id, getattr(row, "kind", ""), row.name): row
            for row in chain.from_iterable(rows)
        }.values()
    )


def _fold_artifacts(rows: Iterable[ArtifactRow]) -> list[ArtifactRow]:
    """The last row of each artifact."""
    return list({(row.tenant_id, row.job_id, row.attempt, row.name): row for row in rows}.values())


def _fold_documents(rows: Iterable[Iterable[RegistryRow]]) -> list[RegistryRow]:
    """A version that is registered and disabled at once is registered as disabled."""
    folded: list[RegistryRow] = []
    places: dict[tuple[str, str, str, int], int] = {}
    for row in chain.from_iterable(rows):
        place = places.setdefault((row.tenant_id, row.kind, row.name, row.version), len(folded))
        if place == len(folded) or row.digest is not None:
            folded.append(row)
        elif row.disabled_at is not None:
            folded[place] = msgspec.structs.replace(folded[place], disabled_at=row.disabled_at)
    return folded


def _fold_webhooks(
    rows: Iterable[Iterable[WebhookRow]],
) -> tuple[list[WebhookRow], list[WebhookRow]]:
    """The last version of each webhook: of those that the batch makes, and of the others. What is
    dropped is dropped for good, since ids are used once."""
    folded: dict[tuple[str, str], WebhookRow] = {}
    made: set[tuple[str, str]] = set()
    for row in chain.from_iterable(rows):
        key = (row.tenant_id, row.webhook_id)
        if row.revision == 1 and not row.dropped:
            made.add(key)
        before = folded.get(key)
        newer = before is None or (not before.dropped and row.revision > before.revision)
        if newer or row.dropped:
            folded[key] = row
    return (
        [row for key, row in folded.items() if key in made and not row.dropped],
        [row for key, row in folded.items() if key not in made or row.dropped],
    )


def _fold_keys(rows: Iterable[UniqueRow], ats: dict[str, int]) -> list[_KeyRow]:
    folded: dict[tuple[str, str], _KeyRow] = {}
    for row in rows:
        at = ats.get(row.tenant_id)
        before = folded.get((row.tenant_id, row.key))
        holders = before.h if before is not None else []
        if before is not None and not (before.dp or before.i == row.job_id):
            if row.dropped:
                before.h.append(row.job_id)
                continue
            if before.u is None or at is None or before.u > at:
                raise StatementRefusedError(
                    "two jobs of one commit take the same key",
                    sqlstate="23505",
                    constraint_name="unique_keys_pkey",
                )
        folded[row.tenant_id, row.key] = _KeyRow(
            t=row.tenant_id,
            k=row.key,
            i=row.job_id,
            u=row.until_at,
            dp=row.dropped,
            h=[*holders, row.job_id],
            at=at,
        )
    return list(folded.values())
