"""Events: the envelope of every entry, and that its bytes are canonical and always the same."""

from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.canonical import canonical_of
from jobengine.domain.entry import GENESIS, NO_DATA, About, Block, Entry, about, encode_entries
from jobengine.domain.event import BlockEvents, Event, events_of
from jobengine.domain.job import Definition

TEXT = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=8
) | st.sampled_from(['"\\/', "\x01\x1f\x7f\t\n", "é€😀\ufb33", "1.5", "9" * 20])
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, DATA, max_size=3)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(canonical_of(value))


def block(*entries: Entry, tenant_id: str = "acme", first_seq: int = 1) -> Block:
    for seq, entry in enumerate(entries, start=first_seq):
        entry.seq = seq
    return Block(
        tenant_id=tenant_id,
        first_seq=first_seq,
        last_seq=first_seq + len(entries) - 1,
        at=0,
        previous=GENESIS,
        link=GENESIS,
        body=encode_entries(entries),
    )


def told(**fields: Any) -> Any:
    """The envelope of one entry."""
    given_fields: dict[str, Any] = {"actor": "a", "at": 0, "kind": "x.y"} | fields
    [event] = events_of(block(Entry(**given_fields)))
    return msgspec.json.decode(event.body)


SUBJECT = About(
    correlation_id="c-1",
    job_type="scan",
    payload_digest="d" * 64,
    project_id="p",
    queue="q",
    run_id="r",
    source_id="osv",
    traceparent="00-1-2-01",
)


def test_a_transition_has_the_whole_envelope() -> None:
    envelope = told(
        about=SUBJECT,
        actor="worker:w1",
        at=1_767_225_600_123_456,
        attempt=2,
        error=raw({"class": "transient"}),
        from_="running",
        job="j1",
        kind="job.failed",
        reason="timeout",
        span_us=1_500_000,
        to="failed",
        worker="w1",
    )
    assert envelope == {
        "schemaVersion": "orch.event.v1",
        "eventId": "urn:orch:event:acme:1",
        "seq": 1,
        "eventType": "job.failed",
        "occurredAt": "2026-01-01T00:00:00.123Z",
        "idempotencyKey": "orch-job.failed-j1-2",
        "correlationId": "c-1",
        "traceparent": "00-1-2-01",
        "tenantId": "acme",
        "projectId": "p",
        "actor": {"subject": "worker:w1", "scopes": []},
        "job": {
            "id": "j1",
            "type": "scan",
            "queue": "q",
            "runId": "r",
            "attempt": 2,
            "leaseId": "j1.2",
            "taskRunnerId": "w1",
            "workerId": "w1",
            "status": "failed",
            "from": "running",
            "reason": "timeout",
            "error": {"class": "transient"},
            "payloadDigest": "d" * 64,
            "artifacts": [],
        },
        "metrics": {"durationSeconds": 1.5},
        "notifier": {
            "channel": "ledger",
            "delivery": "at_least_once",
            "replay": {"ordinal": 1, "total": 1},
        },
    }


def test_a_new_job_comes_from_nothing_and_says_so() -> None:
    definition = Definition(job_type="scan", payload_digest="d", queue="q", correlation_id="c")
    envelope = told(
        data=msgspec.Raw(msgspec.json.encode(definition)),
        job="j1",
        kind="job.created",
        to="pending",
    )
    assert envelope["job"]["from"] is None
    assert envelope["job"]["status"] == "pending"
    assert "leaseId" not in envelope["job"]
    assert "data" not in envelope
    assert envelope["correlationId"] == "c"


@pytest.mark.parametrize(
    ("kind", "data", "field", "shown"),
    [
        ("job.progressed", {"b": 1, "a": 0.25}, "progress", {"a": 0.25, "b": 1}),
        ("job.prioritized", {"priority": 9}, "priority", {"priority": 9}),
        (
            "job.artifact_named",
            {"name": "sbom", "digest": "e" * 64, "mime": "text/plain", "uri": "s3://b/k"},
            "artifacts",
            [{"name": "sbom", "digest": "e" * 64, "mime": "text/plain", "uri": "s3://b/k"}],
        ),
        ("job.artifact_named", {"name": "sbom"}, "artifacts", [{"name": "sbom"}]),
    ],
)
def test_what_a_note_about_a_job_says_stands_in_its_job(
    kind: str, data: Any, field: str, shown: Any
) -> None:
    envelope = told(about=SUBJECT, job="j1", kind=kind, data=raw(data), worker="w1")
    assert envelope["job"][field] == shown
    assert "status" not in envelope["job"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("job.started", "queueSeconds"),
        ("job.retried", "backoffSeconds"),
        ("job.completed", "durationSeconds"),
    ],
)
def test_a_span_is_named_by_what_it_ends(kind: str, name: str) -> None:
    envelope = told(about=SUBJECT, job="j1", kind=kind, span_us=2_000_000, to="running")
    assert envelope["metrics"] == {name: 2}


def test_an_entry_of_no_job_has_its_data_and_is_found_by_what_it_names() -> None:
    source = Entry(actor="a", at=0, kind="source.paused", data=raw({"sourceId": "osv"}))
    run = Entry(actor="a", at=0, kind="run.started", data=raw({"runId": "r1", "n": 1}))
    other = Entry(actor="a", at=0, kind="quota.set", data=raw({"runId": 5}))
    bare = Entry(actor="a", at=0, kind="audit.exported")
    events = events_of(block(source, run, other, bare))
    assert [(event.source_id, event.run_id) for event in events] == [
        ("osv", None),
        (None, "r1"),
        (None, None),
        (None, None),
    ]
    shown = [msgspec.json.decode(event.body) for event in events]
    assert [each.get("data") for each in shown] == [
        {"sourceId": "osv"},
        {"runId": "r1", "n": 1},
        {"runId": 5},
        None,
    ]
    assert not any("job" in each or "correlationId" in each for each in shown)


def test_later_entries_of_a_block_inherit_what_their_job_is() -> None:
    first = Entry(about=SUBJECT, actor="a", at=0, job="j1", kind="job.started", to="running")
    others = [Entry(actor="a", at=0, job="j1", kind="job.progressed") for _ in range(9)]
    made = block(first, *others)
    whole = events_of(made)
    pieces, piecewise = BlockEvents(made), []
    while not pieces.done:
        piecewise += pieces.take(1)
    assert pieces.take(1) == []
    assert {(event.job_type, event.run_id) for event in whole} == {("scan", "r")}
    assert [event.body for event in piecewise] == [event.body for event in whole]


@pytest.mark.parametrize(("after_seq", "seqs"), [(0, [5, 6, 7]), (5, [6, 7]), (7, []), (99, [])])
def test_events_up_to_a_cursor_are_left_out(after_seq: int, seqs: list[int]) -> None:
    made = block(*(Entry(actor="a", at=0, kind="x.y") for _ in range(3)), first_seq=5)
    assert [event.seq for event in events_of(made, after_seq)] == seqs


def test_a_body_is_made_once() -> None:
    [event] = events_of(block(Entry(actor="a", at=0, kind="x.y", data=raw({"a": "b" * 500}))))
    guess = event.size
    assert event.body is event.body
    assert event.size == len(event.body)
    assert guess >= event.size / 2


entries = st.builds(
    Entry,
    about=st.none()
    | st.builds(
        About,
        correlation_id=TEXT,
        job_type=TEXT,
        payload_digest=TEXT,
        project_id=st.just("") | TEXT,
        queue=TEXT,
        run_id=st.none() | TEXT,
        source_id=st.none() | TEXT,
        traceparent=st.none() | TEXT,
    ),
    actor=TEXT,
    at=st.integers(0, 2**51),
    attempt=st.integers(0, 5),
    data=st.just(NO_DATA) | OBJECT.map(raw),
    error=st.just(NO_DATA) | OBJECT.map(raw),
    from_=st.none() | TEXT,
    kind=st.sampled_from(
        ["job.started", "job.retried", "job.progressed", "job.prioritized", "run.ended", "a.b"]
    ),
    reason=st.none() | TEXT,
    span_us=st.none() | st.integers(-(2**53) + 1, 2**53 - 1) | st.integers(0, 10**7),
    to=st.none() | TEXT,
    worker=st.none() | TEXT,
)


def with_subject(entry: Entry) -> Entry:
    """A first entry of a job says what the job is; others are no job's."""
    entry.job = "" if entry.about is None else "0197aaaa-0000-7000-8000-000000000001"
    return entry


@settings(max_examples=120, deadline=None, derandomize=True)
@given(entries.map(with_subject), TEXT)
def test_the_bytes_are_canonical_and_always_the_same(entry: Entry, tenant_id: str) -> None:
    made = block(entry, tenant_id=tenant_id)
    [event], [again] = events_of(made), events_of(made)
    assert event.body == again.body
    envelope = msgspec.json.decode(event.body)
    assert event.body == rfc8785.dumps(envelope)
    assert (envelope["tenantId"], envelope["eventType"]) == (tenant_id, entry.kind)
    if entry.span_us is not None:
        [seconds] = envelope["metrics"].values()
        assert seconds == entry.span_us / 1_000_000


@pytest.mark.parametrize(
    "span_us",
    [0, 1, 10, 99, 100, 101, 999_999, 1_500_000, 2_000_000, 10**15 + 1, 2**53 - 1, -1, -(10**9)],
)
def test_seconds_are_written_as_the_standard_prescribes(span_us: int) -> None:
    [event] = events_of(block(Entry(actor="a", at=0, kind="x.y", span_us=span_us)))
    written = event.body.split(b'"durationSeconds":')[1].split(b"}")[0]
    assert written == rfc8785.dumps(span_us / 1_000_000)


def test_the_kinds_of_events_of_a_definition_and_an_about_agree() -> None:
    definition = Definition(job_type="scan", payload_digest="d", queue="q", source_id="osv")
    created = Entry(
        actor="a", at=0, job="j1", kind="job.created",
        data=msgspec.Raw(msgspec.json.encode(definition)),
    )  # fmt: skip
    moved = Entry(about=about(definition), actor="a", at=0, job="j1", kind="job.created")

    def known(event: Event) -> tuple[Any, ...]:
        return event.job_type, event.run_id, event.source_id

    assert known(events_of(block(created))[0]) == known(events_of(block(moved))[0])
