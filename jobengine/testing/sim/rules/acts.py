"""What operators do to single jobs.

R33 An act that was accepted is in the ledger, and there no more often than there were requests for
    it, however often each was repeated.

Not here: cancels (`requests`), what an act does to dead letters (`redrives`).
"""

from collections import Counter
from typing import Final

from jobengine.testing.sim.audited import AuditedLedger, Entry, hold
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_acts"]

_BY: Final = "operator"
_VERBS: Final = {
    "job.retried": "retry",
    "job.prioritized": "prioritize",
    "job.dead_letter_discarded": "discard",
}

_Act = tuple[str, str]
"""A verb, and the job that it was done to."""


def judge_acts(evidence: Evidence) -> None:
    for ledger in evidence.ledgers.values():
        done: Counter[_Act] = Counter(
            act for entry in ledger.entries if (act := _act_of(entry)) is not None
        )
        asked, accepted = _asked(evidence, ledger)
        for act in sorted(done | accepted):
            verb, job_id = act
            told = f"{verb} of {job_id} was done {done[act]} times"
            most, least = asked[act], accepted[act]
            hold(done[act] <= most, "R33", f"{told} and asked for {most} times")
            # What changes nothing is accepted and leaves no trace.
            told = f"{told} and accepted {least} times"
            hold(done[act] >= least or verb == "prioritize", "R33", told)


def _act_of(entry: Entry) -> _Act | None:
    if entry["actor"] != _BY or "job" not in entry:
        return None
    if entry["kind"] == "job.created" and "replayOf" in entry["data"]:
        return "replay", entry["data"]["replayOf"]
    verb = _VERBS.get(entry["kind"])
    return None if verb is None else (verb, entry["job"])


def _asked(evidence: Evidence, ledger: AuditedLedger) -> tuple[Counter[_Act], Counter[_Act]]:
    """How often each act was asked for, and how often that was accepted."""
    verbs = {*_VERBS.values(), "replay"}
    requests: dict[int, _Act] = {
        asked.number: (asked.verb, asked.about["jobId"])
        for asked in evidence.journal.asked
        if asked.verb in verbs and asked.tenant_id == ledger.tenant_id
    }
    accepted: Counter[_Act] = Counter(
        requests[answered.number]
        for answered in evidence.journal.answered
        if answered.number in requests and answered.refusal is None
    )
    return Counter(requests.values()), accepted
