"""How a bucket learns what an upstream bears: rules one by one, then against upstreams.

The upstreams hide a limit that moves; virtual time, one key, as much work as is let through.
"""

import pytest

from bench.harness.hidden_limit import TokenBucket
from jobengine.core.rate_bucket import refill_in_force
from jobengine.domain.instant import MILLISECOND, MINUTE, SECOND
from jobengine.messages.rate_bucket import Limit
from tests.core.learned_world import EPOCH, KINDS, PER_MINUTE, Learner, follow


def test_a_push_back_halves_at_once_and_leaves_no_burst() -> None:
    learner = Learner(600, 100)
    (adapted,) = learner.push_back()
    assert (adapted.from_micro, adapted.to_micro) == (600 * PER_MINUTE, 300 * PER_MINUTE)
    assert adapted.cause == "HTTP 429"
    assert learner.take() == (0, 200 * MILLISECOND)


def test_a_push_back_halves_and_no_more_however_long_its_retry_after() -> None:
    """Of a bucket that is new, little is known that could say how much an upstream bears."""
    learner = Learner(600, 10)
    learner.take()
    (adapted,) = learner.push_back(retry_after_s=60)
    assert adapted.to_micro == 300 * PER_MINUTE


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
            learner.us = learner.take()[1]
        (adapted,) = learner.push_back()
        assert adapted.to_micro >= 30 * PER_MINUTE
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


@pytest.mark.parametrize("header", [True, False], ids=["Retry-After", "bare"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_limit_is_reached_and_followed_with_few_refusals(kind: str, header: bool) -> None:
    """A window of a minute has few ends from which to learn, and bare refusals do not tell them."""
    settle_us, used = (6 * MINUTE, 0.95 if header else 0.90) if "60" in kind else (4 * MINUTE, 0.95)
    for share in follow(
        KINDS[kind](), (600, 180, 600), header=header, settle_us=settle_us, measure_us=4 * MINUTE
    ):
        assert share.used >= used
        assert share.refusals <= 0.01


def test_a_limit_without_any_burst_loses_what_late_starts_leave_of_it() -> None:
    """Each start that is late by a part of the spacing takes as much from the one after it."""
    for share in follow(TokenBucket(1, burst=1), (600, 180), header=True):
        assert share.used >= 0.92
        assert share.refusals <= 0.01


def test_a_limit_that_fell_to_a_quarter_is_found_within_seconds() -> None:
    """Where windows are short. Probes follow in seconds, so of few calls some are refused."""
    upstream = KINDS["fixed 1 s"]()
    _, fallen = follow(
        upstream, (2_400, 600), header=False, settle_us=20 * SECOND, measure_us=40 * SECOND
    )
    assert fallen.used >= 0.90
    assert fallen.refusals <= 0.04


def test_a_limit_that_doubled_is_found_within_two_minutes() -> None:
    upstream = KINDS["fixed 1 s"]()
    _, risen = follow(
        upstream, (1_200, 2_400), header=False, settle_us=2 * MINUTE, measure_us=MINUTE
    )
    assert risen.used >= 0.95
    assert risen.refusals <= 0.01


def test_a_window_that_is_used_up_tells_the_limit_though_nothing_says_when_it_ends() -> None:
    """What was offered since it began, over the time until it let starts through again."""
    learner = Learner(6_000, 100)
    window = KINDS["fixed 60 s"]()
    window.per_minute = 600
    while learner.us < MINUTE:
        starts, opens = learner.take()
        refused = [window.call(learner.us) for _ in range(starts)]
        for wait_us in refused:
            if wait_us is not None:
                learner.push_back(granted_at=EPOCH + learner.us)
        learner.us = max(opens, learner.us + 1)
    ceiling = learner.learn(600, pinned=True).from_micro
    assert ceiling <= 700 * PER_MINUTE
