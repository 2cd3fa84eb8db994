"""A tenant's rate bucket: exact tokens, exact instants, all or nothing, across restarts."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.rate_bucket import RateBucket
from jobengine.domain.instant import HOUR, MILLISECOND, MINUTE, SECOND, Moment
from jobengine.messages.rate_bucket import (
    BucketState,
    Configure,
    Denial,
    Limit,
    Peek,
    PushedBack,
    RateRequest,
    Refund,
    Reserve,
    Reserved,
    Started,
)

EPOCH = 1_790_000_000 * SECOND
TOKEN = 1_000_000


def rate(key: str = "host", per_minute: int = 60, burst: int = 10, **more: Any) -> Limit:
    return Limit(key=key, gate="rate", per_minute_micro=per_minute * TOKEN, burst=burst, **more)


def hourly(hour_max: int, key: str = "quota") -> Limit:
    return Limit(key=key, gate="quota_hour", hour_max=hour_max)


class Driven:
    """A bucket with clocks that the test moves: true time runs, the wall clock may be set."""

    def __init__(self, *limits: Limit, states: dict[str, BucketState] | None = None) -> None:
        self.us = 0
        self.wall_off = 0
        self.limits = limits
        self.states = dict(states or {})
        self.restart()

    def restart(self) -> None:
        """What was stored is all that the next life knows."""
        self.core = RateBucket("acme")
        self.tell(Configure(tenant_id="acme", limits=self.limits, states=self.states))

    @property
    def at(self) -> int:
        return EPOCH + self.us + self.wall_off

    def tell(self, message: Any) -> Sequence[Any]:
        return self.core.handle(message, Moment(self.us / SECOND, self.at))

    def reserve(self, *requests: RateRequest) -> list[Denial | None]:
        (answer,) = self.tell(Reserve(tenant_id="acme", stamp=7, requests=requests))
        assert isinstance(answer, Reserved)
        assert answer.stamp == 7
        self.states.update(answer.states)
        return list(answer.denials)

    def peek(self, *requests: RateRequest) -> list[Sequence[Denial]]:
        (answer,) = self.tell(Peek(tenant_id="acme", stamp=8, requests=requests))
        return list(answer.denials)

    def refund(self, *requests: RateRequest) -> None:
        self.tell(Refund(tenant_id="acme", requests=requests))

    def taken(self, *requests: RateRequest) -> int:
        return sum(denial is None for denial in self.reserve(*requests))


def want(*keys: str, cost: int = 1, retry: bool = False) -> RateRequest:
    return RateRequest("job", keys or ("host",), cost, retry)


def test_a_new_bucket_is_full_and_refills_by_its_rate() -> None:
    driven = Driven(rate(per_minute=60, burst=10))
    assert driven.taken(*[want()] * 12) == 10
    driven.us += 2 * SECOND - 1
    assert driven.taken(*[want()] * 12) == 1
    driven.us += 1
    assert driven.taken(*[want()] * 12) == 1
    driven.us += HOUR
    assert driven.taken(*[want()] * 12) == 10


def test_a_rate_that_does_not_divide_time_loses_nothing_in_an_hour() -> None:
    driven = Driven(Limit(key="host", gate="rate", per_minute_micro=7 * TOKEN + 1, burst=2))
    driven.reserve(want(), want())
    starts = 0
    while driven.us < HOUR:
        driven.us += 999_983
        starts += driven.taken(want())
    assert starts == driven.us * (7 * TOKEN + 1) // MINUTE // TOKEN


def test_several_limits_give_all_or_nothing() -> None:
    driven = Driven(rate("a", burst=5), rate("b", burst=2))
    denials = driven.reserve(*[want("a", "b")] * 3)
    assert [denial.key if denial else None for denial in denials] == [None, None, "b"]
    assert driven.taken(*[want("a")] * 9) == 3


def test_a_source_without_a_rate_policy_is_denied_and_says_what_to_set() -> None:
    driven = Driven(Limit(key="source:osv", gate="rate", burst=0))
    (denial,) = driven.reserve(want("source:osv"))
    assert denial is not None
    assert denial.opens_at is None
    assert "no rate policy" in denial.message
    assert "ratePolicy" in denial.message


def test_a_request_dearer_than_the_burst_is_told_that_it_never_starts_and_holds_up_nobody() -> None:
    driven = Driven(rate(burst=3))
    dear, cheap = driven.reserve(want(cost=4), want(cost=3))
    assert dear is not None
    assert dear.opens_at is None
    assert "burst" in dear.message
    assert cheap is None


def test_an_unknown_limit_denies() -> None:
    (denial,) = Driven(rate()).reserve(want("host", "elsewhere"))
    assert denial is not None
    assert denial.key == "elsewhere"


def test_a_cheap_request_does_not_overtake_a_dear_one_of_the_same_limit() -> None:
    driven = Driven(rate("host", burst=10), rate("other", burst=10))
    driven.reserve(want("host", cost=8))
    dear, cheap, elsewhere = driven.reserve(want("host", cost=5), want("host"), want("other"))
    assert dear is not None
    assert cheap is not None
    assert elsewhere is None
    assert dear.opens_at == driven.at + 3 * SECOND
    assert cheap.opens_at == driven.at + 4 * SECOND


def test_a_first_start_is_none_of_the_retry_budgets_concern_and_feeds_it() -> None:
    budget = Limit(
        key="retry",
        gate="retry_budget",
        per_minute_micro=0,
        burst=2,
        start_share_micro=200_000,
    )
    driven = Driven(budget)
    assert driven.taken(*[want("retry", retry=True)] * 3) == 2
    assert driven.taken(*[want("retry")] * 50) == 50
    driven.tell(Started(tenant_id="acme", starts={"retry": 4}))
    assert driven.taken(want("retry", retry=True)) == 0
    driven.tell(Started(tenant_id="acme", starts={"retry": 1}))
    assert driven.taken(*[want("retry", retry=True)] * 2) == 1


def test_an_hourly_quota_opens_when_its_oldest_minute_is_an_hour_past() -> None:
    driven = Driven(hourly(3))
    assert driven.taken(want("quota")) == 1
    driven.us += 10 * MINUTE
    assert driven.taken(*[want("quota")] * 5) == 2
    (denial,) = driven.reserve(want("quota"))
    assert denial is not None
    assert denial.gate == "quota_hour"
    assert denial.opens_at is not None
    assert HOUR <= denial.opens_at - EPOCH <= HOUR + MINUTE
    driven.us = denial.opens_at - EPOCH - 1
    assert driven.taken(want("quota")) == 0
    driven.us += 1
    assert driven.taken(*[want("quota")] * 5) == 1


@pytest.mark.parametrize("step", [-2 * HOUR, -1, 90 * SECOND, 3 * HOUR])
@pytest.mark.parametrize("restart", [False, True])
def test_a_set_wall_clock_gives_nothing_away(step: int, restart: bool) -> None:
    """Forward across a restart is the one case that looks like time."""
    driven = Driven(rate(per_minute=1, burst=5), hourly(5))
    assert driven.taken(*[want("host", "quota")] * 9) == 5
    driven.wall_off += step
    if restart:
        if step > 0:
            return
        driven.restart()
    assert driven.taken(*[want("host")] * 9) == 0
    assert driven.taken(*[want("quota")] * 9) == 0
    driven.us += MINUTE
    assert driven.taken(*[want("host")] * 9) == 1


def test_a_forward_step_is_carried_into_what_is_stored() -> None:
    driven = Driven(hourly(2), rate(per_minute=1, burst=3))
    assert driven.taken(*[want("quota", "host")] * 2) == 2
    driven.wall_off += 3 * HOUR
    driven.us += SECOND
    assert driven.taken(want("host")) == 1
    driven.reserve(want("quota"))
    driven.restart()
    assert driven.taken(*[want("host")] * 3) == 0


def test_a_lower_limit_takes_the_surplus_away_and_a_higher_one_gives_none() -> None:
    driven = Driven(rate(burst=10))
    driven.limits = (rate(burst=4),)
    driven.tell(Configure(tenant_id="acme", limits=driven.limits, states={}))
    driven.limits = (rate(burst=50),)
    driven.tell(Configure(tenant_id="acme", limits=driven.limits, states={}))
    assert driven.taken(*[want()] * 20) == 4


def test_a_limit_that_is_left_out_is_forgotten_and_refunds_of_it_are_ignored() -> None:
    driven = Driven(rate("a"), rate("b"))
    driven.tell(Configure(tenant_id="acme", limits=(rate("a"),), states={}))
    driven.refund(want("a", "b"))
    (denial,) = driven.reserve(want("b"))
    assert denial is not None


# ---- properties

LIMITS = (
    rate("a", per_minute=60, burst=7),
    Limit(key="b", gate="rate", per_minute_micro=13_333_333, burst=4, adaptive=True),
    hourly(9, "q"),
)
requests = st.builds(
    RateRequest,
    st.just("job"),
    st.lists(st.sampled_from(["a", "b", "q"]), min_size=1, unique=True).map(tuple),
    st.integers(1, 4),
)
spans = st.one_of(st.integers(0, 5 * SECOND), st.integers(0, 90 * MINUTE))
acts = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), spans),
        st.tuples(st.just("reserve"), st.lists(requests, min_size=1, max_size=6)),
        st.tuples(st.just("peek"), st.lists(requests, min_size=1, max_size=3)),
        st.tuples(st.just("refund"), st.integers(0, 3)),
        st.tuples(st.just("push"), st.integers(0, 3 * SECOND)),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("step back"), st.integers(2 * MILLISECOND, HOUR)),
    ),
    max_size=25,
)


def play(driven: Driven, act: tuple[str, Any], log: list[tuple[int, RateRequest, int]]) -> None:
    """One act; ``log`` gets (true time, request, +1 taken or −1 given back)."""
    match act:
        case ("wait", us):
            driven.us += us
        case ("reserve", wanted):
            for request, denial in zip(wanted, driven.reserve(*wanted), strict=True):
                if denial is None:
                    log.append((driven.us, request, 1))
        case ("peek", wanted):
            driven.peek(*wanted)
        case ("refund", count):
            given = [request for _, request, sign in log if sign > 0][-count:] if count else []
            back = sum(sign < 0 for _, _, sign in log)
            if back + len(given) <= len(log) - back:
                driven.refund(*given)
                log += [(driven.us, request, -1) for request in given]
        case ("push", retry_after_us):
            driven.tell(
                PushedBack(
                    tenant_id="acme", key="b", http_status=429, retry_after_us=retry_after_us
                )
            )
        case ("restart", _):
            driven.restart()
        case ("step back", us):
            driven.wall_off -= us
        case _:
            raise AssertionError(act)


@settings(max_examples=150, deadline=None)
@given(acts)
def test_in_any_span_no_more_is_taken_than_the_burst_and_what_came_in(history: list[Any]) -> None:
    driven = Driven(*LIMITS)
    log: list[tuple[int, RateRequest, int]] = []
    for act in history:
        play(driven, act, log)
    for limit in LIMITS[:2]:
        assert limit.burst is not None
        assert limit.per_minute_micro is not None
        moves = [(us, sign * r.cost) for us, r, sign in log if limit.key in r.keys]
        for first, (since, _) in enumerate(moves):
            total = 0
            for until, cost in moves[first:]:
                total += cost
                bound = limit.burst * TOKEN * MINUTE + (until - since) * limit.per_minute_micro
                assert total * TOKEN * MINUTE <= bound
    starts = [(us, sign) for us, r, sign in log if "q" in r.keys]
    for first, (since, _) in enumerate(starts):
        assert sum(sign for us, sign in starts[first:] if us < since + HOUR) <= 9


@settings(max_examples=150, deadline=None)
@given(acts, st.lists(requests, min_size=1, max_size=6))
def test_peek_takes_nothing_and_names_nothing_exactly_where_reserve_gives(
    history: list[Any], wanted: list[RateRequest]
) -> None:
    driven = Driven(*LIMITS)
    for act in history:
        play(driven, act, [])
    peeked = driven.peek(*wanted)
    assert peeked == driven.peek(*wanted)
    reserved = driven.reserve(*wanted)
    assert [closed[0] if closed else None for closed in peeked] == reserved


@settings(max_examples=200, deadline=None)
@given(acts, requests)
def test_a_denied_request_starts_at_the_instant_named_and_not_before(
    history: list[Any], request: RateRequest
) -> None:
    driven = Driven(*LIMITS)
    for act in history:
        play(driven, act, [])
    (closed,) = driven.peek(request)
    if not closed:
        return
    opens_at = [gate.opens_at for gate in closed]
    assert None not in opens_at
    wait_us = max(at for at in opens_at if at is not None) - driven.at
    assert wait_us > 0
    driven.us += wait_us - 1
    assert driven.taken(request) == 0
    driven.us += 1
    assert driven.taken(request) == 1


@settings(max_examples=60, deadline=None)
@given(acts, spans, st.lists(requests, min_size=1, max_size=6))
def test_how_often_a_bucket_is_looked_at_changes_nothing(
    history: list[Any], span: int, wanted: list[RateRequest]
) -> None:
    once, often = Driven(*LIMITS), Driven(*LIMITS)
    for act in history:
        play(once, act, [])
        play(often, act, [])
        once.peek(RateRequest("job", ("a", "b", "q"), 4))
        often.peek(RateRequest("job", ("a", "b", "q"), 4))
    for part in range(7):
        often.us = once.us + span * part // 7
        often.peek(*wanted)
    once.us += span
    often.us = once.us
    assert once.reserve(*wanted) == often.reserve(*wanted)
    assert once.states == often.states
