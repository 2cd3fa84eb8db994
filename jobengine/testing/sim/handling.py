"""What a handler of a simulated worker says at its end, as the fate of the job has it.

Not here: how long it takes, and what befalls it (`worker`).
"""

from typing import Any, Final

import msgspec

from jobengine.sdk.session import Posted
from jobengine.testing.sim.fate import Fate
from jobengine.wire.engine_messages import Lease
from jobengine.wire.jobs import JobFailure, JobRequest
from jobengine.wire.worker_messages import Complete, Fail, Release

__all__ = ["failure", "outcome", "slip"]

_UNAVAILABLE: Final = 503


def outcome(lease: Lease, fate: Fate, named: dict[str, Any]) -> Posted:
    """The report of an attempt; `named` is its lease."""
    match fate.step(lease.failures):
        case "complete":
            result = msgspec.Raw(msgspec.json.encode(_result(fate)))
            return Complete(result=result, follow_ups=_follow_ups(lease, fate), **named)
        case "fail":
            return Fail(error=failure("Planned", fate), **named)
        case "fail_for_good":
            return Fail(error=failure("Planned", fate, retryable=False), **named)
        case "refused":
            pushed_back = failure("PushedBack", fate, http_status=_UNAVAILABLE)
            return Fail(error=pushed_back, **named)
        case "release":
            return Release(reason="as written", **named)


def failure(
    class_: str, fate: Fate, *, retryable: bool = True, http_status: int | None = None
) -> JobFailure:
    message = f"{class_} as written{slip(fate)}"
    return JobFailure(class_=class_, message=message, retryable=retryable, http_status=http_status)


def slip(fate: Fate) -> str:
    """How a secret gets into what people read."""
    return f" token={fate.secret}" if fate.secret else ""


def _result(fate: Fate) -> Any:
    return list(range(fate.items)) if fate.items else {"number": fate.number}


def _follow_ups(lease: Lease, fate: Fate) -> list[JobRequest]:
    """Jobs that complete at once; their numbers follow from that of the job they come from."""
    return [
        JobRequest(
            job_type=lease.job_type,
            payload=msgspec.Raw(
                msgspec.json.encode(
                    Fate(number=-(fate.number * 10 + each + 1), steps=("complete",))
                )
            ),
        )
        for each in range(fate.follow_ups)
    ]
