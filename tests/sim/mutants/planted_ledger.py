"""Planted bugs about the ledger, its readers, and secrets."""

from typing import Final

from tests.sim.mutants.mutant import BROADCASTER, Mutant
from tests.sim.mutants.mutation import Mutation

__all__ = ["LEDGER"]

LEDGER: Final = (
    Mutant(
        name="gap_in_seq",
        bug="a number is left out between two changes of one commit",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module="jobengine.core.commit_flight",
            function="_Body.add",
            old="entries, first_seq = changes.entries, self.next_seq",
            new="self.next_seq += bool(self.lines)\n"
            "    entries, first_seq = changes.entries, self.next_seq",
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
        name="void_ignored",
        bug="what follows a refused commit is not numbered anew",
        scenario="storage",
        seeds=20,
        mutation=Mutation(
            module="jobengine.core.ledger",
            function="LedgerCore._refused",
            old="follower.void = True",
            new="pass",
        ),
    ),
    Mutant(
        name="follower_not_asked_for",
        bug="heads that stand after the second of two commits are taken for another writer's",
        scenario="storage",
        seeds=20,
        mutation=Mutation(
            module="jobengine.core.commit_flight",
            function="Flight.took_effect",
            old="later = {} if follower is None else follower.heads",
            new="later: dict[str, Head] = {}",
        ),
    ),
    Mutant(
        name="good_changes_lost_with_a_bad_one",
        bug="a commit that is refused is not sent again change by change",
        scenario="storage",
        seeds=10,
        mutation=Mutation(
            module="jobengine.core.ledger",
            function="LedgerCore._refused",
            old="self._alone.extend(flight.requests)",
            new="pass",
        ),
    ),
    Mutant(
        name="stale_cursor",
        bug="a stream reader goes on one event too far when it leaves the pages of the ledger",
        scenario="calm",
        seeds=5,
        mutation=Mutation(
            module=BROADCASTER + "followed_tenant",
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
            module=BROADCASTER + "followed_tenant",
            function="FollowedTenant.part",
            old="reader.cursor = reader.topic.position(self.ring.front)",
            new="reader.cursor = group.after_seq - 1",
        ),
    ),
    Mutant(
        name="doubt_ignored",
        bug="blocks that became durable without having been published are told with the next ones",
        scenario="quiet",
        seeds=15,
        mutation=Mutation(
            module=BROADCASTER + "followed_tenant",
            function="FollowedTenant.doubt",
            old="self.ring.clear()",
            new="pass",
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
)
