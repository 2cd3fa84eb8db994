"""The bugs that are planted, each one small change of the engine that a tired hand could make.

`seeds` is the number of seeds, from 1 on, within which the simulator has to catch it.
"""

from typing import Final

import attrs

from tests.sim.mutants.mutation import Mutation

__all__ = ["MUTANTS", "Mutant"]

_SHARD: Final = "jobengine.core.lease_shard."
_BUCKET: Final = "jobengine.core.rate_bucket."
_BROADCASTER: Final = "jobengine.core.broadcaster."


@attrs.frozen(kw_only=True)
class Mutant:
    """`bug` says in words what the engine does wrong. One `by_hashes` is caught by comparing two
    processes, any other by the rules."""

    name: str
    bug: str
    mutation: Mutation
    scenario: str
    seeds: int
    by_hashes: bool = False


MUTANTS: Final = (
    Mutant(
        name="dropped_fence",
        bug="a report moves its job whatever attempt and token it names",
        scenario="network",
        seeds=5,
        mutation=Mutation(
            module=_SHARD + "leases",
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
            module=_SHARD + "reports",
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
            module=_SHARD + "creations",
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
            module=_SHARD + "leases",
            function="LeaseTable.pop_due",
            old="elif lease.phase is Phase.LIVE:\n            due.append(lease)",
            new="elif lease.renewed_s + 2 * lease.job.definition.lease_us / 1e6 > mono:\n"
            "            self.watch_later(lease, mono)\n"
            "        elif lease.phase is Phase.LIVE:\n            due.append(lease)",
        ),
    ),
    Mutant(
        name="token_leak",
        bug="a rate bucket lets a request through without taking its tokens",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_BUCKET + "walk",
            function="Walk.finish",
            old="bucket.take(need * starts, starts)",
            new="bucket.take(0, starts)",
        ),
    ),
    Mutant(
        name="one_retry_less",
        bug="a job is dead when its retries are used up but for one",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_SHARD + "endings",
            function="Endings.fail",
            old="job.failures <= job.definition.max_retries",
            new="job.failures < job.definition.max_retries",
        ),
    ),
    Mutant(
        name="crashes_not_counted",
        bug="a job whose workers keep dying is tried again and again",
        scenario="network",
        seeds=5,
        mutation=Mutation(
            module=_SHARD + "endings",
            function="Endings.fail",
            old="job.crashes += 1",
            new="pass",
        ),
    ),
    Mutant(
        name="no_delay_of_retries",
        bug="a job is tried again at once",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_SHARD + "endings",
            function="Endings._retry",
            old="job.due_at = draft.at + delay",
            new="job.due_at = draft.at",
        ),
    ),
    Mutant(
        name="lost_wakeup",
        bug="a place that becomes free under a limit wakes nobody",
        scenario="calm",
        seeds=10,
        mutation=Mutation(
            module=_SHARD + "gates",
            function="Gates.subjects_freed",
            old="yield from parts",
            new="yield from ()",
        ),
    ),
    Mutant(
        name="lease_forgotten_by_restart",
        bug="one lease of an earlier life is not restored",
        scenario="crashes",
        seeds=10,
        mutation=Mutation(
            module=_SHARD + "recovery",
            function="restore_leases",
            old="for each in leased:",
            new="for each in leased[1:]:",
        ),
    ),
    Mutant(
        name="places_forgotten_by_restart",
        bug="jobs that ran before a restart hold no places under limits after it",
        scenario="crashes",
        seeds=15,
        mutation=Mutation(
            module=_SHARD + "recovery",
            function="restore_leases",
            old="state.occupancy.hold(job, state.kind_of(job))",
            new="pass",
        ),
    ),
    Mutant(
        name="double_grant_after_restart",
        bug="a shard begins while its earlier life's commits are under way, and grants again",
        scenario="crashes",
        seeds=15,
        mutation=Mutation(
            module="jobengine.actors.lease_shard",
            function="LeaseShardActor.run",
            old="await self.ledger.ask(lambda ask_id: Fence(ask_id=ask_id), _FENCE_TIMEOUT_S)",
            new="pass",
        ),
    ),
    Mutant(
        name="gap_in_seq",
        bug="a number is left out between two changes of one commit",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module="jobengine.core.commit_flight",
            function="Flight.number",
            old="known[changes.tenant_id].next_seq + len(entries)",
            new="known[changes.tenant_id].next_seq + len(entries) + bool(entries)",
        ),
    ),
    Mutant(
        name="unknown_is_failed",
        bug="a commit whose answer was lost is sent again without asking what became of it",
        scenario="storage",
        seeds=10,
        mutation=Mutation(
            module="jobengine.core.ledger",
            function="LedgerCore._told",
            old="flight.unknown = flight.unknown or message.unknown",
            new="flight.unknown = False",
        ),
    ),
    Mutant(
        name="stale_cursor",
        bug="a stream reader goes on one event too far when it leaves the pages of the ledger",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_BROADCASTER + "followed_tenant",
            function="FollowedTenant.served",
            old="reader.cursor = batch.through_seq",
            new="reader.cursor = batch.through_seq + 1",
        ),
    ),
    Mutant(
        name="cursor_of_a_full_reader",
        bug="a stream reader that had no room comes back where it was before its last batch",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_BROADCASTER + "followed_tenant",
            function="FollowedTenant.part",
            old="reader.cursor = reader.topic.position(self.ring.front)",
            new="reader.cursor = group.after_seq - 1",
        ),
    ),
    Mutant(
        name="quota_counted_twice",
        bug="a job that was proposed to a rate bucket holds its places twice when it starts",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_SHARD + "occupancy",
            function="Occupancy.hold",
            old="if job.job_id in self._held:",
            new="if False:",
        ),
    ),
    Mutant(
        name="limit_off_by_one",
        bug="a limit lets one job more run than it may",
        scenario="calm",
        seeds=10,
        mutation=Mutation(
            module=_SHARD + "gates",
            function="Gates._full",
            old="running - holding >= place.max_active",
            new="running - holding > place.max_active",
        ),
    ),
    Mutant(
        name="unordered_release",
        bug="the jobs of a run that are let go together leave in the order of a set",
        scenario="calm",
        seeds=5,
        by_hashes=True,
        mutation=Mutation(
            module=_SHARD + "run_jobs",
            function="RunJobs._release",
            old="sorted(batch.jobs.values(), key=self._state.key_of)",
            new="batch.jobs[job_id] for job_id in set(batch.jobs)",
        ),
    ),
    Mutant(
        name="unredacted_logs",
        bug="log lines are stored as they came, secrets and all",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module="jobengine.http.worker_reports",
            function="logged",
            old="redactor.lines(texts)",
            new="texts",
        ),
    ),
    Mutant(
        name="unredacted_errors",
        bug="messages of errors are stored as they came, secrets and all",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module="jobengine.http.worker_reports",
            function="failed",
            old="message=redactor.text(reported.message)",
            new="message=reported.message",
        ),
    ),
    Mutant(
        name="answer_not_kept",
        bug="the answer to a request with an idempotency key is not stored with its effect",
        scenario="network",
        seeds=10,
        mutation=Mutation(
            module=_SHARD + "creations",
            function="Creations._finish",
            old="store_claim(draft, pending, tenant_id, request.claim, stored)",
            new="pending.claims.append((tenant_id, request.claim.key, request.claim.path))",
        ),
    ),
    Mutant(
        name="delay_ignored",
        bug="a job starts two seconds before it may",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_SHARD + "supply",
            function="Supply.release_delayed",
            old="first[0] <= state.now.at",
            new="first[0] <= state.now.at + 2_000_000",
        ),
    ),
    Mutant(
        name="pause_forgotten_by_restart",
        bug="what operators have paused goes on after a restart",
        scenario="crashes",
        seeds=10,
        mutation=Mutation(
            module=_SHARD + "controls",
            function="Controller.restore",
            old="found.put(row.kind, row.name, control, Revision(row.revision, row.at))",
            new='if row.kind != "pause":\n'
            "            found.put(row.kind, row.name, control, Revision(row.revision, row.at))",
        ),
    ),
    Mutant(
        name="late_outcome_acked",
        bug="a worker whose lease is gone is told that its outcome was taken",
        scenario="limits",
        seeds=10,
        mutation=Mutation(
            module=_SHARD + "stray_reports",
            function="StrayReports._late",
            old="same_outcome(job, report)",
            new="True",
        ),
    ),
    Mutant(
        name="drain_ignored",
        bug="a worker that drains is granted leases still",
        scenario="calm",
        seeds=40,
        mutation=Mutation(
            module=_SHARD + "attachments",
            function="Attachments.drain",
            old="session.draining = True",
            new="pass",
        ),
    ),
    Mutant(
        name="cancel_forgotten",
        bug="a job whose cancel was asked for is tried again when its attempt fails",
        scenario="calm",
        seeds=50,
        mutation=Mutation(
            module=_SHARD + "endings",
            function="Endings.fail",
            old="if job.cancel_requested_at is not None:",
            new="if False:",
        ),
    ),
    Mutant(
        name="unique_key_kept",
        bug="a job that has ended keeps its unique key",
        scenario="calm",
        seeds=50,
        mutation=Mutation(
            module=_SHARD + "claims",
            function="let_go_of_key",
            old="if _gives_up_key(job):",
            new="if False:",
        ),
    ),
    Mutant(
        name="expired_by_restart",
        bug="a restart takes leases of its earlier life for expired",
        scenario="crashes",
        seeds=50,
        mutation=Mutation(
            module=_SHARD + "recovery",
            function="restore_leases",
            old="renewed_s=now_s,",
            new="renewed_s=now_s - job.definition.lease_us / 1e6,",
        ),
    ),
    Mutant(
        name="expired_while_away",
        bug="leases grow older while the ledger is away, so workers lose what they hold",
        scenario="storage",
        seeds=50,
        mutation=Mutation(
            module=_SHARD + "leases",
            function="LeaseTable.stop_clock",
            old="self._away_since = mono",
            new="pass",
        ),
    ),
    Mutant(
        name="beat_renews_nothing",
        bug="a heartbeat renews no lease",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=_SHARD + "attachments",
            function="Attachments.beat",
            old="session.beat_s = now_s",
            new="pass",
        ),
    ),
)
