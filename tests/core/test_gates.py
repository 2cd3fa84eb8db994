"""What the gates remember of an open lane is never more than what they would find."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.lease_shard.closed_gate import ClosedGate
from jobengine.core.lease_shard.control_set import Revision
from jobengine.core.lease_shard.gates import Gates
from jobengine.core.lease_shard.kinds import Kind, Kinds
from jobengine.core.lease_shard.occupancy import Occupancy
from jobengine.domain.blackout import Blackout, BlackoutScope, OneOff
from jobengine.domain.canonical import digest
from jobengine.domain.control import Control, ControlKind, Pause, Quota, RatePolicy, Source
from jobengine.domain.job import Definition, Job
from jobengine.domain.outcome import Outcome

EPOCH = 1_790_000_000_000_000
RATE = RatePolicy(burst=10, per_minute_micro=60_000_000)
JOBS = [
    Job(
        job_id=f"job-{number}",
        tenant_id="acme",
        definition=Definition(
            concurrency_key="key" if number % 4 == 3 else None,
            concurrency_limit=2 if number % 4 == 3 else None,
            job_type="scan",
            payload_digest=digest(b"{}"),
            project_id=("", "p")[number % 2],
            queue=("fast", "slow")[number // 2 % 2],
            source_id=(None, "osv", "nvd")[number % 3],
        ),
        definition_json=b"{}",
        payload=b"{}",
        created_at=EPOCH,
    )
    for number in range(12)
]
LIMITS = st.none() | st.integers(1, 4)


def source(most: int | None, lock: bool) -> Source:
    return Source(
        host="one.example",
        lock_key="lock" if lock else None,
        max_active=most,
        rate_policy=RATE,
        source_type="registry",
    )


def blackout(minutes: int) -> Blackout:
    begins = EPOCH + minutes * 60_000_000
    return Blackout(
        blackout_id="b",
        calendar=(OneOff(start_at=begins, end_at=begins + 60_000_000),),
        reason="works",
        scope=BlackoutScope.TENANT,
    )


CONTROLS: st.SearchStrategy[tuple[ControlKind, str, Control | None]] = st.one_of(
    st.tuples(
        st.just("source"), st.sampled_from(["osv", "nvd"]), st.builds(source, LIMITS, st.booleans())
    ),
    st.tuples(st.just("quota"), st.just("all"), st.builds(Quota, max_active=st.integers(1, 6))),
    st.tuples(
        st.just("quota"),
        st.just("project"),
        st.builds(Quota, scope=st.just("project"), key=st.just("p"), max_active=st.integers(1, 3)),
    ),
    st.tuples(
        st.just("pause"),
        st.just("queue:fast"),
        st.sampled_from([Pause(scope="queue", key="fast"), None]),
    ),
    st.tuples(st.just("blackout"), st.just("b"), st.builds(blackout, st.integers(0, 9))),
)
NUMBERS = st.integers(0, len(JOBS) - 1)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), NUMBERS),
        st.tuples(st.just("let_go"), NUMBERS),
        st.tuples(st.just("control"), CONTROLS),
        st.tuples(st.just("fail"), st.sampled_from(["osv", "nvd"])),
        st.tuples(st.just("good"), st.sampled_from(["osv", "nvd"])),
        st.tuples(st.just("pass"), st.integers(1, 120)),
    ),
    max_size=60,
)


class World:
    def __init__(self) -> None:
        self.at = EPOCH
        self.held: set[int] = set()
        self.kinds = Kinds(idle_max=0)
        self.occupancy = Occupancy(self.kinds)
        self.gates = Gates(self.kinds, self.occupancy)

    def move(self, verb: str, what: Any) -> None:
        sources = self.gates.sources
        match verb:
            case "hold":
                self.held.add(what)
                self.occupancy.hold(JOBS[what], self.kind(what))
            case "let_go":
                self.held.discard(what)
                self.occupancy.let_go(JOBS[what])
            case "control":
                kind, name, control = what
                self.gates.controls("acme").put(kind, name, control, Revision(1, self.at))
            case "fail":
                for number in range(5):
                    lease = f"lease-{number}"
                    self._end(what, lease, Outcome.UNREACHABLE)
            case "good":
                sources.started(sources.of("acme", what), "probe", self.at)
                self._end(what, "probe", Outcome.GOOD)
            case "pass":
                self.at += what * 1_000_000
        self.kinds.sweep()

    def _end(self, source_id: str, lease: str, outcome: Outcome) -> None:
        running = self.occupancy.of(("acme", "source", source_id))
        sources = self.gates.sources
        sources.ended(
            sources.of("acme", source_id),
            lease,
            outcome,
            at=self.at,
            run_us=1_000,
            running=running,
        )

    def remembered(self, number: int) -> ClosedGate | None:
        job = JOBS[number]
        holding = int(number in self.held)
        return self.gates.first_closed(job, self.kind(number), self.at, holding=holding)

    def judged(self, number: int) -> ClosedGate | None:
        """As if the job held no places."""
        job = JOBS[number]
        if number in self.held:
            self.occupancy.let_go(job)
        gate = next(self.gates.closed(job, self.kind(number), self.at), None)
        if number in self.held:
            self.occupancy.hold(job, self.kind(number))
        return gate

    def kind(self, number: int) -> Kind:
        return self.kinds.of("acme", JOBS[number].definition)


def names(gate: ClosedGate | None) -> tuple[str, str] | None:
    return None if gate is None else (gate.gate, gate.key)


@settings(max_examples=150, deadline=None)
@given(MOVES)
def test_what_is_remembered_of_open_gates_is_what_a_fresh_look_finds(
    moves: list[tuple[str, Any]],
) -> None:
    world, fresh = World(), World()
    for verb, what in moves:
        world.move(verb, what)
        fresh.move(verb, what)
        for number in range(len(JOBS)):
            assert names(world.remembered(number)) == names(fresh.judged(number))


def test_places_are_counted_by_part_and_forgotten_with_the_last_job() -> None:
    kinds = Kinds(idle_max=0)
    occupancy = Occupancy(kinds)
    for job in JOBS:
        occupancy.hold(job, kinds.of("acme", job.definition))
        occupancy.hold(job, kinds.of("acme", job.definition))
    assert occupancy.of(("acme", "tenant", "")) == occupancy.taken == len(JOBS)
    assert occupancy.of(("acme", "source", "osv")) == 4
    assert occupancy.of(("acme", "project", "p")) == 6
    assert occupancy.of(("acme", "concurrency_key", "key")) == 3
    freed = [part for job in JOBS for part in occupancy.let_go(job)]
    assert freed.count(("acme", "concurrency_key", "key")) == 3
    assert occupancy.let_go(JOBS[0]) == ()
    assert (len(occupancy), kinds.tenants_holding()) == (0, [])
    assert occupancy.of(("acme", "tenant", "")) == 0
    assert occupancy.taken == len(JOBS)


def test_kinds_are_forgotten_once_no_job_holds_places_of_them_and_there_are_too_many() -> None:
    kinds = Kinds(idle_max=3)
    occupancy = Occupancy(kinds)
    held = kinds.of("acme", JOBS[1].definition)
    occupancy.hold(JOBS[1], held)
    for job in JOBS:
        kinds.of("acme", job.definition)
    kinds.sweep()
    assert len(kinds) == 1
    again = [kinds.of("acme", job.definition) for job in JOBS[:4]]
    assert again[1] is held
    for job, kind in zip(JOBS[:4], again, strict=True):
        occupancy.hold(job, kind)
    assert occupancy.of(("acme", "tenant", "")) == 4, "the parts that were held went on counting"
    kinds.sweep()
    assert len(kinds) == 4


def test_a_kind_says_what_the_controls_say_now() -> None:
    kinds = Kinds(idle_max=10)
    before = kinds.of("acme", JOBS[1].definition)
    assert (before.rules, before.source) == (None, None)
    kinds.controls("acme").put("source", "osv", source(2, lock=False), Revision(1, EPOCH))
    after = kinds.of("acme", JOBS[1].definition)
    assert after is before
    assert after.source is kinds.sources.of("acme", "osv")
    assert after.rate_request("job", JOBS[1].definition, is_retry=True) is not None
    kinds.controls("acme").put("source", "osv", None, Revision(2, EPOCH))
    assert kinds.of("acme", JOBS[1].definition).source is None
    assert not after.needs_tokens(is_retry=False)
