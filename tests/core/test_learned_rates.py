"""How a bucket learns what an upstream bears: rules one by one, then against upstreams.

The upstreams hide a limit that moves; virtual time, one key, as much work as is let through.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import attrs
import pytest

from jobengine.core.rate_bucket import RateBucket, refill_in_force
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
from tests.core.upstreams import (
    FixedWindow,
    SlidingWindow,
    TokenBucket,
    Upstream,
    whole_seconds,
)

EPOCH = 1_790_000_000 * SECOND
PER_MINUTE = 1_000_000
WANTED = (RateRequest("job", ("host",)),) * 8


class Learner:
    def __init__(self, per_minute: int, burst: int, *, cooldown_s: int = 0) -> None:
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
        self.core = RateBucket("acme")
        self.tell(Configure(tenant_id="acme", limits=[self.limit], states=states))

    def tell(self, message: Any) -> Any:
        return self.core.handle(message, Moment(self.us / SECOND, EPOCH + self.us))

    def take(self) -> tuple[int, int | None]:
        """How many starts there were, and when the next may be."""
        (answer,) = self.tell(Reserve(tenant_id="acme", stamp=1, requests=WANTED))
        denied = [denial for denial in answer.denials if denial is not None]
        opens_at = denied[0].opens_at if denied else EPOCH + self.us
        return len(WANTED) - len(denied), None if opens_at is None else opens_at - EPOCH

    def take_for(self, us: int) -> int:
        """Starts in a span, one as soon as it may be."""
        until, starts = self.us + us, 0
        while self.us < until:
            taken, next_us = self.take()
            starts += taken
            self.us = until if next_us is None else min(max(next_us, self.us + 1), until)
        return starts

    def push_back(self, retry_after_s: float | None = None, **more: Any) -> list[Adapted]:
        us = None if retry_after_s is None else round(retry_after_s * SECOND)
        return list(
            self.tell(
                PushedBack(tenant_id="acme", key="host", http_status=429, retry_after_us=us, **more)
            )
        )

    def learn(self, per_minute: int | None, *, pinned: bool = False) -> Adapted:
        micro = None if per_minute is None else per_minute * PER_MINUTE
        (adapted,) = self.tell(
            Learn(tenant_id="acme", key="host", learned_micro=micro, pinned=pinned)
        )
        assert isinstance(adapted, Adapted)
        return adapted


def test_a_push_back_halves_at_once_and_leaves_no_burst() -> None:
    learner = Learner(600, 100)
    (adapted,) = learner.push_back()
    assert (adapted.from_micro, adapted.to_micro) == (600 * PER_MINUTE, 300 * PER_MINUTE)
    assert adapted.cause == "HTTP 429"
    assert learner.take() == (0, 200 * MILLISECOND)


def test_retry_after_is_honoured_to_the_microsecond_and_followed_by_one_start() -> None:
    learner = Learner(6000, 100)
    (adapted,) = learner.push_back(retry_after_s=7.5)
    assert adapted.state.open_at == EPOCH + 7_500_000
    assert learner.take() == (0, 7_500_000)
    learner.us = 7_500_000
    assert learner.take()[0] == 1


def test_push_backs_of_one_episode_halve_once_and_put_off_the_next_start() -> None:
    learner = Learner(600, 100)
    learner.take()
    learner.push_back(retry_after_s=2)
    learner.us += SECOND
    (later,) = learner.push_back(retry_after_s=5)
    assert later.from_micro == later.to_micro == 300 * PER_MINUTE
    assert learner.take() == (0, 6 * SECOND)
    assert learner.push_back(retry_after_s=0.5) == []


def test_a_start_from_before_the_halving_does_not_halve_again() -> None:
    learner = Learner(600, 100)
    granted_at = EPOCH + learner.us
    learner.push_back()
    learner.us += SECOND
    learner.take_for(20 * SECOND)
    assert learner.push_back(granted_at=granted_at) == []
    (adapted,) = learner.push_back(granted_at=EPOCH + learner.us)
    assert adapted.to_micro == adapted.from_micro // 2


def test_a_refusal_of_the_first_new_starts_pauses_longer_each_time_instead_of_halving() -> None:
    """An upstream whose window is used up refuses at any rate until it begins anew."""
    learner = Learner(600, 100)
    learner.push_back()
    pauses = []
    for _ in range(4):
        while not learner.take()[0]:
            learner.us = learner.take()[1] or 0
        (adapted,) = learner.push_back()
        assert adapted.to_micro >= 300 * PER_MINUTE
        pauses.append(adapted.state.open_at - EPOCH - learner.us)
    assert pauses == [1 * SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND]


def test_after_a_push_back_nothing_starts_within_the_cooldown() -> None:
    learner = Learner(600, 100, cooldown_s=30)
    learner.push_back(retry_after_s=1)
    assert learner.take() == (0, 30 * SECOND)


def test_the_refill_recovers_to_the_configured_rate_and_never_above() -> None:
    learner = Learner(600, 100)
    learner.push_back()
    starts = [learner.take_for(SECOND) for _ in range(2_000)]
    assert starts[0] < 9
    assert max(starts) <= 12
    assert sum(starts[-100:]) == 1_000


def test_what_was_learned_outlives_a_restart_and_goes_on_along_the_same_curve() -> None:
    kept, restarted = Learner(600, 100), Learner(600, 100)
    (adapted,) = kept.push_back(retry_after_s=3)
    assert restarted.push_back(retry_after_s=3) == [adapted]
    kept.us = restarted.us = 30 * SECOND
    restarted.begin({"host": adapted.state})
    assert kept.take_for(MINUTE) == restarted.take_for(MINUTE)
    seen = refill_in_force(
        "acme",
        "host",
        600 * PER_MINUTE,
        EPOCH + kept.us,
        learned_micro=adapted.state.learned_micro,
        learned_at=adapted.state.learned_at,
        ceiling_micro=adapted.state.ceiling_micro,
        pinned=False,
    )
    assert kept.learn(None).from_micro == seen


def test_an_operator_pins_a_rate_that_push_backs_do_not_move_and_forgets_it() -> None:
    learner = Learner(600, 100)
    assert learner.learn(120, pinned=True).to_micro == 120 * PER_MINUTE
    learner.us += 10 * SECOND
    learner.take()
    (paused,) = learner.push_back(retry_after_s=4)
    assert paused.to_micro == 120 * PER_MINUTE
    assert learner.take()[1] == 14 * SECOND
    forgotten = learner.learn(None)
    assert forgotten.to_micro == 600 * PER_MINUTE
    assert forgotten.state.learned_micro is None
    assert forgotten.state.open_at == 0


def test_nothing_that_is_learned_exceeds_the_configured_rate() -> None:
    learner = Learner(600, 100)
    assert learner.learn(9_000, pinned=True).to_micro == 600 * PER_MINUTE
    assert learner.learn(9_000).to_micro == 600 * PER_MINUTE


def test_learning_of_a_limit_that_is_not_adaptive_changes_nothing() -> None:
    learner = Learner(600, 100)
    learner.limit = Limit(key="host", gate="rate", per_minute_micro=PER_MINUTE, burst=1)
    learner.begin({})
    assert learner.push_back(retry_after_s=60) == []


def test_two_tenants_at_one_upstream_do_not_probe_in_step() -> None:
    rates = set()
    for tenant_id in ("acme", "zenith", "quiet", "loud"):
        rates.add(
            refill_in_force(
                tenant_id,
                "host",
                600 * PER_MINUTE,
                EPOCH + 60 * SECOND,
                learned_micro=100 * PER_MINUTE,
                learned_at=EPOCH,
                ceiling_micro=200 * PER_MINUTE,
                pinned=False,
            )
        )
    assert len(rates) > 1


# ---- against upstreams

LATENCY_US = 50 * MILLISECOND
LATE_US = 3 * MILLISECOND


@attrs.define
class Share:
    served: int = 0
    refused: int = 0


def call_for(
    learner: Learner, upstream: Upstream, settle_us: int, measure_us: int, *, header: bool
) -> Share:
    """Use all that the bucket lets through; what came of it after settling."""
    share = Share()
    began = learner.us
    end = began + settle_us + measure_us
    news: list[tuple[int, int, int, int | None]] = []
    next_start, number = began, 0
    while True:
        learner.us = min(next_start, news[0][0] if news else next_start)
        if learner.us >= end:
            learner.us = end
            return share
        if news and news[0][0] <= learner.us:
            _, _, granted, wait_us = heappop(news)
            retry_after_s = whole_seconds(wait_us or 0) / SECOND if header else None
            learner.push_back(retry_after_s, granted_at=EPOCH + granted)
            continue
        starts, opens = learner.take()
        for _ in range(starts):
            wait_us = upstream.call(learner.us)
            measured = learner.us >= began + settle_us
            if wait_us is None:
                share.served += measured
            else:
                share.refused += measured
                number += 1
                heappush(news, (learner.us + 2 * LATENCY_US, number, learner.us, wait_us))
        assert opens is not None
        next_start = opens + LATE_US if starts < len(WANTED) else learner.us + 1


MAKES: dict[str, Callable[[], Upstream]] = {
    "bucket of 1": lambda: TokenBucket(720, burst=1),
    "bucket of 10": lambda: TokenBucket(720, burst=10),
    "fixed 1 s": lambda: FixedWindow(720, window_us=SECOND),
    "sliding 1 s": lambda: SlidingWindow(720, window_us=SECOND),
    "fixed 60 s": lambda: FixedWindow(720),
    "sliding 60 s": lambda: SlidingWindow(720),
}


def follow(upstream: Upstream, *, header: bool) -> list[tuple[float, float]]:
    """Of each phase of a moving limit: the share of it that was served, the share refused."""
    learner = Learner(3_000, 50)
    shares = []
    for per_minute in (720, 180, 720):
        upstream.per_minute = per_minute
        share = call_for(learner, upstream, 10 * MINUTE, 10 * MINUTE, header=header)
        calls = share.served + share.refused
        shares.append((share.served / (10 * per_minute), share.refused / calls))
    return shares


@pytest.mark.parametrize("kind", MAKES)
def test_a_hidden_limit_is_reached_and_followed_with_few_refusals(kind: str) -> None:
    for served, refused in follow(MAKES[kind](), header=True):
        assert served >= 0.95
        assert refused <= 0.01


@pytest.mark.parametrize("kind", [kind for kind in MAKES if "60" not in kind])
def test_without_a_retry_after_a_hidden_limit_is_reached_as_well(kind: str) -> None:
    for served, refused in follow(MAKES[kind](), header=False):
        assert served >= 0.95
        assert refused <= 0.01


@pytest.mark.parametrize("kind", ["fixed 60 s", "sliding 60 s"])
def test_a_minute_long_window_that_does_not_say_when_it_ends_costs_some_of_its_limit(
    kind: str,
) -> None:
    for served, refused in follow(MAKES[kind](), header=False):
        assert served >= 0.80
        assert refused <= 0.02
