"""Secrets.

R21 A secret that a worker or a user let slip is nowhere: not in a ledger, in what else is stored,
    in events, in answers. Payloads are the users' own, and are not looked at.
"""

from typing import Any, Final

import msgspec

from jobengine.testing.sim.audited import hold
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["SECRET", "judge_secrets"]

SECRET: Final = "s3cr3t"
"""What every secret of a run begins with."""


def judge_secrets(evidence: Evidence) -> None:
    for tenant_id, ledger in evidence.ledgers.items():
        hold(not _slipped(ledger.entries), "R21", f"{tenant_id}: one is in the ledger")
    for place, text in evidence.kept.items():
        hold(SECRET not in text, "R21", f"one is in {place}")
    events = [read.event for read in evidence.journal.read]
    hold(not _slipped(events), "R21", "one is in an event")
    answers = [answered.answer for answered in evidence.journal.answered]
    hold(not _slipped(answers), "R21", "one is in an answer")


def _slipped(values: Any) -> bool:
    """Whether a secret is anywhere in plain values."""
    return SECRET.encode() in msgspec.json.encode(values)
