"""A world for what rate buckets learn: one bucket, an upstream with a hidden limit, virtual time.

As much work waits as the bucket lets through. A start is up to two milliseconds late, and the
bucket hears of a refusal a tenth of a second after it.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs

from bench.harness.hidden_limit import (
    FixedWindow,
    HiddenLimit,
    SlidingWindow,
    TokenBucket,
    whole_seconds,
)
from jobengine.core.rate_bucket import RateBucket
from jobengine.domain.instant import MILLISECOND, MINUTE, SECOND, Moment
from jobengine.messages.rate_bucket import (
    Adapted,
    BucketState,
    Configure,
    Learn,
    Limit,
    PushedBack,
    RateRequest,
    Reserve,
)

__all__ = ["EPOCH", "KINDS", "PER_MINUTE", "Learner", "Share", "follow"]

EPOCH = 1_790_000_000 * SECOND
PER_MINUTE = 1_000_000
_WANTED = (RateRequest("job", ("host",)),) * 2
_LATENCY_US = 100 * MILLISECOND
_LATE_US_MAX = 2 * MILLISECOND


class Learner:
    """One bucket, at the virtual instant ``us``."""

    def __init__(
        self, per_minute: int, burst: int, *, cooldown_s: int = 0, tenant_id: str = "acme"
    ) -> None:
        self.tenant_id = tenant_id
        self.limit = Limit(
            key="host",
            gate="rate",
            per_minute_micro=per_minute * PER_MINUTE,
            burst=burst,
            adaptive=True,
            cooldown_us=cooldown_s * SECOND,
        )
        self.us = 0
        self.begin({})

    def begin(self, states: dict[str, BucketState]) -> None:
        self.core = RateBucket(self.tenant_id)
        self.tell(Configure(tenant_id=self.tenant_id, limits=[self.limit], states=states))

    def tell(self, message: Any) -> Any:
        return self.core.handle(message, Moment(self.us / SECOND, EPOCH + self.us))

    def take(self) -> tuple[int, int]:
        """How many starts there were, and when the next may be."""
        (answer,) = self.tell(Reserve(tenant_id=self.tenant_id, stamp=1, requests=_WANTED))
        denied = [denial for denial in answer.denials if denial is not None]
        opens_at = denied[0].opens_at if denied else EPOCH + self.us
        assert opens_at is not None
        return len(_WANTED) - len(denied), opens_at - EPOCH

    def take_for(self, us: int) -> int:
        """Starts in a span, one as soon as it may be."""
        until, starts = self.us + us, 0
        while self.us < until:
            taken, next_us = self.take()
            starts += taken
            self.us = min(max(next_us, self.us + 1), until)
        return starts

    def push_back(self, retry_after_s: float | None = None, **more: Any) -> list[Adapted]:
        us = None if retry_after_s is None else round(retry_after_s * SECOND)
        return list(
            self.tell(
                PushedBack(
                    tenant_id=self.tenant_id,
                    key="host",
                    http_status=429,
                    retry_after_us=us,
                    **more,
                )
            )
        )

    def learn(self, per_minute: int | None, *, pinned: bool = False) -> Adapted:
        micro = None if per_minute is None else per_minute * PER_MINUTE
        (adapted,) = self.tell(
            Learn(tenant_id=self.tenant_id, key="host", learned_micro=micro, pinned=pinned)
        )
        assert isinstance(adapted, Adapted)
        return adapted


@attrs.define
class Share:
    """What became of the calls of a span in which ``allowed`` might have been served."""

    allowed: float
    served: int = 0
    refused: int = 0

    @property
    def used(self) -> float:
        return self.served / self.allowed

    @property
    def refusals(self) -> float:
        return self.refused / max(1, self.served + self.refused)


KINDS: Mapping[str, Callable[[], HiddenLimit]] = {
    "bucket of 2": lambda: TokenBucket(1, burst=2),
    "bucket of 10": lambda: TokenBucket(1, burst=10),
    "fixed 1 s": lambda: FixedWindow(1, window_us=SECOND),
    "sliding 1 s": lambda: SlidingWindow(1, window_us=SECOND),
    "sliding 10 s": lambda: SlidingWindow(1, window_us=10 * SECOND),
    "fixed 60 s": lambda: FixedWindow(1),
    "sliding 60 s": lambda: SlidingWindow(1),
}


def follow(
    upstream: HiddenLimit,
    phases: Sequence[int],
    *,
    header: bool,
    seed: int = 0,
    configured: int = 3_000,
    settle_us: int = 6 * MINUTE,
    measure_us: int = 6 * MINUTE,
) -> list[Share]:
    """Of each phase of a moving limit (calls a minute), what came of it after settling."""
    random = Random(seed)
    learner = Learner(configured, max(1, configured // 60), tenant_id=f"tenant-{seed}")
    learner.us = random.randrange(MINUTE)
    shares = []
    for per_minute in phases:
        upstream.per_minute = per_minute
        share = Share(per_minute * measure_us / MINUTE)
        _call(learner, upstream, None, learner.us + settle_us, header, random)
        _call(learner, upstream, share, learner.us + measure_us, header, random)
        shares.append(share)
    return shares


def _call(
    learner: Learner,
    upstream: HiddenLimit,
    share: Share | None,
    until: int,
    header: bool,
    random: Random,
) -> None:
    """Use all that the bucket lets through until an instant."""
    refusals: deque[tuple[int, int, int]] = deque()
    next_start = learner.us
    while True:
        learner.us = max(learner.us, min(next_start, refusals[0][0] if refusals else next_start))
        if learner.us >= until:
            learner.us = until
            return
        if refusals and refusals[0][0] <= learner.us:
            _, granted, stay_away_us = refusals.popleft()
            retry_after_s = whole_seconds(stay_away_us) if header else None
            learner.push_back(retry_after_s, granted_at=EPOCH + granted)
            continue
        starts, opens = learner.take()
        for _ in range(starts):
            wait_us = upstream.call(learner.us)
            if wait_us is not None:
                refusals.append((learner.us + _LATENCY_US, learner.us, wait_us))
            if share is not None:
                share.served += wait_us is None
                share.refused += wait_us is not None
        late_us = random.randrange(_LATE_US_MAX)
        next_start = learner.us + 1 if starts == len(_WANTED) else opens + late_us
