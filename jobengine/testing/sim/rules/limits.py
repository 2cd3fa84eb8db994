"""Limits that count: places, pauses, keys.

R16 No job starts while a gate of its is closed: a pause, a blackout, a full quota, source,
    concurrency key or lock, an open breaker; whatever runs is counted from the ledger.
R17 A unique key is held by one job at a time.
R18 What the store holds as leased is what the ledger says runs.
"""

from typing import Final

from jobengine.testing.sim.audited import FINAL, AuditedLedger, hold
from jobengine.testing.sim.rules.evidence import Evidence
from jobengine.testing.sim.rules.gates import LedgerGates

__all__ = ["judge_limits"]

_LATE_NEWS: Final = ("breaker", "no_slot")
"""What a source teaches is written behind the starts of the same instant that it let through."""


def judge_limits(evidence: Evidence) -> None:
    for ledger in evidence.ledgers.values():
        _judge_gates(ledger, clock_is_right=evidence.clocks_are_right)
        _judge_unique_keys(ledger, clock_is_right=evidence.clocks_are_right)
        running = {job.job_id for job in ledger.jobs.values() if job.state == "running"}
        held = evidence.running.get(ledger.tenant_id, set())
        hold(running == held, "R18", f"{ledger.tenant_id}: leases and ledger differ")


def _judge_gates(ledger: AuditedLedger, *, clock_is_right: bool) -> None:
    gates = LedgerGates(ledger.jobs)
    for entry in ledger.entries:
        if entry.get("to") == "running" and entry.get("worker") is not None:
            at = entry["at"] if clock_is_right else None
            for gate, key, why in gates.closed(entry["job"], at):
                forced = gate != "breaker" or gates.breaker(key) == "forced_open"
                hold(
                    gate in _LATE_NEWS and not (gate == "breaker" and forced),
                    "R16",
                    f"#{entry['seq']}: {entry['job']} starts past {gate} {key}: {why}",
                )
        gates.step(entry)


def _judge_unique_keys(ledger: AuditedLedger, *, clock_is_right: bool) -> None:
    holders: dict[str, str] = {}
    windows: dict[str, tuple[str, int]] = {}
    for entry in ledger.entries:
        job = ledger.jobs.get(entry.get("job", ""))
        key = None if job is None else job.definition.get("uniqueKey")
        if job is None or key is None:
            continue
        seq, after = entry["seq"], entry.get("to")
        if job.definition.get("uniqueScope") == "window":
            if entry["kind"] == "job.created" and clock_is_right:
                holder, until_at = windows.get(key, ("", 0))
                told = f"#{seq}: {key} is {holder}'s for a while yet"
                hold(entry["at"] >= until_at, "R17", told)
                windows[key] = (job.job_id, entry["at"] + job.definition["uniqueWindowUs"])
        elif after in FINAL:
            if holders.get(key) == job.job_id:
                del holders[key]
        elif entry["kind"] in ("job.created", "job.retried"):
            holder = holders.setdefault(key, job.job_id)
            hold(holder == job.job_id, "R17", f"#{seq}: {key} is held by {holder}")
