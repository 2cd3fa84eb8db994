"""The auditor itself: leases that expire in time, and too early."""

from collections.abc import Sequence

import attrs

from tests.sim.evidence_kit import Case, refused


def expiring(*, seconds: int, beat_at: float | None = None, lives: Sequence[float] = ()) -> Case:
    """A lease of four seconds, granted at 3 and expired so many seconds later."""
    case = Case()
    case.create("a", leaseUs=4_000_000, maxRetries=0)
    case.start("a")
    case.tell_lease("a")
    for _ in range(seconds - 1):
        if beat_at is not None and case.now >= beat_at:
            case.say("heartbeat", ref=9)
            case.hear({"op": "ack", "ref": 9})
            beat_at = None
        case.entry("something")
    case.end("job.failed", "a", actor="engine", reason="lease_expired")
    case.end("job.dead_lettered", "a", actor="engine")
    case.journal.lives = list(lives)
    return case


def test_a_lease_that_expires_within_its_time_from_a_heartbeat_breaks_r30() -> None:
    assert refused(expiring(seconds=6, lives=[0.0])) == ""
    assert refused(expiring(seconds=6, beat_at=4.0, lives=[0.0])) == ""
    assert refused(expiring(seconds=6, beat_at=6.0, lives=[0.0])) == "R30"
    unheard = expiring(seconds=6, beat_at=6.0, lives=[0.0])
    unheard.journal.heard.pop()
    assert refused(unheard) == ""
    other = expiring(seconds=6, beat_at=6.0, lives=[0.0])
    other.journal.heard[0] = attrs.evolve(other.journal.heard[0], connection=2)
    assert refused(other) == ""


def test_a_lease_that_expires_within_its_time_from_a_restart_breaks_r30() -> None:
    assert refused(expiring(seconds=6, lives=[0.0, 4.5])) == ""
    assert refused(expiring(seconds=6, lives=[0.0, 6.0])) == "R30"


def test_a_grant_that_waited_for_the_ledger_has_its_time_from_its_commit_or_r30_is_broken() -> None:
    for struck, rule in (
        ([], "R30"),
        ([(2.0, "store.outage")], "R30"),
        ([(2.0, "store.commit.slow")], ""),
    ):
        case = expiring(seconds=3)
        case.struck = struck
        assert refused(case) == rule, struck
    assert refused(expiring(seconds=4)) == ""
