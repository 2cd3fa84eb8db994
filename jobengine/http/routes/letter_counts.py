"""Dead letters in bulk: how many there are of what, all projects of the tenant together."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from jobengine.domain.change import DeadLetterState
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.rendering import dead_letter_view, json_answer
from jobengine.http.route import Call, NoQuery
from jobengine.http.route_shapes import reading
from jobengine.http.routes.jobs import Filter
from jobengine.store.port import DeadLetterFilter, LetterGroup
from jobengine.wire.operating import (
    DeadLetterStats,
    DeadLetterSummary,
    RedriveFilter,
    SignatureCount,
    SignatureGroup,
)

__all__ = ["LETTERS_MAX", "ROUTES", "open_letters"]

LETTERS_MAX: Final = 50_000
"""Letters that one count looks at, the newest first."""
_GROUPS_MAX: Final = 50


class SummaryQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Filters that must all hold; `top` signatures are shown."""

    job_type: Filter | None = None
    queue: Filter | None = None
    class_: Filter | None = msgspec.field(name="class", default=None)
    signature: Filter | None = None
    top: Annotated[int, msgspec.Meta(ge=1, le=_GROUPS_MAX)] = 10


async def count_dead_letters(call: Call[NoQuery, None]) -> Answer:
    store = call.front.gateway.store
    found = await store.dead_letter_groups(
        call.tenant_id, DeadLetterFilter(), LETTERS_MAX, _GROUPS_MAX
    )
    return json_answer(
        DeadLetterStats(
            letters=found.letters,
            open=found.open,
            complete=found.looked_at < LETTERS_MAX,
            by_state=_counts(found.by_state),
            by_class=_counts(found.by_class),
            by_job_type=_counts(found.by_job_type),
            by_queue=_counts(found.by_queue),
            signatures=[
                SignatureCount(
                    signature=group.value,
                    letters=group.letters,
                    open=group.open,
                    first_at=to_rfc3339(group.first_at),
                    last_at=to_rfc3339(group.last_at),
                )
                for group in found.by_signature
            ],
        )
    )


async def summarise_dead_letters(call: Call[SummaryQuery, None]) -> Answer:
    query, store = call.query, call.front.gateway.store
    wanted = open_letters(
        RedriveFilter(
            job_type=query.job_type,
            queue=query.queue,
            class_=query.class_,
            signature=query.signature,
        )
    )
    found = await store.dead_letter_groups(call.tenant_id, wanted, LETTERS_MAX, query.top)
    items = []
    for group in found.by_signature:
        row = await store.dead_letter(call.tenant_id, group.newest_id or "")
        if row is not None:
            sample = dead_letter_view(row)
            items.append(
                SignatureGroup(
                    signature=group.value,
                    class_=sample.class_,
                    job_type=sample.job_type,
                    letters=group.letters,
                    first_at=to_rfc3339(group.first_at),
                    last_at=to_rfc3339(group.last_at),
                    sample=sample,
                )
            )
    complete = found.looked_at < LETTERS_MAX
    return json_answer(DeadLetterSummary(letters=found.letters, complete=complete, items=items))


def open_letters(wanted: RedriveFilter) -> DeadLetterFilter:
    return DeadLetterFilter(
        states=frozenset({DeadLetterState.OPEN}),
        job_type=wanted.job_type,
        queue=wanted.queue,
        class_=wanted.class_,
        signature=wanted.signature,
    )


def _counts(groups: Sequence[LetterGroup]) -> dict[str, int]:
    return {group.value: group.letters for group in groups}


ROUTES: Final = (
    reading(
        "/deadletter/stats",
        "countDeadLetters",
        "Count dead letters by state, class, job type, queue and error signature",
        count_dead_letters,
        DeadLetterStats,
    ),
    reading(
        "/deadletter/summary",
        "summariseDeadLetters",
        "Show the commonest error signatures of open dead letters, with a sample of each",
        summarise_dead_letters,
        DeadLetterSummary,
        query=SummaryQuery,
    ),
)
