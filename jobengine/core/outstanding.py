"""What is outstanding between a worker and its shard: leases, reports, heartbeats, credit.

A session keeps this for one purpose: should the shard die, its successor knows the leases from the
store and nothing else, and the session makes it whole.

Definitions. A lease is *held* from its grant until the worker has reported its end. A report is
*unsettled* from when it was handed to the shard until it was answered; only those with a ``ref``
are kept, for without one nobody waits.

I1  ``claims`` names every lease that is held or whose end is unsettled, and no other.
I2  A report of an end that was refused leaves its lease held, unless the lease itself was lost.

Not here: leases as they count (``lease_shard``), what to do about any of it (``session``).
"""

from collections.abc import Sequence
from typing import Final

import attrs

from jobengine.domain.errors import ErrorCode
from jobengine.messages.session import Grant, Nacked
from jobengine.messages.worker_reports import Completed, Failed, GivenBack, LeaseClaim, Report

__all__ = ["Outstanding", "Ref"]

Ref = str | int | None
_ENDS: Final = frozenset({Completed, Failed, GivenBack})
_BEATS_MAX: Final = 16


@attrs.define(eq=False)
class Outstanding:
    """``credit``: slots the worker said last, less the leases granted since, plus (with
    ``auto_credit``) the ends reported since that were not refused; None until it said any."""

    auto_credit: bool = False
    credit: int | None = None
    unsettled: dict[str | int, Report] = attrs.field(factory=dict)
    beats: tuple[Ref, ...] = ()
    _held: dict[str, int] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self._held or self.unsettled)

    def claims(self) -> list[LeaseClaim]:
        """What to resume (I1)."""
        out = dict(self._held)
        for report in self.unsettled.values():
            if type(report) in _ENDS:
                out[report.lease_id] = report.token
        return [LeaseClaim(lease_id, token) for lease_id, token in out.items()]

    def hold(self, claims: Sequence[LeaseClaim]) -> None:
        self._held.update((claim.lease_id, claim.token) for claim in claims)

    def grant(self, leases: Sequence[Grant]) -> None:
        held = self._held
        for grant in leases:
            held[grant.lease_id] = grant.token
        if self.credit is not None:
            self.credit -= len(leases)

    def lose(self, lease_ids: Sequence[str]) -> None:
        for lease_id in lease_ids:
            self._held.pop(lease_id, None)

    def lost_unreported(self, lease_ids: Sequence[str]) -> list[str]:
        """Those of these lost leases whose report will not be answered with the loss."""
        reported = {report.lease_id for report in self.unsettled.values()}
        return [lease_id for lease_id in lease_ids if lease_id not in reported]

    def report(self, reports: Sequence[Report]) -> None:
        held, unsettled = self._held, self.unsettled
        ends = 0
        for report in reports:
            if type(report) in _ENDS:
                held.pop(report.lease_id, None)
                ends += 1
            ref = report.ref
            if ref is not None:
                unsettled[ref] = report
        if self.auto_credit and self.credit is not None:
            self.credit += ends

    def settle(self, acks: Sequence[Ref], nacks: Sequence[Nacked]) -> None:
        unsettled = self.unsettled
        for ref in acks:
            if ref is not None:
                unsettled.pop(ref, None)
        for nack in nacks:
            report = unsettled.pop(nack.ref, None) if nack.ref is not None else None
            if (
                report is not None
                and type(report) in _ENDS
                and nack.refusal.code != ErrorCode.LEASE_LOST
            ):
                self._held[report.lease_id] = report.token
                if self.auto_credit and self.credit is not None:
                    self.credit -= 1

    def beat(self, ref: Ref) -> None:
        """A heartbeat waits for its answer; past 16 the oldest is not waited for any more."""
        self.beats = (*self.beats[1 - _BEATS_MAX :], ref)

    def beaten(self, ref: Ref) -> None:
        if ref in self.beats:
            at = self.beats.index(ref)
            self.beats = self.beats[:at] + self.beats[at + 1 :]
