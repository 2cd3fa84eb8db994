"""Secrets.

R21 A secret that a worker or a user let slip is nowhere: not in a ledger, in what else is stored,
    in events, in answers. Payloads are the users' own, and are not looked at.
"""

import json
from typing import Final

from jobengine.testing.sim.audited import hold
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["SECRET", "judge_secrets"]

SECRET: Final = "s3cr3t"
"""What every secret of a run begins with."""


def judge_secrets(evidence: Evidence) -> None:
    for tenant_id, ledger in evidence.ledgers.items():
        hold(SECRET not in json.dumps(ledger.entries), "R21", f"{tenant_id}: one is in the ledger")
    for place, text in evidence.kept.items():
        hold(SECRET not in text, "R21", f"one is in {place}")
    events = json.dumps([read.event for read in evidence.journal.read])
    hold(SECRET not in events, "R21", "one is in an event")
    answers = json.dumps([answered.answer for answered in evidence.journal.answered])
    hold(SECRET not in answers, "R21", "one is in an answer")
