"""The session, one rule at a time."""

from collections.abc import Sequence

import pytest

from jobengine.sdk.commands import (
    AbandonJob,
    Command,
    HangUp,
    Notice,
    SessionConfig,
    ShowStall,
    SignOfLife,
    StartJobs,
    StopJob,
    Stopped,
)
from jobengine.sdk.session import HEARTBEAT_S_MIN, WorkerSession
from jobengine.wire.engine_messages import Ack, ErrorFrame, Nack, Redirect, Welcome
from jobengine.wire.frames import FRAME_BYTES_MAX, decode_worker_frame, encode_frame
from jobengine.wire.jobs import JobFailure
from jobengine.wire.worker_messages import (
    ArtifactNote,
    Complete,
    Credit,
    Drain,
    Fail,
    Heartbeat,
    Hello,
    Log,
    LogLine,
    Progress,
    Release,
    WorkerMessage,
)
from tests.sdk.model import cancel, lease

WELCOME = Welcome(session_id="s", node_id="n", lease_seconds=30, heartbeat_seconds=10.0)


def session(**changes: object) -> WorkerSession:
    settings = {"worker_id": "w", "capacity": 2, "job_types": ("noop",), **changes}
    return WorkerSession(SessionConfig(**settings), jitter=lambda: 0.5)  # type: ignore[arg-type]


def online(**changes: object) -> WorkerSession:
    machine = session(**changes)
    machine.connected(0.0)
    machine.receive(encode_frame([WELCOME]), 0.0)
    machine.frames()
    return machine


def said(machine: WorkerSession) -> list[WorkerMessage]:
    messages = [m for frame in machine.frames() for m in decode_worker_frame(frame)]
    assert all(not isinstance(m, tuple) for m in messages), messages
    return messages  # type: ignore[return-value]


def stops(commands: Sequence[Command]) -> list[StopJob]:
    return [command for command in commands if isinstance(command, StopJob)]


def done(lease_id: str) -> Complete:
    return Complete(lease_id=lease_id, token=1)


def log(lease_id: str, text: str) -> Log:
    line = LogLine("2026-11-21T12:00:00.000Z", "info", text)
    return Log(lease_id=lease_id, token=1, lines=[line])


def test_nothing_but_hello_is_sent_before_the_welcome() -> None:
    machine = session()
    machine.connected(0.0)
    [hello] = said(machine)
    assert isinstance(hello, Hello)
    assert hello.auto_credit
    assert hello.job_types == ["noop"]
    machine.begin_drain(0.0)
    assert said(machine) == []
    assert not machine.finished


def test_credit_for_all_free_slots_follows_the_welcome() -> None:
    machine = session()
    machine.connected(0.0)
    machine.frames()
    machine.receive(encode_frame([WELCOME]), 0.0)
    assert said(machine) == [Credit(slots=2)]


def test_leases_of_one_frame_start_as_one_batch() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a"), lease("b")]), 1.0)
    [start] = machine.commands()
    assert isinstance(start, StartJobs)
    assert [granted.lease_id for granted in start.leases] == ["a", "b"]


def test_reports_of_one_wake_up_leave_as_one_frame() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a"), lease("b")]), 1.0)
    machine.post([done("a"), done("b")], 2.0)
    assert len(machine.frames()) == 1


def test_an_unacked_report_is_sent_again_with_the_same_ref_after_a_reconnect() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.post([done("a")], 2.0)
    [first] = said(machine)
    machine.disconnected(3.0)
    machine.connected(4.0)
    [hello] = said(machine)
    assert isinstance(hello, Hello)
    assert [item.lease_id for item in hello.resume] == ["a"]
    machine.receive(encode_frame([WELCOME]), 4.0)
    assert said(machine) == [first, Credit(slots=2)]
    machine.receive(encode_frame([Ack(ref=first.ref)]), 5.0)
    machine.disconnected(6.0)
    machine.connected(7.0)
    [hello] = said(machine)
    assert isinstance(hello, Hello)
    assert hello.resume == []


def test_a_lease_granted_again_while_its_report_is_unacked_does_not_run_again() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.post([done("a")], 2.0)
    machine.commands()
    machine.receive(encode_frame([lease("a")]), 3.0)
    assert machine.commands() == []


def test_a_lost_lease_stops_its_handler_and_is_not_resumed() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.commands()
    machine.disconnected(2.0)
    machine.connected(3.0)
    machine.frames()
    lost = Welcome(
        session_id="s2", node_id="n", lease_seconds=30, heartbeat_seconds=10.0, lost=["a"]
    )
    machine.receive(encode_frame([lost]), 3.0)
    assert stops(machine.commands()) == [StopJob("a", "lost")]
    machine.frames()
    machine.post([Stopped("a")], 4.0)
    assert said(machine) == [Credit(slots=2)]
    assert machine.running == 0


def test_cancel_stops_the_handler_and_is_confirmed_by_a_release() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.receive(cancel("a"), 2.0)
    assert stops(machine.commands()) == [StopJob("a", "cancelled")]
    machine.post([Stopped("a")], 3.0)
    [release] = said(machine)
    assert isinstance(release, Release)
    assert release.reason == "cancelled"


def test_a_handler_that_ignores_its_grace_is_abandoned_but_keeps_its_slot() -> None:
    machine = online(capacity=1)
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.receive(cancel("a", grace_seconds=5.0), 2.0)
    machine.commands()
    machine.tick(7.0)
    assert machine.commands() == [AbandonJob("a", "cancelled")]
    release, credit = said(machine)
    assert isinstance(release, Release)
    assert credit == Credit(slots=0)
    machine.receive(encode_frame([lease("b")]), 8.0)
    assert machine.commands() == []
    machine.post([done("a")], 9.0)
    [start] = machine.commands()
    assert isinstance(start, StartJobs)
    assert [granted.lease_id for granted in start.leases] == ["b"]
    assert not any(isinstance(message, Complete) for message in said(machine))


def test_the_shorter_of_lease_and_handler_timeout_holds() -> None:
    machine = online(timeouts_s={"noop": 20.0}, stall_s=None)
    machine.receive(encode_frame([lease("a", timeout_seconds=5), lease("b")]), 0.0)
    machine.commands()
    assert machine.wakeup_at == 5.0
    machine.tick(5.0)
    assert stops(machine.commands()) == [StopJob("a", "timed_out")]
    machine.post([Stopped("a")], 6.0)
    [fail] = [m for m in said(machine) if isinstance(m, Fail)]
    assert fail.error.class_ == "TimedOut"
    assert fail.error.retryable
    machine.tick(20.0)
    assert stops(machine.commands()) == [StopJob("b", "timed_out")]


def test_a_silent_handler_is_shown_once_until_it_gives_a_sign_of_life() -> None:
    machine = online(stall_s=8.0)
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.commands()
    machine.tick(8.0)
    assert machine.commands() == [ShowStall("a", 8.0)]
    machine.tick(9.0)
    assert machine.commands() == []
    machine.post([SignOfLife("a", renew=False)], 9.0)
    machine.tick(17.0)
    assert machine.commands() == [ShowStall("a", 8.0)]


def test_heartbeats_follow_the_shortest_lease_and_name_no_leases() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a", heartbeat_seconds=1.0)]), 0.0)
    assert machine.wakeup_at == 1.0
    machine.tick(1.0)
    [beat] = said(machine)
    assert isinstance(beat, Heartbeat)
    assert beat.leases is None


def test_a_heartbeat_answer_can_stop_leases() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a"), lease("b")]), 0.0)
    machine.commands()
    machine.tick(10.0)
    [beat] = said(machine)
    machine.receive(encode_frame([Ack(ref=beat.ref, stop=["a"], lost=["b"])]), 10.0)
    assert stops(machine.commands()) == [StopJob("a", "cancelled"), StopJob("b", "lost")]


def test_a_silent_engine_is_hung_up_on_at_the_second_heartbeat() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.commands()
    machine.tick(10.0)
    machine.tick(20.0)
    assert machine.commands() == [HangUp("the engine fell silent")]


def test_renewals_within_one_round_trip_are_one_beat_and_silence_is_judged_at_the_next() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.commands()
    for now in (1.0, 1.1, 9.0):
        machine.post([SignOfLife("a", renew=True)], now)
        machine.tick(now)
    assert machine.commands() == []
    assert [type(message) for message in said(machine)] == [Heartbeat]
    assert machine.wakeup_at == 11.0
    machine.tick(11.0)
    machine.post([SignOfLife("a", renew=True)], 11.1)
    machine.tick(11.1)
    assert machine.commands() == [HangUp("the engine fell silent")]


def test_renewals_are_beats_of_their_own_once_the_engine_has_answered_and_not_too_often() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.commands()
    for now in (1.0, 1.0 + HEARTBEAT_S_MIN):
        machine.post([SignOfLife("a", renew=True)], now)
        machine.tick(now)
        [beat] = said(machine)
        machine.receive(encode_frame([Ack(ref=beat.ref)]), now)
        machine.post([SignOfLife("a", renew=True)], now)
        assert machine.wakeup_at == now + HEARTBEAT_S_MIN
        machine.tick(now)
        assert said(machine) == []
    assert machine.commands() == []


def test_no_welcome_in_time_hangs_up() -> None:
    machine = session()
    machine.connected(0.0)
    machine.tick(machine.wakeup_at)
    assert machine.commands() == [HangUp("no welcome in time")]


def test_reconnects_back_off_with_jitter_and_start_over_after_a_welcome() -> None:
    machine = session(reconnect_base_s=1.0, reconnect_max_s=4.0)
    delays = []
    for _ in range(4):
        machine.disconnected(100.0)
        delays.append(machine.dial_at - 100.0)
    assert delays == [0.5, 1.0, 2.0, 2.0]
    machine.connected(100.0)
    machine.receive(encode_frame([WELCOME]), 100.0)
    machine.disconnected(100.0)
    assert machine.dial_at - 100.0 == 0.5


def test_a_redirect_hangs_up_and_dials_the_other_node() -> None:
    machine = online()
    machine.receive(encode_frame([Redirect(url="ws://other:7071/worker")]), 1.0)
    assert any(isinstance(command, HangUp) for command in machine.commands())
    assert machine.redirect_url == "ws://other:7071/worker"


def test_a_lost_lease_drops_the_report_and_is_told() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.commands()
    machine.post([done("a")], 2.0)
    [report] = said(machine)
    machine.receive(encode_frame([Nack(ref=report.ref, code="LEASE_LOST", message="late")]), 3.0)
    assert machine.unsettled == 0
    assert [type(command) for command in machine.commands()] == [Notice]


def test_a_result_the_engine_cannot_read_becomes_one_failure() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.post([done("a")], 2.0)
    [report] = said(machine)
    refusal = ErrorFrame(ref=report.ref, code="INVALID_FIELD", message="$.result: no NUL")
    machine.receive(encode_frame([refusal]), 3.0)
    [fail] = said(machine)
    assert isinstance(fail, Fail)
    assert not fail.error.retryable
    machine.receive(encode_frame([Nack(ref=fail.ref, code="INVALID_FIELD", message="?")]), 4.0)
    assert said(machine) == []


def test_an_outcome_refused_for_now_is_sent_again_later_and_later_until_it_is_taken() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.post([done("a")], 1.0)
    [report] = said(machine)
    away = encode_frame([Nack(ref=report.ref, code="STORE_UNAVAILABLE", message="retry later")])
    for refused_at, again_at in ((1.0, 2.0), (2.0, 3.5), (3.5, 5.75)):
        machine.receive(away, refused_at)
        assert (machine.unsettled, said(machine)) == (1, [])
        assert machine.wakeup_at == again_at
        machine.tick(again_at)
        assert said(machine) == [report]
    machine.receive(encode_frame([Ack(ref=report.ref)]), 6.0)
    assert machine.unsettled == 0
    machine.tick(9.0)
    assert said(machine) == []


def test_an_outcome_refused_for_now_is_sent_at_once_on_a_reconnect_and_ends_with_its_lease() -> (
    None
):
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.post([done("a")], 1.0)
    [report] = said(machine)
    machine.receive(encode_frame([Nack(ref=report.ref, code="OVERLOADED", message="later")]), 1.0)
    machine.disconnected(1.1)
    machine.connected(1.2)
    [hello] = said(machine)
    assert isinstance(hello, Hello)
    assert [item.lease_id for item in hello.resume] == ["a"]
    machine.receive(encode_frame([WELCOME]), 1.3)
    assert said(machine) == [report, Credit(slots=2)]
    machine.tick(5.0)
    assert said(machine) == [], "it is on its way"
    machine.receive(encode_frame([Nack(ref=report.ref, code="LEASE_LOST", message="late")]), 5.0)
    assert machine.unsettled == 0
    assert said(machine) == []


def test_what_no_json_can_hold_costs_its_note_or_its_outcome_and_nothing_else() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a"), lease("b")]), 0.0)
    machine.commands()
    odd = Progress(lease_id="a", token=1, percent=object())  # type: ignore[arg-type]
    machine.post([odd, ArtifactNote(lease_id="a", token=1, uri="\ud800"), done("b")], 1.0)
    machine.post([Complete(lease_id="a", token=1, result=object())], 1.0)  # type: ignore[arg-type]
    kept, instead = said(machine)
    assert kept == Complete(ref=kept.ref, lease_id="b", token=1)
    assert isinstance(instead, Fail)
    assert (instead.lease_id, instead.error.class_) == ("a", "UnsendableResult")
    assert not instead.error.retryable
    assert [type(command) for command in machine.commands()] == [Notice] * 3
    machine.receive(encode_frame([Ack(ref=kept.ref), Ack(ref=instead.ref)]), 2.0)
    assert machine.unsettled == 0


def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 1.0)
    machine.commands()
    machine.begin_drain(2.0)
    machine.receive(encode_frame([lease("b")]), 2.0)
    drain, release = said(machine)
    assert isinstance(drain, Drain)
    assert isinstance(release, Release)
    assert release.lease_id == "b"
    assert machine.commands() == []
    machine.post([done("a")], 3.0)
    [report] = said(machine)
    assert not machine.finished
    machine.receive(encode_frame([Ack(ref=release.ref), Ack(ref=report.ref)]), 4.0)
    assert not machine.finished, "a lease may still be on its way"
    machine.receive(encode_frame([Ack(ref=drain.ref)]), 5.0)
    assert machine.finished


def test_a_drain_that_runs_out_stops_handlers_and_releases_their_leases() -> None:
    machine = online(drain_timeout_s=10.0, grace_s=2.0)
    machine.receive(encode_frame([lease("a"), lease("b")]), 0.0)
    machine.begin_drain(0.0)
    machine.commands()
    machine.frames()
    machine.tick(10.0)
    assert stops(machine.commands()) == [StopJob("a", "drain"), StopJob("b", "drain")]
    machine.post([Stopped("a")], 11.0)
    machine.tick(12.0)
    assert machine.commands() == [AbandonJob("b", "drain")]
    released = [m for m in said(machine) if isinstance(m, Release)]
    assert [(m.lease_id, m.reason) for m in released] == [("a", "drain"), ("b", "drain")]


def test_a_second_signal_releases_everything_at_once() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a"), lease("b")]), 0.0)
    machine.begin_drain(0.0)
    machine.release_all(1.0)
    released = [m for m in said(machine) if isinstance(m, Release)]
    assert [m.lease_id for m in released] == ["a", "b"]
    assert machine.wakeup_at <= 6.0


def test_a_drain_without_an_engine_ends_by_its_final_deadline() -> None:
    machine = online(drain_timeout_s=10.0, grace_s=2.0)
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.disconnected(0.0)
    machine.begin_drain(0.0)
    machine.post([done("a")], 1.0)
    assert not machine.finished
    machine.tick(17.0)
    assert machine.finished


def test_a_job_type_without_a_handler_is_given_back_for_later() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a", job_type="unknown")]), 0.0)
    [release] = said(machine)
    assert isinstance(release, Release)
    assert release.delay_seconds == 30.0


def test_progress_is_sent_at_most_once_a_second_and_the_newest_wins() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    for percent in (1.0, 2.0, 3.0):
        machine.post([Progress(lease_id="a", token=1, percent=percent)], 0.0)
    assert [m.percent for m in said(machine) if isinstance(m, Progress)] == [1.0]
    assert machine.wakeup_at == 1.0
    machine.tick(1.0)
    assert [m.percent for m in said(machine) if isinstance(m, Progress)] == [3.0]
    assert machine.wakeup_at > 1.0


def test_log_lines_precede_the_outcome_and_are_joined() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.post([log("a", "one"), log("a", "two"), done("a")], 0.0)
    lines, outcome = said(machine)
    assert isinstance(lines, Log)
    assert [line.text for line in lines.lines] == ["one", "two"]
    assert isinstance(outcome, Complete)


@pytest.mark.parametrize("character", ["a", "\x01", "\U0001f600"])
def test_a_burst_of_long_log_lines_leaves_in_messages_that_the_engine_takes(character: str) -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.post([log("a", f"{n:03}" + character * 16_381) for n in range(200)], 1.0)
    frames = machine.frames()
    assert max(len(frame.encode()) for frame in frames) <= FRAME_BYTES_MAX
    logs = [message for frame in frames for message in decode_worker_frame(frame)]
    lines = [line for message in logs if isinstance(message, Log) for line in message.lines]
    assert [int(line.text[:3]) for line in lines] == list(range(200))


def test_an_artifact_is_kept_until_acked_and_precedes_its_completion() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    machine.disconnected(1.0)
    note = ArtifactNote(lease_id="a", token=1, uri="file:///x")
    machine.post([note, log("a", "kept"), done("a")], 2.0)
    machine.connected(3.0)
    machine.frames()
    machine.receive(encode_frame([WELCOME]), 3.0)
    kinds = [type(message) for message in said(machine)]
    assert kinds == [Log, ArtifactNote, Complete, Credit]


def test_a_failure_is_reported_as_it_was_given() -> None:
    machine = online()
    machine.receive(encode_frame([lease("a")]), 0.0)
    error = JobFailure(class_="Upstream", message="no", http_status=503)
    machine.post([Fail(lease_id="a", token=1, error=error, retry_after=7.0)], 1.0)
    [fail] = said(machine)
    assert isinstance(fail, Fail)
    assert (fail.error, fail.retry_after) == (error, 7.0)
