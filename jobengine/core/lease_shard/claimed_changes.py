"""Changes under an idempotency key: begun at once, or when it is known that the key is new.

I1  A change is carried out once for its key: a repeat is answered from what was stored with it.
I2  Every change that was begun is carried out, answered, or refused when nothing could be read.

Not here: what a change is and what is stored of it (``administration``, ``controls``).
"""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from jobengine.core.lease_shard.claims import settle_claim
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.lease_shard.submits import Submitter
from jobengine.core.machine import Answer
from jobengine.domain.errors import Refusal
from jobengine.messages.lease_shard import IdempotencyClaim
from jobengine.messages.shard_commands import ClaimsWanted, LoadSubjects, SubjectsLoaded

__all__ = ["ClaimedChanges"]


class _Change(Protocol):
    @property
    def ask_id(self) -> int: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def claim(self) -> IdempotencyClaim | None: ...


C = TypeVar("C", bound=_Change)


class ClaimedChanges(Generic[C]):
    """``carry_out`` decides a change; ``replay`` answers a repeat from what was stored."""

    def __init__(
        self,
        state: ShardState,
        submitter: Submitter,
        carry_out: Callable[[C], None],
        replay: Callable[[C, bytes | None], Any],
    ) -> None:
        self._state = state
        self._submitter = submitter
        self._carry_out = carry_out
        self._replay = replay
        self._reading: dict[int, C] = {}

    def begin(self, change: C) -> None:
        claim = change.claim
        if claim is None:
            self._carry_out(change)
            return
        if not self._submitter.claims.take(change.ask_id, change.tenant_id, claim):
            return
        state = self._state
        stamp = state.stamp()
        self._reading[stamp] = change
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=change.tenant_id,
                claims=ClaimsWanted(idempotency=((claim.key, claim.path),)),
                now_at=state.now.at,
            )
        )

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Go on; None when the stamp is not ours."""
        change = self._reading.pop(message.stamp, None)
        if change is None:
            return None
        assert change.claim is not None
        settled = settle_claim(change.claim, message)
        if settled is None:
            self._carry_out(change)
        elif isinstance(settled, Refusal):
            self.answer(change, settled)
        else:
            self.answer(change, self._replay(change, settled.stored))
        return []

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        change = self._reading.pop(stamp, None)
        if change is None:
            return None
        self.answer(change, refusal)
        return []

    def answer(self, change: C, value: Any) -> None:
        """Answer without a commit, and let go of the key."""
        self._state.commands.append(Answer(change.ask_id, value))
        claim = change.claim
        if claim is not None:
            self._submitter.claims.release([(change.tenant_id, claim.key, claim.path)])
