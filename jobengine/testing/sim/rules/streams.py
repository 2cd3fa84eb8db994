"""What readers of streams got.

R20 A reader got, in order and once, every entry that its filter lets through, as the ledger has it,
    and none before its commit.
R35 While nothing fails, a reader that is there hears within twenty seconds of what is committed.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jobengine.testing.sim.audited import AuditedLedger, Entry, hold
from jobengine.testing.sim.journal import Read
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_streams"]

_WITHIN_S: Final = 20.0
"""From the commit, or from what it heard before: a slow reader takes its time with each batch."""

_BACK_S: Final = 10.0
"""How long after a fault everything is as before, but for an outage and a death of the engine."""

_BACK_LATE_S: Final = {"store.outage": 45.0}
_DEAD_S: Final = 25.0
"""How long an engine is dead at the longest."""

_FELT: Final = ("store.", "crash.engine", "crash.actor")


def judge_streams(evidence: Evidence) -> None:
    got: defaultdict[str, list[Read]] = defaultdict(list)
    for read in evidence.journal.read:
        got[read.reader].append(read)
    for reader, (tenant_id, wanted) in evidence.journal.readers.items():
        ledger = evidence.ledgers[tenant_id]
        expected = _matching(ledger, wanted)
        before_at = 0.0
        for read in got[reader]:
            entry = next(expected, None)
            due = "nothing" if entry is None else f"#{entry['seq']}"
            same = entry is not None and entry["seq"] == read.seq
            hold(same, "R20", f"{reader} got #{read.seq} where {due} was due")
            assert entry is not None
            hold(_is_of(read.event, entry), "R20", f"{reader} got another #{read.seq}")
            early = f"{reader} got #{read.seq} before its commit"
            durable_at = ledger.durable_at(read.seq)
            hold(durable_at <= read.at, "R20", early)
            waited_from = max(durable_at, before_at)
            if read.at > waited_from + _WITHIN_S:
                _judge_wait(evidence, reader, read.seq, waited_from, read.at)
            before_at = read.at
        missed = next(expected, None)
        told = "" if missed is None else f"{reader} never got #{missed['seq']}"
        hold(missed is None, "R20", told)


def _judge_wait(
    evidence: Evidence, reader: str, seq: int, waited_from: float, got_at: float
) -> None:
    """R35: no stay of a reader has a while without faults in which it waits in vain. What it hears
    from an engine ends with that."""
    for came_at, left_at in evidence.journal.stays.get(reader, ()):
        calm_at = max(came_at, waited_from)
        died = [at for at in evidence.journal.lives if came_at < at]
        until = min([left_at, got_at, *(at - _DEAD_S for at in died)])
        if until - calm_at <= _WITHIN_S:
            continue
        for at, site in evidence.struck:
            if at > until or calm_at + _WITHIN_S < at:
                break
            if site.startswith(_FELT):
                calm_at = max(calm_at, at + _BACK_LATE_S.get(site, _BACK_S))
        told = f"{reader} was there from {calm_at:.3f} on and got #{seq} at {got_at:.3f}"
        hold(calm_at + _WITHIN_S >= until, "R35", told)


def _matching(ledger: AuditedLedger, wanted: Mapping[str, Any]) -> Iterator[Entry]:
    """Entries whose kind begins so, and of jobs of this type where one is named."""
    prefix, job_type = wanted.get("types", ""), wanted.get("jobType")
    for entry in ledger.entries:
        job = ledger.jobs.get(entry.get("job", ""))
        of_type = job_type is None or (job is not None and job.definition["jobType"] == job_type)
        if of_type and entry["kind"].startswith(prefix):
            yield entry


def _is_of(event: Mapping[str, Any], entry: Entry) -> bool:
    job = event.get("job") or {}
    return (
        event["eventType"] == entry["kind"]
        and event["seq"] == entry["seq"]
        and job.get("id") == (entry.get("job") or None)
    )
