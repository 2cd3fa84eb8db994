"""Filters of events: what they let through, and that equal ones are one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.entry import GENESIS, About, Block, Entry, encode_entries
from jobengine.domain.event import Event, events_of
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EVERYTHING, EventFilter


def event(kind: str = "job.started") -> Event:
    entry = Entry(
        about=About(job_type="scan", payload_digest="d", queue="q", run_id="r1", source_id="osv"),
        actor="a",
        at=0,
        job="j1",
        kind=kind,
        seq=1,
    )
    block = Block(
        tenant_id="acme", first_seq=1, last_seq=1, at=0,
        previous=GENESIS, link=GENESIS, body=encode_entries([entry]),
    )  # fmt: skip
    return events_of(block)[0]


@pytest.mark.parametrize(
    ("wanted", "through"),
    [
        (EVERYTHING, True),
        (EventFilter.of(["job.started"]), True),
        (EventFilter.of(["job.*"]), True),
        (EventFilter.of(["run.*", "job.started"]), True),
        (EventFilter.of(["job.start"]), False),
        (EventFilter.of(["run.*"]), False),
        (EventFilter.of(job_id="j1"), True),
        (EventFilter.of(job_id="j2"), False),
        (EventFilter.of(job_type="scan", run_id="r1", source_id="osv"), True),
        (EventFilter.of(job_type="fetch", run_id="r1"), False),
        (EventFilter.of(run_id="r2"), False),
        (EventFilter.of(source_id="nvd"), False),
        (EventFilter.of(["run.*"], job_id="j1"), False),
    ],
)
def test_an_event_must_meet_all_that_is_given(wanted: EventFilter, through: bool) -> None:
    assert wanted.matches(event()) is through


def test_filters_in_the_same_words_are_equal() -> None:
    one = EventFilter.of(["b", "job.*", "a", "", "a", "run.*"], job_type="scan")
    other = EventFilter.of(["run.*", "a", "job.*", "b"], job_type="scan")
    assert (one, hash(one)) == (other, hash(other))
    assert one.types_only is False
    assert EventFilter.of(["a"]).types_only


def test_a_batch_is_encoded_once_for_each_form() -> None:
    batch = Batch(tenant_id="acme", after_seq=0, through_seq=1, events=[event()])
    calls = []

    def one(each: Batch) -> bytes:
        calls.append("one")
        return b"one:%d" % each.through_seq

    def other(each: Batch) -> bytes:
        calls.append("other")
        return b"other"

    assert [batch.encoded(one), batch.encoded(other), batch.encoded(one)] == [
        b"one:1",
        b"other",
        b"one:1",
    ]
    assert calls == ["one", "other"]


names = st.text(min_size=1, max_size=8)


@given(names, names, names, st.sampled_from(["job.started", "job.failed"]))
def test_an_entry_that_is_let_through_has_a_trace_whatever_it_is_named(
    job: str, job_type: str, run: str, kind: str
) -> None:
    entry = Entry(
        about=About(job_type=job_type, payload_digest="d", queue="q", run_id=run, source_id=run),
        actor="a",
        at=0,
        job=job,
        kind=kind,
        seq=1,
    )
    body = encode_entries([entry])
    for wanted in (
        EventFilter.of(job_id=job),
        EventFilter.of(job_type=job_type),
        EventFilter.of(run_id=run),
        EventFilter.of(source_id=run),
        EventFilter.of([kind]),
        EventFilter.of(["run.started", "job.*"]),
    ):
        assert not wanted.traces or any(trace in body for trace in wanted.traces)


@pytest.mark.parametrize(
    ("wanted", "traces"),
    [
        (EVERYTHING, set()),
        (EventFilter.of(["*"]), set()),
        (EventFilter.of(["job.failed", "run.*"]), {b"job.failed", b"run."}),
        (EventFilter.of(["job.failed"], run_id="r1"), {b"r1"}),
        (EventFilter.of(job_type='a"b'), set()),
        (EventFilter.of(job_type="naïve", source_id="osv"), {b"osv"}),
    ],
)
def test_traces_say_what_to_look_for(wanted: EventFilter, traces: set[bytes]) -> None:
    assert set(wanted.traces) == traces
