"""Planted bugs about limits and rates."""

from typing import Final

from tests.sim.mutants.mutant import BUCKET, SHARD, Mutant
from tests.sim.mutants.mutation import Mutation

__all__ = ["LIMITS"]

LIMITS: Final = (
    Mutant(
        name="token_leak",
        bug="a rate bucket lets a request through without taking its tokens",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=BUCKET + "walk",
            function="Walk.finish",
            old="bucket.take(need * starts, starts)",
            new="bucket.take(0, starts)",
        ),
    ),
    Mutant(
        name="places_forgotten_by_restart",
        bug="jobs that ran before a restart hold no places under limits after it",
        scenario="crashes",
        seeds=15,
        mutation=Mutation(
            module=SHARD + "recovery",
            function="restore_leases",
            old="state.occupancy.hold(job, state.kind_of(job))",
            new="pass",
        ),
    ),
    Mutant(
        name="pause_forgotten_by_restart",
        bug="what operators have paused goes on after a restart",
        scenario="crashes",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "controls",
            function="Controller.restore",
            old="found.put(row.kind, row.name, control, Revision(row.revision, row.at))",
            new='if row.kind != "pause":\n'
            "            found.put(row.kind, row.name, control, Revision(row.revision, row.at))",
        ),
    ),
    Mutant(
        name="quota_counted_twice",
        bug="a job that was proposed to a rate bucket holds its places twice when it starts",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=SHARD + "occupancy",
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
            module=SHARD + "gates",
            function="Gates._full",
            old="running - holding >= place.max_active",
            new="running - holding > place.max_active",
        ),
    ),
    Mutant(
        name="chance_not_handed_on",
        bug="a lane that is let out for a free place and does not take it keeps it from the others",
        scenario="calm",
        seeds=80,
        mutation=Mutation(
            module=SHARD + "freed_places",
            function="FreedPlaces.hand_on",
            old="if self._state.waiting_room.subject_of(lane) != subject:",
            new="if False:",
        ),
    ),
    Mutant(
        name="changed_lane_not_noted",
        bug="what came into a lane since its offer was looked at is not seen",
        scenario="calm",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "lane_changes",
            function="LaneChanges.note",
            old="log.lanes[lane] = self.number",
            new="log.lanes[lane] = self.number - 1",
        ),
    ),
)
