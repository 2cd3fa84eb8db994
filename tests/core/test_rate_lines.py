"""Turns at a limit: a dear request has a bounded wait, however cheap and many the others are."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.rate_bucket import RateBucket
from jobengine.domain.control import RatePolicy, Source
from jobengine.domain.instant import MILLISECOND, SECOND, Moment
from jobengine.messages.rate_bucket import (
    Configure,
    Denial,
    Limit,
    Peek,
    Peeked,
    RateRequest,
    Reserve,
    Reserved,
)
from tests.core.shard_driver import ShardDriver, job_id, new_job, stored_job

EPOCH = 1_790_000_000 * SECOND
BURST = 60


def rate(key: str = "host", per_minute: int = 60, burst: int = BURST) -> Limit:
    return Limit(key=key, gate="rate", per_minute_micro=per_minute * 1_000_000, burst=burst)


class Upstream:
    """A bucket at the instant ``us``, one token a second unless told otherwise."""

    def __init__(self, *limits: Limit) -> None:
        self.us = 0
        self.core = RateBucket("acme")
        self._tell(Configure(tenant_id="acme", limits=limits or (rate(),), states={}))

    def _tell(self, message: object) -> object:
        said = self.core.handle(message, Moment(self.us / SECOND, EPOCH + self.us))
        return said[0] if said else None

    def reserve(self, *requests: RateRequest) -> list[Denial | None]:
        answer = self._tell(Reserve(tenant_id="acme", stamp=1, requests=requests))
        assert isinstance(answer, Reserved)
        return list(answer.denials)

    def peek(self, *requests: RateRequest) -> list[bool]:
        """Which of them would start."""
        answer = self._tell(Peek(tenant_id="acme", stamp=2, requests=requests))
        assert isinstance(answer, Peeked)
        return [not denials for denials in answer.denials]

    def empty(self) -> None:
        while self.reserve(RateRequest("first", ("host",)))[0] is None:
            pass


def want(line: str, cost: int = 1, *keys: str, weight: int = 1) -> RateRequest:
    return RateRequest(line, keys or ("host",), cost, line=line, weight=weight)


def opens_us(denial: Denial | None) -> int:
    assert denial is not None
    assert denial.opens_at is not None
    return denial.opens_at - EPOCH


def test_a_dear_request_starts_though_cheap_ones_ask_for_every_token() -> None:
    upstream = Upstream()
    upstream.empty()
    upstream.reserve(want("dear", 50))
    cheap = 0
    for _ in range(101):
        upstream.us += SECOND
        got, dear = upstream.reserve(want("cheap"), want("dear", 50))
        cheap += got is None
        if dear is None:
            break
    else:
        raise AssertionError("the dear request has starved")
    assert cheap in (49, 50, 51)


def test_lines_share_a_limit_by_cost_and_weight() -> None:
    upstream = Upstream(rate(per_minute=600))
    upstream.empty()
    wanted = [want("a", 10), want("b", 1), want("c", 5, weight=3)]
    spent = dict.fromkeys("abc", 0)
    for _ in range(8_000):
        upstream.us += 50 * MILLISECOND
        for request, denial in zip(wanted, upstream.reserve(*wanted), strict=True):
            if denial is None:
                spent[request.line] += request.cost
    assert abs(spent["a"] - spent["b"]) <= 20
    assert abs(spent["c"] - 3 * spent["b"]) <= 40
    assert sum(spent.values()) >= 4_000 - 60


@settings(max_examples=40, deadline=None)
@given(
    cost=st.integers(1, 30),
    weight=st.integers(1, 3),
    others=st.lists(st.tuples(st.integers(1, 10), st.integers(1, 3)), min_size=1, max_size=3),
    order=st.randoms(use_true_random=False),
    asked=st.integers(1, 4),
)
def test_whoever_comes_when_told_to_waits_no_longer_than_its_share_takes(
    cost: int, weight: int, others: list[tuple[int, int]], order: object, asked: int
) -> None:
    upstream = Upstream()
    upstream.empty()
    dear = want("dear", cost, weight=weight)
    told_us = opens_us(upstream.reserve(dear)[0])
    rivals = [
        want(f"rival-{number}", each, weight=share) for number, (each, share) in enumerate(others)
    ]
    taken = 0
    bound = sum((each + Fraction(cost * share, weight) for each, share in others), Fraction(0))
    while True:
        upstream.us += 500 * MILLISECOND
        requests = rivals * asked
        order.shuffle(requests)  # type: ignore[attr-defined]
        if upstream.us >= told_us:
            requests.insert(order.randint(0, len(requests)), dear)  # type: ignore[attr-defined]
        denials = upstream.reserve(*requests)
        at_dear = None
        for request, denial in zip(requests, denials, strict=True):
            if request is dear:
                if denial is None:
                    assert taken <= bound
                    return
                at_dear = denial
            elif denial is None:
                taken += request.cost
        assert taken <= bound, "others took more than their shares while one waited"
        if at_dear is not None:
            told_us = opens_us(at_dear)
        assert upstream.us <= (bound + cost + BURST) * SECOND


def test_a_line_that_comes_no_more_is_waited_for_no_longer_than_its_tokens_take() -> None:
    upstream = Upstream()
    upstream.empty()
    opens = opens_us(upstream.reserve(want("dear", 50))[0])
    taken = 0
    while upstream.us <= opens + SECOND:
        upstream.us += 100 * MILLISECOND
        taken += sum(denial is None for denial in upstream.reserve(*[want("cheap")] * 60))
    assert taken >= 50, "tokens that lay there for nobody are all to be had"


def test_who_cannot_use_a_limit_now_keeps_no_tokens_of_another_from_the_rest() -> None:
    hour = Limit(key="quota", gate="quota_hour", hour_max=1)
    upstream = Upstream(rate(burst=1), hour)
    assert upstream.reserve(want("a", 1, "host", "quota")) == [None]
    upstream.us += 2 * SECOND
    assert opens_us(upstream.reserve(want("a", 1, "host", "quota"))[0]) > 3000 * SECOND
    assert upstream.reserve(want("b")) == [None]


def test_who_waits_for_a_slow_limit_keeps_nothing_of_a_quick_one_from_the_rest() -> None:
    upstream = Upstream(rate("slow", per_minute=10, burst=1), rate("quick", 1_200, burst=2))
    slow, quick = want("a", 1, "quick", "slow"), want("b", 1, "quick")
    assert upstream.reserve(slow, quick) == [None, None]
    started = 0
    for _ in range(50):
        upstream.us += 100 * MILLISECOND
        *others, last = upstream.reserve(quick, quick, quick, slow)
        assert last is not None
        started += others.count(None)
    assert started >= 95, "the quick one gives 20 a second"
    upstream.us += 1_100 * MILLISECOND
    assert upstream.reserve(slow) == [None]


def test_lines_that_share_two_limits_in_other_orders_do_not_wait_for_each_other() -> None:
    upstream = Upstream(rate("x", burst=5), rate("y", burst=5))
    starts = dict.fromkeys("abcd", 0)
    wanted = [
        want("a", 4, "x", "y"),
        want("b", 4, "y", "x"),
        want("c", 1, "x"),
        want("d", 1, "y"),
    ]
    for _ in range(2_000):
        upstream.us += 250 * MILLISECOND
        for request, denial in zip(wanted, upstream.reserve(*wanted), strict=True):
            starts[request.line] += denial is None
    assert min(starts["a"], starts["b"]) >= 20
    spent = 4 * (starts["a"] + starts["b"])
    assert spent + starts["c"] >= 490, "x is not left idle"
    assert spent + starts["d"] >= 490, "nor is y"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.integers(0, 9)), max_size=30)
)
def test_a_peek_changes_no_turns_and_says_what_reserve_does(
    asked: list[tuple[str, int, int]],
) -> None:
    upstream = Upstream()
    for line, cost, pause_s in asked:
        upstream.us += pause_s * SECOND
        request = want(line, cost)
        seen = upstream.peek(request)
        assert upstream.peek(request) == seen
        assert [denial is None for denial in upstream.reserve(request)] == seen


def test_a_dear_job_of_a_host_starts_beside_a_stream_of_cheap_ones_and_explain_says_why_not() -> (
    None
):
    driver = ShardDriver()
    driver.attach(slots=1_000)
    policy = RatePolicy(burst=50, per_minute_micro=60_000_000)
    for name in ("bulk", "small"):
        source = Source(host="one.example", source_type="advisories", rate_policy=policy)
        driver.control("source", name, source)
    driver.submit(*(new_job(number, source_id="small") for number in range(1, 301)))
    driver.submit(new_job(999, source_id="bulk", cost=40))
    driver.settle()
    for _ in range(150):
        driver.wait(1.0)
        driver.settle()
        if any(grant.job.job_id == job_id(999) for grant in driver.grants()):
            break
        said = driver.explain(stored_job(999, source_id="bulk", cost=40))
        assert said == {job_id(999): ["rate"]}
    else:
        raise AssertionError("the dear job has starved")
    assert driver.now.mono < 2_000
    assert len(driver.grants()) >= 50 + 40
