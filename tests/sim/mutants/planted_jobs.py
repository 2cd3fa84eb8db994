"""Planted bugs about the life of a job: retries, delays, expiries, cancels, keys."""

from typing import Final

from tests.sim.mutants.mutant import SHARD, Mutant
from tests.sim.mutants.mutation import Mutation

__all__ = ["JOBS"]

JOBS: Final = (
    Mutant(
        name="one_retry_less",
        bug="a job is dead when its retries are used up but for one",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=SHARD + "endings",
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
            module=SHARD + "endings",
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
            module=SHARD + "endings",
            function="Endings._retry",
            old="job.due_at = draft.at + delay",
            new="job.due_at = draft.at",
        ),
    ),
    Mutant(
        name="delay_ignored",
        bug="a job starts two seconds before it may",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=SHARD + "supply",
            function="Supply.release_delayed",
            old="first[0] <= state.now.at",
            new="first[0] <= state.now.at + 2_000_000",
        ),
    ),
    Mutant(
        name="expiry_ignored",
        bug="a job that waited past its expiry is not cancelled",
        scenario="network",
        seeds=20,
        mutation=Mutation(
            module=SHARD + "supply",
            function="Supply.expire_waiting",
            old="self._operator.expire(list(rows))",
            new="list(rows)",
        ),
    ),
    Mutant(
        name="wakes_for_ever",
        bug="what has expired is not taken out of its window, and the shard wakes for it at once",
        scenario="limits",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "supply",
            function="Supply.expire_waiting",
            old="if self.again_at is not None:",
            new="if True:",
        ),
    ),
    Mutant(
        name="first_page_of_delayed",
        bug="delayed jobs beyond the first that are read are taken not to be there",
        scenario="bulks",
        seeds=30,
        mutation=Mutation(
            module=SHARD + "supply",
            function="Supply.ranked_loaded",
            old="complete=not full",
            new="complete=True",
        ),
    ),
    Mutant(
        name="first_page_of_a_lane",
        bug="jobs of a lane beyond the first that are read are taken not to be there",
        scenario="bulks",
        seeds=80,
        mutation=Mutation(
            module=SHARD + "supply",
            function="Supply.ranked_loaded",
            old="complete=not ranked",
            new="complete=True",
        ),
    ),
    Mutant(
        name="first_page_of_expiries",
        bug="expiries beyond the first that are read are taken not to be there",
        scenario="calm",
        seeds=40,
        mutation=Mutation(
            module=SHARD + "supply",
            function="Supply.due_loaded",
            old="complete=not full",
            new="complete=True",
        ),
    ),
    Mutant(
        name="cancel_forgotten",
        bug="a job whose cancel was asked for is tried again when its attempt fails",
        scenario="calm",
        seeds=50,
        mutation=Mutation(
            module=SHARD + "endings",
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
            module=SHARD + "claims",
            function="let_go_of_key",
            old="if _gives_up_key(job):",
            new="if False:",
        ),
    ),
    Mutant(
        name="unordered_release",
        bug="the jobs of a run that are let go together leave in the order of a set",
        scenario="calm",
        seeds=5,
        by_hashes=True,
        mutation=Mutation(
            module=SHARD + "run_jobs",
            function="RunJobs._release",
            old="sorted(batch.jobs.values(), key=self._state.key_of)",
            new="batch.jobs[job_id] for job_id in set(batch.jobs)",
        ),
    ),
)
