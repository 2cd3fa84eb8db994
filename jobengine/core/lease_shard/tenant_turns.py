"""Tenant turns: while a large change of one tenant is decided, others are served and its own wait.

A tenant is *closed* from when a change of it is begun that takes several slices until that is
decided and what came meanwhile is handled. Closed tenants take turns, one a wake-up: a slice of the
change that is open, else some of what waits.

I1  What concerns a closed tenant is handled in the order in which it came, behind its change.
I2  No other tenant waits for longer than a slice of each that is closed.
I3  The requests that wait of one tenant are bounded; one too many is refused. Not what a planner
    asks: its runs bound that, and it would come again.
I4  Whether a lease of a closed tenant has expired is judged in its turn, behind the heartbeats that
    came before.

What names no tenant passes: the ledger's being away, levels of load, rows that were read. None of
it frees a place or takes a control away, so a start that is decided later in the change breaks no
limit of the instant it is recorded under.

Not here: the slices themselves (``slices``).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from jobengine.core.lease_shard.slices import Slices
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.messages.lease_shard import SubmitJobs
from jobengine.messages.runs import CarryOut
from jobengine.messages.shard_commands import Committed
from jobengine.messages.worker_reports import Attach, Reports

__all__ = ["TenantTurns"]

_FULL: Final = Refusal(ErrorCode.OVERLOADED, "too many requests are waiting; retry later")


class TenantTurns:
    """``handle`` handles one message, and returns what may be handled again now."""

    def __init__(
        self, state: ShardState, slices: Slices, handle: Callable[[Any], Sequence[Any]]
    ) -> None:
        self._state = state
        self._slices = slices
        self._handle = handle
        # In the order in which their turns come.
        self._lines: OrderedDict[str, deque[Any]] = OrderedDict()
        self._attaching: dict[int, str] = {}

    @property
    def wakeup_at(self) -> float | None:
        """Now, while a tenant is closed."""
        return self._state.now.mono if self._lines else None

    def keep(self, message: Any) -> bool:
        """Whether a message has to wait, and was put behind what its tenant waits for."""
        if not self._lines:
            return False
        tenant_id = self._tenant_of(message)
        line = None if tenant_id is None else self._lines.get(tenant_id)
        if line is None:
            return False
        if isinstance(message, Attach):
            self._attaching[message.session_id] = message.tenant_id
        elif len(line) >= self._state.limits.line_messages_max and type(message) is not CarryOut:
            ask_id = getattr(message, "ask_id", None)
            if ask_id is not None:
                self._state.commands.append(Answer(ask_id, _FULL))
                return True
        line.append(message)
        return True

    def close(self) -> None:
        """Close the tenants of changes that were begun in this message."""
        for tenant_id in self._state.deciding:
            if tenant_id not in self._lines:
                self._lines[tenant_id] = deque()

    def take(self) -> None:
        """Give the tenant whose turn it is its slice."""
        if not self._lines:
            return
        deciding = self._state.deciding
        tenant_id, line = next(iter(self._lines.items()))
        self._lines.move_to_end(tenant_id)
        if tenant_id in deciding:
            line.extendleft(reversed(self._slices.go_on(tenant_id)))
        room = 0 if tenant_id in deciding else self._state.limits.slice_jobs
        while line and room > 0 and tenant_id not in deciding:
            message = line.popleft()
            room -= _size(message)
            if isinstance(message, Attach):
                self._attaching.pop(message.session_id, None)
            line.extendleft(reversed(self._handle(message)))
        if not line and tenant_id not in deciding:
            del self._lines[tenant_id]

    def _tenant_of(self, message: Any) -> str | None:
        """Whom a message concerns; None when that is no single tenant."""
        if type(message) is Committed:
            pending = self._state.pending.get(message.stamp)
            return None if pending is None else pending.tenant_id
        tenant_id: str | None = getattr(message, "tenant_id", None)
        if tenant_id is not None:
            return tenant_id
        session_id = getattr(message, "session_id", None)
        if session_id is None:
            return None
        session = self._state.sessions.get(session_id)
        return self._attaching.get(session_id) if session is None else session.tenant_id


def _size(message: Any) -> int:
    """What handling a message takes, in jobs to decide on."""
    match message:
        case SubmitJobs():
            return len(message.jobs)
        case Reports():
            return len(message.reports)
        case _:
            return 1
