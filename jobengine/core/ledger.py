"""The ledger: everything that waits becomes one transaction, numbered and chained.

Decides the sequence numbers and chain links of every tenant, what goes into the next commit, and
what to do when a commit did not answer.

Definitions. A *batch* is one transaction. A *head* is a tenant's next sequence number and the link
to chain on. A batch is *unknown* when its commit was sent and the connection was lost. Batches are
*beside* each other when they share no tenant; one *follows* another when it goes on from the heads
that the other will leave, and then it takes effect after that one or not at all.

I1  At most ``commits_in_flight_max`` batches are in flight beside each other, and at most one
    follows each. All in flight that hold changes of one tenant are one such pair, which is settled
    front first; so changes of one tenant are committed, confirmed and published in the order they
    came in.
I2  A tenant's numbers have no gap: a head moves only when the batch that holds the numbers commits.
I3  A sender hears of its change exactly once: ``Confirm`` after the commit, or ``Deny``.
I4  An unknown batch is settled by the store's heads, never guessed, once the store has seen that
    its attempt is over. One that moves no head
    (log lines, answers to requests that changed nothing) is sent again as such, and the store keeps
    what it holds once.
I5  A batch that the store refuses for its data is taken apart, so that one bad change harms nobody
    else's. One that left no trace though a server was there (its time was over, or its memory full)
    goes on with the first half of its changes, so that no batch is sent again and again that is too
    large; a single change is. Should the whole yet come before its piece, the heads tell, and the
    ledger is abandoned.
I6  A fence is answered when everything appended before it has been settled, all batches in flight
    included.
I7  While a batch is in trouble no other is started; those in flight beside it are settled. The
    database is away from the first batch in trouble until the last of them is out of it.
I8  What follows a batch that is refused is *void*, and so is what is refused before the one it
    follows is settled. It is numbered anew, and nothing else is started, once the store has said of
    it that it is over.

I9  What was appended for an earlier life is dropped. That life may have lost changes that came
    before it, and each change of a shard is decided upon the last; the shard ends with that life.

A batch is started at the wake-up that ends a burst of messages, so that it carries what came in it;
there is no timer. Behind another one it is started when as much waits of a tenant
as that one carries, or ``follow_entries``: the database goes on with it at once, and batches do not
become smaller and smaller.

Not here: whose changes go first and how many (``commit_queue``), numbers and links
(``commit_flight``), the bytes in the store (``store``), who may write what (``lease_shard``).
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Final

import attrs

from jobengine.core.commit_flight import NEW, Flight
from jobengine.core.commit_queue import Arrears, CommitPace, CommitQueue
from jobengine.core.commit_weight import Load
from jobengine.core.machine import Answer
from jobengine.domain.entry import Head
from jobengine.domain.instant import Moment
from jobengine.messages.ledger import (
    Abandon,
    Append,
    BatchCommitted,
    BatchRefused,
    BatchUnavailable,
    Confirm,
    Deny,
    Fence,
    HeadsLoaded,
    HeadsUnavailable,
    LoadHeads,
    Publish,
    ReportAway,
    ReportBack,
    Write,
)
from jobengine.messages.wake import Wake

__all__ = ["LedgerCore", "LedgerLimits"]

_BACKOFF_FIRST_S: Final = 0.05
_INCARNATION_SHIFT: Final = 40
_TURNS_OF_A_BATCH: Final = 8


@attrs.frozen(kw_only=True)
class LedgerLimits:
    """Bounds of one batch, and how long to wait for a database that is away.

    ``batch_entries_min`` is the least that a batch may hold while tenants share the ledger, and
    the step by which it grows towards ``commit_target_s``. The commit of fewer is mostly its fixed
    cost: it would take no less time and carry less. ``batch_bytes_max`` bounds documents, log lines
    and entries together (``commit_weight``), as they are before compression. ``follow_entries`` of
    a tenant, or as many as the batch carries that holds it, have to wait before another is sent
    behind that one; with 0 none is.
    """

    backoff_s_max: float = 2.0
    batch_entries_min: int = 1_000
    batch_entries_max: int = 12_000
    commit_target_s: float = 0.05
    commits_in_flight_max: int = 2
    follow_entries: int = 2_000
    batch_requests_max: int = 2_000
    batch_bytes_max: int = 32 * 1024 * 1024
    heads_max: int = 100_000


class LedgerCore:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: LedgerLimits, incarnation: int = 1) -> None:
        self._limits = limits
        self._waiting = CommitQueue(max(1, limits.batch_entries_min // _TURNS_OF_A_BATCH))
        self._pace = CommitPace(
            limits.batch_entries_min,
            Load(limits.batch_entries_max, limits.batch_bytes_max, limits.batch_requests_max),
            limits.commit_target_s,
        )
        self._arrears = Arrears()
        self._alone: deque[Append] = deque()
        self._life = incarnation
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._flights: list[Flight] = []
        self._stamp = incarnation << _INCARNATION_SHIFT
        self._away = False
        self._failures = 0
        self._retry_at: float | None = None
        self._burst_at: float | None = None

    @property
    def wakeup_at(self) -> float | None:
        if self._retry_at is None and self._has_peace():
            return self._burst_at
        return self._retry_at

    @property
    def waiting_since_mono(self) -> float | None:
        """Since when changes have waited to be confirmed or denied; see ``Arrears``."""
        return self._arrears.since_s

    def handle(self, message: Any, now: Moment) -> Sequence[Any]:
        match message:
            case Append():
                return self._append(message, now)
            case Fence():
                self._waiting.put(message)
                return () if self._flights else self._next(now)
            case Wake():
                return self._wake(now)
            case (
                BatchCommitted()
                | BatchUnavailable()
                | BatchRefused()
                | HeadsLoaded()
                | HeadsUnavailable()
            ):
                return self._told(message, now)
            case _:
                raise TypeError(f"the ledger does not understand {type(message).__name__}")

    def _append(self, request: Append, now: Moment) -> Sequence[Any]:
        if request.life != self._life:
            return ()
        self._waiting.put(request)
        self._arrears.grow(now.mono)
        self._pace.note(request.changes.tenant_id, now.mono)
        if self._burst_at is None and self._has_peace():
            beside = self._has_room() and self._waiting.may_leave(request)
            if beside or self._front_for(request.changes.tenant_id) is not None:
                self._burst_at = now.mono
        return ()

    def _told(self, message: Any, now: Moment) -> Sequence[Any]:
        """What the store says of a batch; of one that is no longer asked about, nothing follows."""
        flight = next((each for each in self._flights if each.stamp == message.stamp), None)
        if flight is None:
            return ()
        flight.stamp = 0
        if flight.front is not None and type(message) is BatchRefused:
            flight.void = True
        if flight.void:
            if type(message) is BatchCommitted:
                return [Abandon(why="a batch took effect behind one that was refused")]
            return self._number_anew(now)
        match message:
            case BatchCommitted():
                self._pace.learn(flight.entries, message.took_s)
                return self._committed(flight, now)
            case BatchRefused():
                return self._refused(flight, message.why, now)
            case HeadsLoaded():
                return self._heads_loaded(flight, message, now)
            case BatchUnavailable():
                flight.unknown = flight.unknown or message.unknown
                flight.tried = flight.tried or message.tried
                return self._wait(flight, message.why, now)
        return self._wait(flight, "heads could not be read", now)

    # ---- making a batch

    def _has_peace(self) -> bool:
        """Whether nothing in flight forbids to start a batch (I7, I8)."""
        return not any(flight.troubled or flight.void for flight in self._flights)

    def _has_room(self) -> bool:
        """Whether one more batch may go beside those in flight (I1)."""
        beside = sum(flight.front is None for flight in self._flights)
        return beside < self._limits.commits_in_flight_max

    def _front_for(self, tenant_id: str) -> Flight | None:
        """The batch that the next one of this tenant is to follow, if enough waits for that."""
        holder = self._waiting.holder(tenant_id)
        if holder is None:
            return None
        front = next(flight for flight in self._flights if flight.requests is holder)
        enough = min(front.entries, self._limits.follow_entries)
        if not enough or self._waiting.entries_of(tenant_id) < enough:
            return None
        may = tenant_id in front.heads and front.front is None and self._follower(front) is None
        return front if may else None

    def _follower(self, front: Flight) -> Flight | None:
        return next((flight for flight in self._flights if flight.front is front), None)

    def _next(self, now: Moment) -> list[Any]:
        """Start the next batches: beside others, then behind them."""
        commands: list[Any] = []
        if not self._has_peace():
            return commands
        self._burst_at = None
        suspects = bool(self._alone)
        if self._has_room() and (requests := self._compose(commands, now)):
            self._start(Flight(requests, again=suspects), commands)
        if self._alone:
            return commands
        for front in tuple(self._flights):
            if any(self._front_for(tenant_id) is front for tenant_id in front.heads) and (
                requests := self._waiting.compose_behind(
                    front.requests, front.heads, self._pace.bound(now.mono)
                )
            ):
                self._start(Flight(requests, front), commands)
        return commands

    def _start(self, flight: Flight, commands: list[Any]) -> None:
        self._flights.append(flight)
        commands.append(self._send(flight))

    def _compose(self, commands: list[Any], now: Moment) -> list[Append]:
        """What goes next, after the fences that have been reached; suspects go alone."""
        if self._alone:
            if not self._waiting.may_leave(self._alone[0]):
                return []
            suspect = [self._alone.popleft()]
            self._waiting.hold(suspect)
            return suspect
        if not self._flights:
            fences = self._waiting.take_fences()
            commands.extend(Answer(fence.ask_id, self._life) for fence in fences)
        return self._waiting.compose(self._pace.bound(now.mono))

    def _send(self, flight: Flight) -> LoadHeads | Write:
        """Ask the store for what a batch needs next: heads to number or to settle it by, or its
        commit."""
        self._stamp += 1
        flight.stamp = self._stamp
        batch = flight.batch
        if batch is None:
            left = () if flight.front is None else flight.front.heads
            if missing := [
                each for each in flight.tenant_ids if each not in self._heads and each not in left
            ]:
                return LoadHeads(stamp=self._stamp, tenant_ids=missing)
            batch = flight.number(self._heads)
        elif flight.unknown and flight.heads:
            return LoadHeads(stamp=self._stamp, tenant_ids=sorted(flight.heads))
        elif flight.unknown:
            batch = flight.doubt()
        flight.unknown = False
        return Write(stamp=self._stamp, batch=batch)

    def _send_again(self, flight: Flight) -> LoadHeads | Write:
        """Send what failed and follows none any more; half of it, if it was too much (I5)."""
        follower = self._follower(flight)
        is_over = follower is None or not follower.stamp
        is_settled = not (flight.unknown and flight.heads)
        if flight.tried and is_settled and is_over and len(flight.requests) > 1:
            self._divide(flight, follower)
        return self._send(flight)

    def _divide(self, flight: Flight, follower: Flight | None) -> None:
        """Put back half of it, and what followed the whole; it stays in trouble. One that moves no
        head and is in doubt goes on one by one, for each piece is then to be sent as such (I4)."""
        waiting = self._waiting
        if follower is not None:
            self._flights.remove(follower)
            waiting.release(follower.requests)
            waiting.put_back(follower.requests)
        self._pace.give_way(flight.load)
        waiting.release(flight.requests)
        if flight.again or flight.unknown:
            self._alone.extendleft(reversed(flight.divide(1)))
        else:
            waiting.put_back(flight.divide(len(flight.requests) // 2))
        waiting.hold(flight.requests)

    # ---- what became of it

    def _committed(self, flight: Flight, now: Moment) -> list[Any]:
        """It took effect, and so did the one that it follows, whatever the store says of that."""
        commands = [] if flight.front is None else self._confirm(flight.front)
        follower = self._follower(flight)
        commands.extend(self._confirm(flight))
        if follower is not None and not follower.stamp:
            commands.append(self._send_again(follower))
        commands.extend(self._next(now))
        return commands

    def _confirm(self, flight: Flight) -> list[Any]:
        assert flight.batch is not None
        commands = self._land(flight)
        self._arrears.pay(len(flight.requests))
        self._remember(flight.heads)
        commands.extend(
            Confirm(sender=request.sender, stamp=request.stamp, first_seq=first_seq)
            for request, first_seq in zip(flight.requests, flight.first_seqs, strict=True)
        )
        batch = flight.batch
        if batch.blocks or any(changes.logs for changes in batch.changes):
            commands.append(Publish(blocks=batch.blocks, changes=batch.changes))
        return commands

    def _refused(self, flight: Flight, why: str, now: Moment) -> list[Any]:
        if follower := self._follower(flight):
            follower.void = True
        commands = self._land(flight)
        if len(flight.requests) == 1:
            [request] = flight.requests
            self._arrears.pay(1)
            commands.append(Deny(sender=request.sender, stamp=request.stamp, why=why))
        else:
            self._alone.extend(flight.requests)
        commands.extend(self._number_anew(now))
        return commands

    def _number_anew(self, now: Moment) -> list[Any]:
        """Put back what is void and over (I8), and go on."""
        commands: list[Any] = []
        for flight in tuple(self._flights):
            if flight.void and not flight.stamp:
                commands.extend(self._land(flight))
                self._waiting.put_back(flight.requests)
        commands.extend(self._next(now))
        return commands

    def _heads_loaded(self, flight: Flight, message: HeadsLoaded, now: Moment) -> list[Any]:
        if flight.batch is not None:
            took_effect = flight.took_effect(message.heads, self._follower(flight))
            if took_effect is None:
                return [Abandon(why="another writer has moved the heads of tenants that are ours")]
            if took_effect:
                return self._committed(flight, now)
            flight.unknown = False
        else:
            self._remember(dict.fromkeys(message.tenant_ids, NEW) | message.heads)
        commands = self._back(flight)
        commands.append(self._send_again(flight))
        return commands

    def _wake(self, now: Moment) -> list[Any]:
        if self._retry_at is not None:
            if now.mono < self._retry_at:
                return []
            self._retry_at = None
            return [
                self._send_again(flight)
                for flight in tuple(self._flights)
                if flight.front is None and not flight.stamp
            ]
        if self._burst_at is None or now.mono < self._burst_at:
            return []
        return self._next(now)

    def _wait(self, flight: Flight, why: str, now: Moment) -> list[Any]:
        """Try this one again after a pause, together with others that are in trouble."""
        flight.troubled = True
        if self._retry_at is None:
            delay_s = min(self._limits.backoff_s_max, _BACKOFF_FIRST_S * 2**self._failures)
            self._failures = min(self._failures + 1, 16)
            self._retry_at = now.mono + delay_s
        if self._away:
            return []
        self._away = True
        return [ReportAway(why=why)]

    def _land(self, flight: Flight) -> list[Any]:
        """It is settled, or taken apart: its tenants may go on."""
        self._flights.remove(flight)
        if follower := self._follower(flight):
            follower.front = None
        self._waiting.release(flight.requests)
        if flight.front is not None:
            self._waiting.hold(flight.front.requests)
        return self._back(flight)

    def _back(self, flight: Flight) -> list[Any]:
        """The store has answered about this one (I7)."""
        flight.troubled = False
        if any(other.troubled for other in self._flights):
            return []
        self._failures = 0
        self._retry_at = None
        if not self._away:
            return []
        self._away = False
        return [ReportBack()]

    def _remember(self, heads: dict[str, Head]) -> None:
        for tenant_id, head in heads.items():
            self._heads[tenant_id] = head
            self._heads.move_to_end(tenant_id)
        while len(self._heads) > self._limits.heads_max:
            self._heads.popitem(last=False)
