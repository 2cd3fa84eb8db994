"""What waits for a commit: in order within a tenant, fair between tenants, in bounded batches.

Decides what the next batch of the ledger holds.

I1  The changes of one tenant leave in the order in which they came. A tenant is *held* by the batch
    on its way that took changes of it last, until that is settled; more of them leave only in a
    batch that is to follow that one.
I2  Tenants that wait at the same time share a batch by entries, in deficit round robin
    (``deficit_ring``), so one who sends little passes those who send much; if a tenant waits that
    is not held, the batch is not empty, however large its first change is.
I3  A fence keeps its place: all that came before it leaves first, nothing that came after it does.
I4  While tenants share the ledger, a batch is small enough that its commit takes about
    ``target_s``: who comes next waits for one such commit. Only a single change can be larger,
    for a change is never divided. A tenant that is alone has large batches, which cost less.
    Whoever shares it, a batch is within its bound in octets too.
I5  One batch on its way at most changes credentials: their positions span tenants, and whoever
    reads on from a position must not pass over one that becomes visible later.

Not here: what a change weighs (``commit_weight``), numbers, links, what becomes of a batch
(``ledger``).
"""

from collections import deque
from collections.abc import Container, Sequence
from typing import Final, TypeAlias

from jobengine.core.commit_weight import Load, octets_of
from jobengine.core.deficit_ring import DeficitRing
from jobengine.messages.ledger import Append, Fence

__all__ = ["Arrears", "CommitPace", "CommitQueue"]

_SHARED_S: Final = 5.0
_REGAINED: Final = 1 / 16
"""Of the largest batch, with each commit."""

_Weighed: TypeAlias = tuple[Append, int, int]
"""A change with its entries and octets, which are counted once, when it comes."""


class CommitQueue:
    """``len`` counts the changes that wait, those behind a fence included.

    ``turn_entries`` are a tenant's at its turn, until it has to let others go first: some small
    changes, and a small part of any batch.
    """

    def __init__(self, turn_entries: int) -> None:
        self._by_tenant: dict[str, deque[_Weighed]] = {}
        self._turns: DeficitRing[str] = DeficitRing(turn_entries)
        self._behind: deque[Append | Fence] = deque()
        self._open = 0
        self._entries: dict[str, int] = {}
        self._held: dict[str, Sequence[Append]] = {}
        self._credentials_held = False

    def __len__(self) -> int:
        return self._open + sum(type(message) is Append for message in self._behind)

    def put(self, message: Append | Fence) -> None:
        if self._behind or type(message) is Fence:
            self._behind.append(message)
        else:
            assert isinstance(message, Append)
            self._admit(message)

    def take_fences(self) -> list[Fence]:
        """The fences before which nothing waits; what waited behind them moves up."""
        taken: list[Fence] = []
        while not self._open and self._behind:
            message = self._behind.popleft()
            if isinstance(message, Fence):
                taken.append(message)
                continue
            self._admit(message)
            while self._behind and isinstance(message := self._behind[0], Append):
                self._behind.popleft()
                self._admit(message)
        return taken

    def compose(self, bound: Load) -> list[Append]:
        """Take the next batch: up to the bound, or to the next fence; one change at least, if any
        may leave. It holds its tenants from now on."""
        batch = self._take(bound, None)
        self.hold(batch)
        return batch

    def compose_behind(
        self, behind: Sequence[Append], moved: Container[str], bound: Load
    ) -> list[Append]:
        """Take the batch that follows ``behind``, of the same tenants and of others that may leave.
        None is taken that has no entry of a tenant whose head that one has ``moved``: it would not
        depend on it."""
        for request in behind:
            self._offer(request.changes.tenant_id)
        batch = self._take(bound, behind)
        for request in batch:
            if request.changes.tenant_id in moved and request.changes.entries_total():
                self.hold(batch)
                return batch
        self.put_back(batch)
        return []

    def _take(self, bound: Load, behind: Sequence[Append] | None) -> list[Append]:
        batch: list[Append] = []
        entries = octets = 0
        turns, by_tenant = self._turns, self._by_tenant
        while len(batch) < bound.requests and (turn := turns.peek()) is not None:
            waiting = by_tenant[turn.key]
            request, its_entries, its_octets = waiting[0]
            if not self.may_leave(request, behind):
                turns.withhold(turn.key)
                continue
            entries += its_entries
            octets += its_octets
            if batch and (entries > bound.entries or octets > bound.octets):
                break
            batch.append(request)
            waiting.popleft()
            turns.charge(turn)
            if waiting:
                self._entries[turn.key] -= its_entries
                turns.offer(turn.key, _cost(waiting[0]))
            else:
                turns.drop(turn.key)
                del by_tenant[turn.key], self._entries[turn.key]
        self._open -= len(batch)
        return batch

    def may_leave(self, request: Append, behind: Sequence[Append] | None = None) -> bool:
        """Whether no batch on its way stands against it but the one that it is to follow."""
        if self._credentials_held and _has_credentials(request):
            return False
        holder = self._held.get(request.changes.tenant_id)
        return holder is None or holder is behind

    def holder(self, tenant_id: str) -> Sequence[Append] | None:
        """The batch that holds a tenant."""
        return self._held.get(tenant_id)

    def entries_of(self, tenant_id: str) -> int:
        """How many entries of a tenant wait, those behind a fence left out."""
        return self._entries.get(tenant_id, 0)

    def hold(self, batch: Sequence[Append]) -> None:
        """These are on their way: what waits of their tenants stays, until they are settled."""
        for request in batch:
            self._held[request.changes.tenant_id] = batch
            self._credentials_held = self._credentials_held or _has_credentials(request)

    def put_back(self, batch: Sequence[Append]) -> None:
        """These go first of their tenants, as if they had never left."""
        for request in reversed(batch):
            self._admit(request, first=True)

    def release(self, batch: Sequence[Append]) -> None:
        """These are settled, or are to be sent again one by one."""
        credentials = False
        for request in batch:
            tenant_id = request.changes.tenant_id
            credentials = credentials or _has_credentials(request)
            if self._held.get(tenant_id) is batch:
                del self._held[tenant_id]
                self._offer(tenant_id)
        if credentials:
            self._credentials_held = False
            for tenant_id in self._by_tenant:
                self._offer(tenant_id)

    def _offer(self, tenant_id: str) -> None:
        waiting = self._by_tenant.get(tenant_id)
        if waiting is not None:
            self._turns.offer(tenant_id, _cost(waiting[0]))

    def _admit(self, request: Append, *, first: bool = False) -> None:
        self._open += 1
        tenant_id = request.changes.tenant_id
        entries = request.changes.entries_total()
        weighed = (request, entries, octets_of(request.changes, entries))
        waiting = self._by_tenant.get(tenant_id)
        if waiting is None:
            self._by_tenant[tenant_id] = deque((weighed,))
            self._entries[tenant_id] = entries
            self._offer(tenant_id)
            return
        self._entries[tenant_id] += entries
        if first:
            waiting.appendleft(weighed)
            self._offer(tenant_id)
        else:
            waiting.append(weighed)


class Arrears:
    """Since when changes have waited: those that wait are taken to be the last ones that came.

    So it tells how far the commits are behind, whose changes ever go first. Seconds are monotonic.
    """

    def __init__(self) -> None:
        self._bursts: deque[tuple[float, int]] = deque()
        self._came = 0
        self._paid = 0

    @property
    def since_s(self) -> float | None:
        """None while nothing waits."""
        return self._bursts[0][0] if self._bursts else None

    def grow(self, now_s: float) -> None:
        """A change has come."""
        if not self._bursts or self._bursts[-1][0] != now_s:
            self._bursts.append((now_s, self._came))
        self._came += 1

    def pay(self, count: int) -> None:
        """So many wait no longer."""
        self._paid += count
        bursts = self._bursts
        while len(bursts) > 1 and bursts[1][1] <= self._paid:
            bursts.popleft()
        if self._paid == self._came:
            bursts.clear()


class CommitPace:
    """How much a batch may hold: additive increase, multiplicative decrease.

    ``most`` bounds a batch of a tenant that is alone. While tenants share the ledger, which they do
    until only one of them has sent changes for 5 s, the entries lie between ``entries_min`` and
    that, and follow the measured time of commits. After a batch that was more than the store could
    do all bounds are a part of these, which grows with each commit.
    """

    def __init__(self, entries_min: int, most: Load, target_s: float) -> None:
        self._min = min(entries_min, most.entries)
        self._most = most
        self._part = 1.0
        self._target_s = target_s
        self._bound = self._min
        self._last_tenant: str | None = None
        self._shared_until_s: float | None = None

    def note(self, tenant_id: str, now_s: float) -> None:
        """A tenant sends a change; ``now_s`` is monotonic."""
        if tenant_id != self._last_tenant:
            if self._last_tenant is not None:
                self._shared_until_s = now_s + _SHARED_S
            self._last_tenant = tenant_id

    def bound(self, now_s: float) -> Load:
        """Of a batch that is composed now."""
        until_s = self._shared_until_s
        bound = self._most
        if until_s is not None and now_s <= until_s:
            bound = bound._replace(entries=self._bound)
        if self._part < 1.0:
            bound = Load(*(max(1, int(each * self._part)) for each in bound))
        return bound

    def give_way(self, carried: Load) -> None:
        """A batch was more than the store could do: the next ones carry half as much."""
        used = max(its / most for its, most in zip(carried, self._most, strict=True))
        self._part = max(min(self._part, used) / 2, 1 / self._most.requests)

    def learn(self, entries: int, took_s: float) -> None:
        """The commit of a batch took so long.

        One that used less than half of the bound says nothing about it, nor does a single change
        that is larger.
        """
        self._part = min(1.0, self._part + _REGAINED)
        if not self._bound <= 2 * entries <= 2 * self._bound:
            return
        if took_s > self._target_s:
            self._bound = max(self._min, self._bound // 2)
        else:
            self._bound = min(self._most.entries, self._bound + self._min)


def _cost(weighed: _Weighed) -> int:
    return max(1, weighed[1])


def _has_credentials(request: Append) -> bool:
    return bool(request.changes.api_keys or request.changes.revocations)
