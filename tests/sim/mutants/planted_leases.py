"""Planted bugs about who is granted, holds and reports on a lease."""

from typing import Final

from tests.sim.mutants.mutant import SHARD, Mutant
from tests.sim.mutants.mutation import Mutation

__all__ = ["LEASES"]

LEASES: Final = (
    Mutant(
        name="dropped_fence",
        bug="a report moves its job whatever attempt and token it names",
        scenario="network",
        seeds=5,
        mutation=Mutation(
            module=SHARD + "leases",
            function="LeaseTable.find",
            old="found = self._by_id.get(lease)\n"
            "    return found if found is not None and found.attempt == token else None",
            new='return self._by_job.get(lease.partition(".")[0])',
        ),
    ),
    Mutant(
        name="ack_before_commit",
        bug="a worker is told that its report was taken before the ledger has it",
        scenario="storage",
        seeds=5,
        mutation=Mutation(
            module=SHARD + "reports",
            function="Reporter._finish",
            old="self._state.commit(draft, pending)",
            new="self._state.tell_settled(pending)\n"
            "        pending.acks = {}\n"
            "        self._state.commit(draft, pending)",
        ),
    ),
    Mutant(
        name="answer_before_commit",
        bug="a producer is told of its jobs before the ledger has them",
        scenario="storage",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "creations",
            function="Creations._finish",
            old="pending.answers.append((request.ask_id, answer))",
            new="state.commands.append(Answer(request.ask_id, answer))",
        ),
    ),
    Mutant(
        name="renewed_after_expiry",
        bug="a lease that has run out gets another period",
        scenario="network",
        seeds=5,
        mutation=Mutation(
            module=SHARD + "leases",
            function="LeaseTable.pop_due",
            old="elif lease.phase is Phase.LIVE:\n            due.append(lease)",
            new="elif lease.renewed_s + 2 * lease.job.definition.lease_us / 1e6 > mono:\n"
            "            self.watch_later(lease, mono)\n"
            "        elif lease.phase is Phase.LIVE:\n            due.append(lease)",
        ),
    ),
    Mutant(
        name="lost_wakeup",
        bug="a place that becomes free under a limit wakes nobody",
        scenario="calm",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "gates",
            function="Gates.subjects_freed",
            old="yield from parts",
            new="yield from ()",
        ),
    ),
    Mutant(
        name="double_grant_after_restart",
        bug="a shard begins while its earlier life's commits are under way, and grants again",
        scenario="crashes",
        seeds=15,
        mutation=Mutation(
            module="jobengine.core.ledger",
            function="LedgerCore.handle",
            old="return () if self._flights else self._next(now)",
            new="fences = self._waiting.take_fences()\n"
            "            return [Answer(fence.ask_id, self._life) for fence in fences]",
        ),
    ),
    Mutant(
        name="lease_forgotten_by_restart",
        bug="one lease of an earlier life is not restored",
        scenario="crashes",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "recovery",
            function="restore_leases",
            old="for each in leased:",
            new="for each in leased[1:]:",
        ),
    ),
    Mutant(
        name="late_outcome_acked",
        bug="a worker whose lease is gone is told that its outcome was taken",
        scenario="limits",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "stray_reports",
            function="StrayReports._late",
            old="same_outcome(job, report)",
            new="True",
        ),
    ),
    Mutant(
        name="drain_ignored",
        bug="a worker that drains is granted leases still",
        scenario="calm",
        seeds=80,
        mutation=Mutation(
            module=SHARD + "attachments",
            function="Attachments.drain",
            old="session.draining = True",
            new="pass",
        ),
    ),
    Mutant(
        name="expired_by_restart",
        bug="a restart takes leases of its earlier life for expired",
        scenario="crashes",
        seeds=50,
        mutation=Mutation(
            module=SHARD + "recovery",
            function="restore_leases",
            old="renewed_s=now_s,",
            new="renewed_s=now_s - job.definition.lease_us / 1e6,",
        ),
    ),
    Mutant(
        name="beat_renews_nothing",
        bug="a heartbeat renews no lease",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=SHARD + "attachments",
            function="Attachments.beat",
            old="session.beat_s = now_s",
            new="pass",
        ),
    ),
    Mutant(
        name="answer_not_kept",
        bug="the answer to a request with an idempotency key is not stored with its effect",
        scenario="network",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "creations",
            function="Creations._finish",
            old="store_claim(draft, pending, tenant_id, request.claim, stored)",
            new="pending.claims.append((tenant_id, request.claim.key, request.claim.path))",
        ),
    ),
)
