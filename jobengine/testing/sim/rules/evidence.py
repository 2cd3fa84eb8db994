"""What a run is judged by: its ledgers, what everybody was told, and when faults struck."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from jobengine.testing.sim.audited import AuditedJob, AuditedLedger, hold
from jobengine.testing.sim.journal import Journal

__all__ = ["Evidence"]

_CLOCKS: Final = ("clock.hours", "clock.skew", "clock.step")
_LASTS_S: Final = 60.0
"""How long after it struck a fault may still be felt: the longest outage, and what waits for it."""


@attrs.frozen(kw_only=True)
class Evidence:
    """`fates` are the payloads of all jobs by their digest, `running` what the store holds as
    leased by tenant, `letters` the jobs with an open dead letter there, `kept` what else the store
    holds, as text by its place. `struck` says when, in virtual seconds, which fault struck, in that
    order. Instants of ledgers are microseconds from
    `epoch_at`, where the clocks are right. `ended_at` is when the run was over."""

    ledgers: Mapping[str, AuditedLedger]
    journal: Journal
    fates: Mapping[str, dict[str, Any]] = {}
    running: Mapping[str, set[str]] = {}
    letters: Mapping[str, set[str]] = {}
    kept: Mapping[str, str] = {}
    struck: Sequence[tuple[float, str]] = ()
    epoch_at: int = 0
    ended_at: float = 0.0

    @property
    def clocks_are_right(self) -> bool:
        """Whether instants in ledgers are the virtual time."""
        return not any(site in _CLOCKS for _, site in self.struck)

    def is_calm(self, since: float, until: float, *kinds: str) -> bool:
        """Whether no fault is felt within a span of virtual time; of all, or of these kinds."""
        place = bisect_left(self.struck, (since - _LASTS_S, ""))
        for at, site in self.struck[place:]:
            if at > until:
                return True
            if not kinds or site.startswith(kinds):
                return False
        return True

    def jobs(self) -> Iterator[tuple[AuditedLedger, AuditedJob]]:
        """Every job, by tenant."""
        for ledger in self.ledgers.values():
            for job in ledger.jobs.values():
                yield ledger, job

    def job(self, tenant_id: str, job_id: str) -> AuditedJob:
        """A job that somebody was told of, so it has to be there (R4)."""
        job = self.ledgers[tenant_id].jobs.get(job_id)
        hold(job is not None, "R4", f"{job_id} was told of, and is not in the ledger")
        assert job is not None
        return job
