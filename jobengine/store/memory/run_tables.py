"""Runs, their parts and registered documents of the memory store, and how a commit changes them.

Not here: what a commit is refused for (`constraints`).
"""

from collections import defaultdict
from typing import Final

import attrs
import msgspec

from jobengine.domain.change import ChangeSet, RegistryRow, RunRow
from jobengine.domain.entry import NO_DATA
from jobengine.domain.run import RollUp, RunState
from jobengine.domain.run_record import PackOrigin, RunRecord

__all__ = ["RunTables", "StoredRun"]

_EMPTY: Final = (b"", b"null")
_roll_up: Final = msgspec.json.Decoder(RollUp).decode
_pack: Final = msgspec.json.Decoder(PackOrigin).decode


@attrs.frozen
class StoredRun:
    shard: int
    record: RunRecord


@attrs.define(eq=False)
class RunTables:
    runs: dict[tuple[str, str], StoredRun] = attrs.field(factory=dict)
    """By tenant and run id."""
    tokens: dict[tuple[str, str], str] = attrs.field(factory=dict)
    """Run ids by tenant and run token."""
    parts: defaultdict[tuple[str, str], list[bytes]] = attrs.field(
        factory=lambda: defaultdict(list)
    )
    registry: dict[tuple[str, str, str, int], RegistryRow] = attrs.field(factory=dict)
    """By tenant, kind, name and version."""

    def apply(self, change: ChangeSet) -> None:
        for row in change.runs:
            key = (row.tenant_id, row.run_id)
            if row.from_state is None:
                self.runs[key] = StoredRun(row.shard, _new_run(row))
                self.tokens[row.tenant_id, row.run_token or ""] = row.run_id
            else:
                before = self.runs[key]
                self.runs[key] = StoredRun(before.shard, _changed(before.record, row))
        for part in change.run_parts:
            self.parts[part.tenant_id, part.run_id].append(bytes(part.body))
        for document in change.registry:
            self._apply_document(document)

    def _apply_document(self, row: RegistryRow) -> None:
        place = (row.tenant_id, row.kind, row.name, row.version)
        disabled_at = row.disabled_at or None
        if row.digest is not None:
            self.registry[place] = msgspec.structs.replace(row, disabled_at=disabled_at)
        elif row.disabled_at is not None and place in self.registry:
            before = self.registry[place]
            self.registry[place] = msgspec.structs.replace(before, disabled_at=disabled_at)


def _new_run(row: RunRow) -> RunRecord:
    assert row.run_token is not None
    assert row.created_at is not None
    assert row.created_by is not None
    return RunRecord(
        tenant_id=row.tenant_id,
        run_id=row.run_id,
        run_token=row.run_token,
        state=RunState(row.state),
        nodes=row.nodes,
        created_at=row.created_at,
        created_by=row.created_by,
        started_at=row.started_at,
        finished_at=row.finished_at,
        cancel_requested_at=row.cancel_requested_at,
        rolled=_rolled(row),
        project_id=row.project_id or "",
        dag_id=row.dag_id,
        dag_version=row.dag_version,
        fail_fast=row.fail_fast,
        inputs=_given(row.inputs) or b"{}",
        inputs_hash=row.inputs_hash or "",
        traceparent=row.traceparent,
        correlation_id=row.correlation_id or "",
        replay_of=row.replay_of,
        parent_run=row.parent_run,
        parent_key=row.parent_key,
        pack=_pack(row.pack) if _given(row.pack) else None,
    )


def _changed(before: RunRecord, row: RunRow) -> RunRecord:
    given = {
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "cancel_requested_at": row.cancel_requested_at,
        "rolled": _rolled(row),
    }
    return msgspec.structs.replace(
        before,
        state=RunState(row.state),
        nodes=before.nodes + row.nodes,
        **{name: value for name, value in given.items() if value is not None},
    )


def _rolled(row: RunRow) -> RollUp | None:
    return _roll_up(row.rolled) if _given(row.rolled) else None


def _given(document: msgspec.Raw) -> bytes | None:
    """A document, but for JSON's null."""
    octets = b"" if document is NO_DATA else bytes(document)
    return None if octets in _EMPTY else octets
