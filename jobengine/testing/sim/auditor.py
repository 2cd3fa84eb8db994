"""Judges a simulated run: ledger, store and what everybody was told have to agree.

Reads the ledgers' bytes and the journal, and knows the specification; nothing of the engine's code
is used. The rules R1, R2, … stand in the modules that judge them: `audited` has those that a ledger
keeps within itself, `rules` the others.
"""

from collections.abc import Callable
from typing import Final

from jobengine.testing.sim.rules.acts import judge_acts
from jobengine.testing.sim.rules.deadlines import judge_deadlines
from jobengine.testing.sim.rules.ends import judge_ends
from jobengine.testing.sim.rules.evidence import Evidence
from jobengine.testing.sim.rules.expiry import judge_expiries
from jobengine.testing.sim.rules.explaining import judge_explanations
from jobengine.testing.sim.rules.leases import judge_leases
from jobengine.testing.sim.rules.limits import judge_limits
from jobengine.testing.sim.rules.rates import judge_rates
from jobengine.testing.sim.rules.redrives import judge_redrives
from jobengine.testing.sim.rules.requests import digest_of, judge_requests
from jobengine.testing.sim.rules.runs import judge_runs
from jobengine.testing.sim.rules.secrets import judge_secrets
from jobengine.testing.sim.rules.streams import judge_streams
from jobengine.testing.sim.rules.work import judge_work

__all__ = ["RULES", "Evidence", "digest_of", "judge"]

RULES: Final[tuple[Callable[[Evidence], None], ...]] = (
    judge_requests,
    judge_acts,
    judge_redrives,
    judge_leases,
    judge_expiries,
    judge_limits,
    judge_rates,
    judge_runs,
    judge_deadlines,
    judge_work,
    judge_ends,
    judge_streams,
    judge_explanations,
    judge_secrets,
)


def judge(evidence: Evidence) -> None:
    """Raises `ViolationError` for the first rule that is broken."""
    for rule in RULES:
        rule(evidence)
