"""What a session knows of its connection, and the few verbs that both of its sides share.

Decides nothing by itself: what the worker says is `session_worker`'s, what the shard and the engine
say is `session`'s.
"""

from collections.abc import Sequence
from typing import Any, Final

import attrs

from jobengine.core.outstanding import Outstanding
from jobengine.messages.session import Greeted, HangUp, Peer
from jobengine.messages.worker_reports import Attach, Detach, LeaseClaim

__all__ = ["GOING_AWAY", "POLICY_VIOLATION", "TOKEN_ENDED", "SessionLimits", "SessionState"]

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
TOKEN_ENDED: Final = 4401
"""Of the codes for private use (RFC 6455 §7.4.2); the protocol names it."""
_NOBODY: Final = Peer(tenant_id="", subject="", scopes=frozenset())


@attrs.frozen(kw_only=True)
class SessionLimits:
    """Times in seconds.

    ``silent_s_max`` is longer than three heartbeats, since a worker that holds nothing may beat
    every third time only. ``errors_max`` bounds the answers to one frame. ``unsettled_max``: past
    it the worker is not read from until the shard has answered.
    """

    hello_s_max: float = 10.0
    silent_s_max: float = 40.0
    strikes_max: int = 5
    strikes_window_s: float = 60.0
    errors_max: int = 100
    submits_max: int = 64
    unsettled_max: int = 10_000


@attrs.define(eq=False)
class SessionState:
    """``commands``: what was decided and not yet handed out. ``submits``: how many are unanswered.
    ``stop_mono``: when the engine hangs up, once it stops."""

    session_id: int
    limits: SessionLimits
    ended: bool = False
    peer: Peer = _NOBODY
    hello: Greeted | None = None
    welcomed: bool = False
    draining: bool = False
    opened_at: int = 0
    heard_mono: float = 0.0
    stop_mono: float | None = None
    submits: int = 0
    outstanding: Outstanding = attrs.field(factory=Outstanding)
    commands: list[Any] = attrs.field(factory=list)

    def attach(self, hello: Greeted, resume: Sequence[LeaseClaim]) -> None:
        self.commands.append(
            Attach(
                session_id=self.session_id,
                tenant_id=self.peer.tenant_id,
                worker_id=hello.worker_id,
                task_runner_id=hello.task_runner_id,
                queues=hello.queues,
                job_types=hello.job_types,
                capacity=hello.capacity,
                auto_credit=hello.auto_credit,
                connected_at=self.opened_at,
                resume=resume,
            )
        )

    def stop_when_idle(self) -> None:
        if self.stop_mono is not None and not self.outstanding and not self.submits:
            self.hang_up(GOING_AWAY, "the engine stops")

    def hang_up(self, code: int, reason: str) -> None:
        if not self.ended:
            self.leave()
            self.commands.append(HangUp(code=code, reason=reason))

    def leave(self) -> None:
        self.ended = True
        if self.hello is not None:
            self.commands.append(Detach(session_id=self.session_id))
