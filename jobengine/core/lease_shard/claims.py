"""What requests claim while they are decided: idempotency keys, and unique keys of jobs.

I1  Of the requests under way, at most one holds an idempotency key, and at most one a unique key. A
    second request under an idempotency key is refused; for a unique key it waits, behind at most
    ``waiting_requests_max`` others.
I2  What a claim has come to is stored in the commit of its effect.

Not here: what is done under a claim (``submits``, ``operations``, ``controls``), which jobs hold a
key (the store).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.domain.change import IdempotencyRow, UniqueRow
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import FINAL, Job, State
from jobengine.messages.lease_shard import IdempotencyClaim, SubmitAnswer
from jobengine.messages.shard_commands import SubjectsLoaded

__all__ = [
    "Claims",
    "KeyFreed",
    "let_go_of_key",
    "refuse_crowd",
    "settle_claim",
    "store_claim",
]


@attrs.frozen
class KeyFreed:
    """A unique key may be free for who waits for it."""

    tenant_id: str
    key: str


class Claims:
    """Unique keys are by tenant and key; idempotency keys by tenant, key and path."""

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._keys_held: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], deque[Any]] = {}
        self._claims_busy: set[tuple[str, str, str]] = set()

    def take(self, ask_id: int, tenant_id: str, claim: IdempotencyClaim | None) -> bool:
        """Take an idempotency key while its request is decided; False when it was refused."""
        if claim is None:
            return True
        name = (tenant_id, claim.key, claim.path)
        if name in self._claims_busy:
            self._state.commands.append(
                Answer(
                    ask_id,
                    Refusal(
                        ErrorCode.IDEMPOTENCY_IN_PROGRESS,
                        "a request with this Idempotency-Key is still being carried out; "
                        "repeat it later",
                    ),
                )
            )
            return False
        self._claims_busy.add(name)
        return True

    def release(self, claims: Iterable[tuple[str, str, str]]) -> None:
        """Their commits have returned."""
        self._claims_busy.difference_update(claims)

    def waits(self, tenant_id: str, keys: Sequence[str], message: Any) -> bool:
        """Whether one of these unique keys is held: the message is handled again afterwards."""
        for key in keys:
            name = (tenant_id, key)
            if name in self._keys_held:
                self._waiting.setdefault(name, deque()).append(message)
                return True
        return False

    def crowded(self, ask_id: int, tenant_id: str, keys: Sequence[str]) -> bool:
        """Whether no more requests may wait for one of these keys; then this one was refused."""
        waiting_max = self._state.limits.waiting_requests_max
        for key in keys:
            if len(self._waiting.get((tenant_id, key), ())) >= waiting_max:
                self._state.commands.append(Answer(ask_id, refuse_crowd(waiting_max)))
                return True
        return False

    def hold_keys(self, tenant_id: str, keys: Sequence[str]) -> None:
        self._keys_held.update((tenant_id, key) for key in keys)

    def release_keys(self, keys: Iterable[tuple[str, str]]) -> list[Any]:
        """Unique keys whose commit has returned; who waits for them goes on, one by one."""
        freed = list(keys)
        self._keys_held.difference_update(freed)
        return [KeyFreed(*key) for key in freed if key in self._waiting]

    def go_on(self, freed: KeyFreed) -> list[Any]:
        """The first message that waits for a key may be handled, if nobody holds it; then the next,
        if still nobody does."""
        name = (freed.tenant_id, freed.key)
        waiting = self._waiting.get(name)
        if waiting is None or name in self._keys_held:
            return []
        first = waiting.popleft()
        if waiting:
            return [first, freed]
        del self._waiting[name]
        return [first]


def refuse_crowd(waiting_max: int) -> Refusal:
    return Refusal(
        ErrorCode.OVERLOADED,
        f"{waiting_max} requests for the same key or job are waiting already; send one at a time, "
        "and retry later",
    )


def settle_claim(claim: IdempotencyClaim, read: SubjectsLoaded) -> SubmitAnswer | Refusal | None:
    """The stored answer to a repeated request, a mismatch, or None for a first request."""
    row = read.answers.get((claim.key, claim.path))
    if row is None:
        return None
    if row.body_digest != claim.body_digest:
        return Refusal(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            "this Idempotency-Key was used for a request with another body; use a new key",
            {"key": claim.key},
        )
    return SubmitAnswer(outcomes=(), jobs=(), stored=bytes(row.answer), replayed=True)


def store_claim(
    draft: Draft, pending: Pending, tenant_id: str, claim: IdempotencyClaim, facts: bytes
) -> None:
    """Store a request's answer in the commit of its effect."""
    draft.changes.idempotency.append(
        IdempotencyRow(
            tenant_id=tenant_id,
            key=claim.key,
            path=claim.path,
            body_digest=claim.body_digest,
            answer=msgspec.Raw(facts),
            at=draft.at,
        )
    )
    pending.claims.append((tenant_id, claim.key, claim.path))


def _gives_up_key(job: Job) -> bool:
    """Whether a job in this state stops holding its unique key of scope ``active``."""
    definition = job.definition
    return (
        definition.unique_key is not None
        and definition.unique_scope == "active"
        and (job.state in FINAL or job.state is State.FAILED)
    )


def let_go_of_key(draft: Draft, job: Job) -> None:
    """Free the unique key of a job that holds it no longer, in the commit that ends the job."""
    if _gives_up_key(job):
        draft.changes.unique.append(
            UniqueRow(
                tenant_id=job.tenant_id,
                key=job.definition.unique_key or "",
                job_id=job.job_id,
                dropped=True,
            )
        )
