"""The bugs that are planted, by what they are about."""

from typing import Final

from tests.sim.mutants.mutant import Mutant
from tests.sim.mutants.planted_jobs import JOBS
from tests.sim.mutants.planted_leases import LEASES
from tests.sim.mutants.planted_ledger import LEDGER
from tests.sim.mutants.planted_letters import LETTERS
from tests.sim.mutants.planted_limits import LIMITS
from tests.sim.mutants.planted_runs import RUNS

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: Final = (*LEASES, *JOBS, *LIMITS, *LEDGER, *LETTERS, *RUNS)
