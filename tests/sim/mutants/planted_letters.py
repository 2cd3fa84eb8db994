"""Planted bugs about dead letters, redrives and what operators do."""

from typing import Final

from tests.sim.mutants.mutant import SHARD, Mutant
from tests.sim.mutants.mutation import Mutation

__all__ = ["LETTERS"]

LETTERS: Final = (
    Mutant(
        name="letter_kept_open",
        bug="a dead letter stays open when its job is replayed",
        scenario="letters",
        seeds=10,
        mutation=Mutation(
            module=SHARD + "past_jobs",
            function="_close_dead_letter",
            old="letter is None or",
            new="letter is None or replayed_as is not None or",
        ),
    ),
    Mutant(
        name="redrive_beyond_its_cap",
        bug="a redrive goes on when it has replayed as many letters as it may",
        scenario="letters",
        seeds=10,
        mutation=Mutation(
            module="jobengine.core.redriver",
            function="Redriver._go_on",
            old="redrive.exhausted or (course.all_read and not course.letters)",
            new="course.all_read and not course.letters",
        ),
    ),
    Mutant(
        name="redrive_not_counted",
        bug="a redrive does not count what it replays",
        scenario="letters",
        seeds=40,
        mutation=Mutation(
            module=SHARD + "past_jobs",
            function="PastJobs.replay",
            old="if message.redrive_id is not None:",
            new="if False:",
        ),
    ),
    Mutant(
        name="redrive_reads_one_page_of_one",
        bug="a redrive takes the first letter that it reads for the last",
        scenario="letters",
        seeds=10,
        mutation=Mutation(
            module="jobengine.core.redriver",
            function="Redriver._landed",
            old="course.letters.extend(message.letters)",
            new="course.letters.extend(message.letters[:1])",
        ),
    ),
    Mutant(
        name="acts_not_remembered",
        bug="what operators did under an idempotency key is done again when it is asked again",
        scenario="letters",
        seeds=40,
        mutation=Mutation(
            module=SHARD + "operations",
            function="Operator.loaded",
            old="if operation.claim is not None:",
            new="if False:",
        ),
    ),
)
