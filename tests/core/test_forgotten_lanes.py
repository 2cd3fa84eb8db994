"""What a shard remembers of lanes and tenants for fairness and rates goes when they are done."""

from jobengine.core.lease_shard.fair_lanes import FairLanes
from jobengine.core.lease_shard.limits import ShardLimits
from jobengine.core.lease_shard.proposals import Candidate, Proposals
from jobengine.core.lease_shard.ready_lanes import ReadyLanes
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.control import RatePolicy, Throttle
from jobengine.domain.instant import Moment
from jobengine.domain.records import Lane
from jobengine.messages.rate_bucket import RateRequest
from tests.core.shard_driver import EPOCH_AT, LANE, ShardDriver, new_job, stored_job


def opened_state() -> ShardState:
    state = ShardState(0, ShardLimits(), 1)
    state.take_time(Moment(0.0, EPOCH_AT))
    return state


def lanes_of(state: ShardState, tenant_id: str, jobs: int = 1) -> list[Lane]:
    """Two lanes of a tenant, each with so many jobs."""
    found: dict[Lane, None] = {}
    for number in range(2 * jobs):
        kind = f"kind-{number % 2}"
        job = stored_job(number, tenant_id=tenant_id, job_type=kind, queue="q")
        lane = state.place(job)
        assert lane is not None
        found[lane] = None
    return list(found)


def served(state: ShardState, fair: FairLanes, lanes: list[Lane], jobs: int) -> str:
    """The kinds of the lanes whose turns come, one job each."""
    turns = []

    def take(lane: Lane, *_: object) -> bool:
        state.lanes[lane].pop()
        turns.append(lane.job_type[-1])
        return len(turns) < jobs

    queues = frozenset({"q"})
    session = Session(1, lanes[0].tenant_id, "w", "w", queues, frozenset(), 99, False, 0.0)
    fair.serve(session, take)
    return "".join(turns)


def test_rounds_of_tenants_without_lanes_are_forgotten() -> None:
    state = opened_state()
    fair = FairLanes(state, ReadyLanes(state))
    for number in range(600):
        assert len(served(state, fair, lanes_of(state, f"t-{number}"), 2)) == 2
    assert len(fair._rounds) <= 256


def test_a_tenant_keeps_its_weights_and_while_it_has_work_its_turn_whoever_comes_and_goes() -> None:
    state = opened_state()
    fair = FairLanes(state, ReadyLanes(state))
    fair.set_weights("acme", [(("", "kind-0"), 3)])
    lanes = lanes_of(state, "acme", jobs=9)
    assert served(state, fair, lanes, 2) == "00"
    for number in range(300):
        served(state, fair, lanes_of(state, f"t-{number}"), 2)
    assert served(state, fair, lanes, 16) == "0100010001111111"
    for number in range(300):
        served(state, fair, lanes_of(state, f"t-{number}"), 2)
    assert "acme" not in fair._rounds
    assert served(state, fair, lanes_of(state, "acme", jobs=9), 8) == "00010001"
    fair.set_weights("acme", [])
    assert served(state, fair, lanes, 4) in ("0101", "1010")


def test_a_closed_lane_begins_anew_unless_more_of_it_is_proposed() -> None:
    state = opened_state()
    proposals = Proposals(state.gates, state.stamp)
    session = Session(1, "acme", "w", "w", frozenset({"scan"}), frozenset(), 99, False, 0.0)
    candidates = []
    for number in range(8):
        job = stored_job(number)
        request = RateRequest(job.job_id, ("throttle:tenant",))
        candidates.append(Candidate(job, state.kind_of(job), session, request))
        proposals.add(candidates[-1])
    proposals.send(1, "acme", candidates)
    proposals.learn_appetite(LANE, granted=1, denied=9)
    assert not proposals.wants(LANE)
    proposals.forget_lane(LANE)
    assert not proposals.wants(LANE)
    proposals.answered(1)
    proposals.forget_lane(LANE)
    for candidate in candidates:
        proposals.add(candidate)
    assert proposals.wants(LANE)


def test_a_lane_that_got_all_it_asked_for_leaves_nothing_behind() -> None:
    driver = ShardDriver()
    rate = RatePolicy(burst=100, per_minute_micro=60_000_000)
    driver.control("throttle", "tenant", Throttle(rate=rate))
    for number in range(20):
        driver.submit(new_job(number, job_type=f"kind-{number}"))
    driver.settle()
    driver.attach(job_types=frozenset(), queues=frozenset({"scan"}), slots=50)
    driver.settle()
    assert len(driver.grants()) == 20
    assert not driver.core._state.lanes
    assert not driver.core._state.proposals._appetite
