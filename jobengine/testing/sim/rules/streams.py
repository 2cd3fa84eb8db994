"""What readers of streams got.

R20 A reader got, in order and once, every entry that its filter lets through, as the ledger has it,
    and none before its commit.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from jobengine.testing.sim.audited import AuditedLedger, Entry, hold
from jobengine.testing.sim.journal import Read
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_streams"]


def judge_streams(evidence: Evidence) -> None:
    got: defaultdict[str, list[Read]] = defaultdict(list)
    for read in evidence.journal.read:
        got[read.reader].append(read)
    for reader, (tenant_id, wanted) in evidence.journal.readers.items():
        ledger = evidence.ledgers[tenant_id]
        expected = _matching(ledger, wanted)
        for read in got[reader]:
            entry = next(expected, None)
            due = "nothing" if entry is None else f"#{entry['seq']}"
            same = entry is not None and entry["seq"] == read.seq
            hold(same, "R20", f"{reader} got #{read.seq} where {due} was due")
            assert entry is not None
            hold(_is_of(read.event, entry), "R20", f"{reader} got another #{read.seq}")
            early = f"{reader} got #{read.seq} before its commit"
            hold(ledger.durable_at(read.seq) <= read.at, "R20", early)
        missed = next(expected, None)
        told = "" if missed is None else f"{reader} never got #{missed['seq']}"
        hold(missed is None, "R20", told)


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
