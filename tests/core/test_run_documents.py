"""Registered documents: versions only grow, never change, and are registered one at a time."""

from typing import Any

import msgspec

from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode
from jobengine.messages.lease_shard import IdempotencyClaim
from jobengine.messages.runs import DisableDocument, DocumentFacts, RegisterDocument
from jobengine.messages.shard_commands import Commit, LoadSubjects
from tests.core.run_shard import OPERATOR, RunShard
from tests.core.shard_driver import UNREAD, read_failed

CLAIM = IdempotencyClaim("k1", "/dags", "digest")


def register(shard: RunShard, body: bytes = b"{}", *, settle: bool = True, **fields: Any) -> Any:
    named: dict[str, Any] = {"kind": "dag", "name": "nightly", "digest": digest(body)}
    shard.send(
        RegisterDocument(
            ask_id=shard.ask_id(),
            tenant_id="acme",
            actor=OPERATOR,
            body=body,
            **named | fields,
        )
    )
    return shard.settled_answer() if settle else None


def disable(shard: RunShard, version: int = 1, **fields: Any) -> Any:
    shard.send(
        DisableDocument(
            ask_id=shard.ask_id(),
            tenant_id="acme",
            actor=OPERATOR,
            kind="dag",
            name="nightly",
            version=version,
            **fields,
        )
    )
    return shard.settled_answer()


def test_versions_are_numbered_as_they_come() -> None:
    shard = RunShard()
    assert [register(shard, body).row.version for body in (b"1", b"2")] == [1, 2]
    assert register(shard, b"3", name="weekly").row.version == 1
    assert register(shard, b"3", kind="pack").row.version == 1
    row = shard.tables.planned.registry["acme", "dag", "nightly", 2]
    assert (bytes(row.body), row.digest, row.created_by) == (b"2", digest(b"2"), "operator")
    assert row.created_at == shard.now.at


def test_a_registration_stands_in_the_ledger_with_who_made_it() -> None:
    shard = RunShard()
    register(shard, kind="pack")
    (entry,) = shard.entries
    assert (entry["kind"], entry["actor"], entry["ticket"]) == (
        "pack.registered",
        "operator",
        "T-1",
    )
    assert entry["data"] == {"digest": digest(b"{}"), "name": "nightly", "version": 1}


def test_a_version_above_the_newest_may_be_chosen() -> None:
    shard = RunShard()
    assert register(shard, b"1", version=7).row.version == 7
    assert register(shard, b"2").row.version == 8


def test_a_version_below_the_newest_is_refused() -> None:
    shard = RunShard()
    register(shard, b"1", version=7)
    refusal = register(shard, b"2", version=3)
    assert refusal.code is ErrorCode.INVALID_FIELD
    assert refusal.details == {"path": "version", "version": 3, "newest": 7}


def test_a_version_that_is_there_is_the_answer_if_its_document_is_equal() -> None:
    shard = RunShard()
    register(shard, b"1", version=7)
    before = len(shard.all(Commit))
    again = register(shard, b"1", version=7)
    assert (again.existing, again.row.version) == (True, 7)
    assert len(shard.all(Commit)) == before
    assert register(shard, b"2", version=7).code is ErrorCode.ALREADY_EXISTS


def test_registrations_of_one_name_at_once_get_versions_of_their_own() -> None:
    shard = RunShard()
    register(shard, b"1", settle=False)
    register(shard, b"2", settle=False)
    shard.settle()
    assert [answer.row.version for answer in shard.answers()] == [1, 2]


def test_a_version_is_disabled_once_and_enabled_again() -> None:
    shard = RunShard()
    register(shard)
    assert disable(shard).row.disabled_at == shard.now.at
    assert disable(shard).existing
    key = ("acme", "dag", "nightly", 1)
    assert shard.tables.planned.registry[key].disabled_at == shard.now.at
    assert bytes(shard.tables.planned.registry[key].body) == b"{}"
    assert disable(shard, enable=True).row.disabled_at is None
    assert shard.tables.planned.registry[key].disabled_at is None
    assert shard.kinds() == ["dag.registered", "dag.disabled", "dag.enabled"]


def test_a_version_that_is_not_there_cannot_be_disabled() -> None:
    assert disable(RunShard()).code is ErrorCode.NOT_FOUND


def test_a_repeat_under_an_idempotency_key_has_the_stored_answer() -> None:
    shard = RunShard()
    first = register(shard, claim=CLAIM)
    again = register(shard, claim=CLAIM)
    assert (again.replayed, again.stored) == (True, first.stored)
    facts = msgspec.json.decode(again.stored, type=DocumentFacts)
    assert (facts.version, facts.created_by, facts.existing) == (1, "operator", False)
    other = register(shard, claim=IdempotencyClaim("k1", "/dags", "other"))
    assert other.code is ErrorCode.IDEMPOTENCY_MISMATCH


def test_while_the_store_is_away_a_document_is_refused_and_its_name_is_free_again() -> None:
    shard = RunShard()
    register(shard, settle=False, claim=CLAIM)
    shard.send(read_failed(shard.last(LoadSubjects)))
    assert shard.answers()[-1] == UNREAD
    assert register(shard, claim=CLAIM).row.version == 1
