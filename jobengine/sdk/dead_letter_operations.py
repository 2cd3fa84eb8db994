"""What a client can ask about dead letters, and about redrives, which replay many of them.

Not here: the failed jobs themselves (`job_operations`).
"""

from collections.abc import Sequence

import attrs

from jobengine.sdk.exchange import Exchange, Operation, listed, member, query_of
from jobengine.wire.jobs import DeadLetterStateName, DeadLetterView, JobView, Page
from jobengine.wire.operating import (
    DeadLetterStats,
    DeadLetterSummary,
    RedriveFilter,
    RedriveRequest,
    RedriveView,
)

__all__ = ["DeadLetterOperations"]


@attrs.frozen
class DeadLetterOperations(Exchange):
    def dead_letters_page(
        self,
        *,
        state: DeadLetterStateName | Sequence[DeadLetterStateName] | None = None,
        job_type: str | None = None,
        queue: str | None = None,
        class_: str | None = None,
        signature: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[DeadLetterView]]:
        """One page of dead letters, newest first; filters must all hold."""
        query = query_of(
            state=listed(state),
            jobType=job_type,
            queue=queue,
            signature=signature,
            pageSize=page_size,
            pageToken=page_token,
            **{"class": class_},
        )
        return (yield from self._get("/deadletter", Page[DeadLetterView], query))

    def dead_letter(self, dead_letter_id: str) -> Operation[DeadLetterView]:
        """One dead letter as it is now."""
        return (
            yield from self._get(
                member("deadletter", "dead letter", dead_letter_id), DeadLetterView
            )
        )

    def replay_dead_letter(
        self, dead_letter_id: str, *, reason: str, ticket: str
    ) -> Operation[JobView]:
        """Create a new job from a dead letter; answers the new job."""
        path = f"{member('deadletter', 'dead letter', dead_letter_id)}:replay"
        return (yield from self._operate(path, JobView, reason, ticket))

    def retry_dead_letter(
        self, dead_letter_id: str, *, reason: str, ticket: str
    ) -> Operation[JobView]:
        """Schedule the failed job itself again; answers that job."""
        path = f"{member('deadletter', 'dead letter', dead_letter_id)}:retry"
        return (yield from self._operate(path, JobView, reason, ticket))

    def discard_dead_letter(
        self, dead_letter_id: str, *, reason: str, ticket: str
    ) -> Operation[DeadLetterView]:
        """Close a dead letter and run nothing."""
        path = f"{member('deadletter', 'dead letter', dead_letter_id)}:discard"
        return (yield from self._operate(path, DeadLetterView, reason, ticket))

    def dead_letter_stats(self) -> Operation[DeadLetterStats]:
        """Dead letters counted by state, class, job type, queue and error signature."""
        return (yield from self._get("/deadletter/stats", DeadLetterStats))

    def dead_letter_summary(
        self,
        *,
        job_type: str | None = None,
        queue: str | None = None,
        class_: str | None = None,
        signature: str | None = None,
        top: int | None = None,
    ) -> Operation[DeadLetterSummary]:
        """The commonest signatures of open dead letters: what a redrive of them would replay."""
        query = query_of(
            jobType=job_type, queue=queue, signature=signature, top=top, **{"class": class_}
        )
        return (yield from self._get("/deadletter/summary", DeadLetterSummary, query))

    def redrive(
        self,
        *,
        reason: str,
        ticket: str,
        job_type: str | None = None,
        queue: str | None = None,
        class_: str | None = None,
        signature: str | None = None,
        per_second: float = 10.0,
        letters_max: int | None = None,
    ) -> Operation[RedriveView]:
        """Begin to replay the open dead letters that match, all of them without a filter."""
        wanted = RedriveFilter(job_type=job_type, queue=queue, class_=class_, signature=signature)
        body = RedriveRequest(filter=wanted, per_second=per_second, max=letters_max)
        path = "/deadletter:redrive"
        return (yield from self._operate(path, RedriveView, reason, ticket, body))

    def redrives_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[RedriveView]]:
        """One page of redrives, newest first."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/deadletter/redrives", Page[RedriveView], query))

    def redrive_state(self, redrive_id: str) -> Operation[RedriveView]:
        """How far a redrive has come."""
        return (
            yield from self._get(member("deadletter/redrives", "redrive", redrive_id), RedriveView)
        )

    def pause_redrive(self, redrive_id: str, *, reason: str, ticket: str) -> Operation[RedriveView]:
        """Let a redrive rest."""
        path = f"{member('deadletter/redrives', 'redrive', redrive_id)}:pause"
        return (yield from self._operate(path, RedriveView, reason, ticket))

    def resume_redrive(
        self, redrive_id: str, *, reason: str, ticket: str
    ) -> Operation[RedriveView]:
        """Let a paused redrive go on."""
        path = f"{member('deadletter/redrives', 'redrive', redrive_id)}:resume"
        return (yield from self._operate(path, RedriveView, reason, ticket))

    def stop_redrive(self, redrive_id: str, *, reason: str, ticket: str) -> Operation[RedriveView]:
        """End a redrive for good; what it has replayed stays."""
        path = f"{member('deadletter/redrives', 'redrive', redrive_id)}:stop"
        return (yield from self._operate(path, RedriveView, reason, ticket))
