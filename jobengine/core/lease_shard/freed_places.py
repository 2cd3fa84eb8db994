"""Freed places: which of the lanes that a full limit keeps closed is let out for a free place.

Whoever lets a lane out for each place alone does not look at all that wait. So the lanes that wait
under one subject take turns as those of a session do: flows by weighted rounds, of the lanes of one
flow the head with the lowest rank first.

I1  A lane that is let out has a *chance*. When nothing of it has started in the same message, and
    the limit was not found full, the chance goes to the next; so a free place is never forgotten.
I2  Turns are kept of the limits that were last full: of ``offered_lanes_max`` lanes together, or of
    one limit.

Not here: jobs parked at a limit, of which each lane has one let out (``waiting_room``).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

import attrs

from jobengine.core.fair_queue import FairRounds
from jobengine.core.lease_shard.offers import Offers
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.lease_shard.waiting_room import Subject
from jobengine.core.window import Window
from jobengine.domain.job import Job
from jobengine.domain.records import Lane

__all__ = ["FreedPlaces"]


@attrs.frozen(eq=False)
class _LanesUnder:
    """The lanes that are closed until a subject opens, and their first jobs."""

    state: ShardState
    subject: Subject

    def takes(self, lane: Lane) -> bool:
        return self.state.waiting_room.subject_of(lane) == self.subject

    def all_lanes(self) -> Iterable[Lane]:
        return self.state.waiting_room.lanes_under(self.subject)

    def head_of(self, lane: Lane, window: Window[Job]) -> Job | None:
        return None if window.first() is None else window.peek()


class FreedPlaces:
    """``new_rounds`` gives rounds with the weights of a tenant."""

    def __init__(self, state: ShardState, new_rounds: Callable[[str], FairRounds]) -> None:
        self._state = state
        self._new_rounds = new_rounds
        self._turns: OrderedDict[Subject, tuple[Offers, FairRounds]] = OrderedDict()
        self._lanes = 0
        self._chances: dict[Lane, dict[Subject, None]] = {}

    def let_out(self) -> None:
        """Let a lane out for each place that has become free."""
        freed = self._state.freed_places
        while freed:
            subject, places = freed.popitem()
            while places and self._let_one_out(subject):
                places -= 1

    def took(self, lane: Lane) -> None:
        """A job of this lane has taken its places."""
        if self._chances:
            self._chances.pop(lane, None)

    def hand_on(self, lane: Lane) -> None:
        """Nobody takes more of a lane now: what it was let out for and has not taken goes to the
        next."""
        for subject in self._chances.pop(lane, ()):
            if self._state.waiting_room.subject_of(lane) != subject:
                self._let_one_out(subject)

    def forget(self, tenant_id: str) -> None:
        """The weights of a tenant have changed: its turns begin anew."""
        for subject in [subject for subject in self._turns if subject[0] == tenant_id]:
            self._forget(subject)

    def _let_one_out(self, subject: Subject) -> bool:
        state = self._state
        if not state.waiting_room.closes_lanes(subject):
            if subject in self._turns:
                self._forget(subject)
            return False
        offers, rounds = self._turns_of(subject)
        while (flow := rounds.select()) is not None:
            lane = offers.first(flow)
            waits = state.waiting_room.subject_of(lane) == subject
            if waits:
                self._chances.setdefault(lane, {})[subject] = None
                state.reopen(lane)
            else:
                rounds.give_back(flow)
            offers.look_at(lane)
            offers.tell(rounds, flow)
            offers.changed.clear()
            if waits:
                return True
        state.open_subject(subject)
        return False

    def _turns_of(self, subject: Subject) -> tuple[Offers, FairRounds]:
        known = self._turns.get(subject)
        if known is None:
            offers = Offers(self._state, subject[0], _LanesUnder(self._state, subject))
            known = self._turns[subject] = offers, self._new_rounds(subject[0])
        else:
            self._turns.move_to_end(subject)
            self._lanes -= 1 + known[0].lanes
        offers, rounds = known
        offers.update()
        for flow in offers.changed:
            offers.tell(rounds, flow)
        offers.changed.clear()
        offers.seen.clear()
        self._lanes += 1 + offers.lanes
        while self._lanes > self._state.limits.offered_lanes_max and len(self._turns) > 1:
            self._forget(next(iter(self._turns)))
        return known

    def _forget(self, subject: Subject) -> None:
        offers, _ = self._turns.pop(subject)
        self._lanes -= 1 + offers.lanes
        offers.close()
