"""Random work under random controls: nothing passes a closed gate, nothing waits at an open one.

What has started is judged by an auditor that reads the entries of the commits; what waits, by what
the shard says of it and by the auditor's own gates.
"""

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobengine.domain.blackout import Blackout, BlackoutScope, OneOff
from jobengine.domain.control import (
    Control,
    ControlKind,
    Pause,
    Quota,
    RatePolicy,
    Source,
    Throttle,
    Weight,
    control_name,
)
from jobengine.domain.failure import Failure
from jobengine.domain.ids import lease_id
from jobengine.domain.job import State
from jobengine.messages.admission import ChangeControl, OperateBreaker, SetLoad
from jobengine.messages.lease_shard import Actor, CancelJob, PrioritizeJob, ReleaseJob
from jobengine.messages.worker_reports import Completed, Detach, Drain, Failed, GivenBack, SetCredit
from jobengine.store.memory.tables import Tables
from tests.actors.admission_auditor import AdmissionAuditor
from tests.core.shard_driver import ShardDriver, job_id, new_job
from tests.core.stored_driver import StoredDriver

EXACT = {"held", "not_before", "paused", "blackout", "quota_active", "concurrency_key"}
SOURCES, TYPES, PROJECTS = ("osv", "nvd"), ("scan", "fetch"), ("p1", "p2")
PLACES = (
    ("tenant", ""),
    *(("job_type", name) for name in TYPES),
    *(("source", name) for name in SOURCES),
    *(("project", name) for name in PROJECTS),
)
SMALL = {"lane_jobs_max": 6, "window_jobs_max": 16, "due_jobs_max": 16, "parked_jobs_max": 8}
SECOND = 1_000_000

small = st.integers(1, 4)
rates = st.builds(
    RatePolicy,
    burst=small,
    per_minute_micro=st.sampled_from([2, 60, 600, 6000]).map(lambda rpm: rpm * SECOND),
    cooldown_us=st.sampled_from([0, 2 * SECOND]),
)
quota_places = st.sampled_from([place for place in PLACES if place[0] != "source"])


@st.composite
def controls(draw: st.DrawFn) -> tuple[ControlKind, str, Control]:
    kind: ControlKind = draw(
        st.sampled_from(["source", "source", "quota", "quota", "throttle", "pause", "weight"])
    )
    scope, key = draw(quota_places if kind == "quota" else st.sampled_from(PLACES))
    control: Control
    match kind:
        case "source":
            source = draw(st.sampled_from(SOURCES))
            control = Source(
                host=draw(st.sampled_from(["one.example", "two.example"])),
                source_type="advisories",
                lock_key=draw(st.sampled_from([None, None, "lock"])),
                max_active=draw(st.none() | small),
                rate_policy=draw(st.none() | rates | rates | rates),
                weight=draw(small),
            )
            return kind, source, control
        case "quota":
            hourly = draw(st.none() | small)
            active = draw(st.none() | small)
            control = Quota(
                scope=scope,  # type: ignore[arg-type]
                key=key,
                max_active=active,
                max_per_hour=hourly,
                burst=draw(st.none() | small) if hourly else None,
                paused=draw(st.booleans()) if hourly or active else True,
            )
            return kind, draw(st.sampled_from(["a", "b"])), control
        case "throttle":
            control = Throttle(scope=scope, key=key, rate=draw(rates))  # type: ignore[arg-type]
            return kind, control_name(scope, key), control  # type: ignore[arg-type]
        case "weight":
            name = draw(st.sampled_from(TYPES))
            return kind, control_name("job_type", name), Weight(key=name, weight=draw(small))
        case _:
            control = Pause(scope=scope, key=key)  # type: ignore[arg-type]
            return kind, control_name(scope, key), control  # type: ignore[arg-type]


definitions = st.fixed_dictionaries(
    {
        "job_type": st.sampled_from(TYPES),
        "queue": st.sampled_from(["scan", "other"]),
        "priority": st.integers(0, 9),
        "max_retries": st.integers(0, 3),
    },
    optional={
        "source_id": st.sampled_from((*SOURCES, "unregistered")),
        "project_id": st.sampled_from(PROJECTS),
        "cost": small,
        "concurrency_key": st.sampled_from(["k1", "k2"]),
        "hold": st.booleans(),
        "delay_s": st.sampled_from([0.5, 20]),
        "expires_s": st.sampled_from([3, 50]),
    },
)


class Admission(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lives = 0
        self.numbers = 0
        self.sessions: dict[int, tuple[frozenset[str], frozenset[str]]] = {}
        self.auditor = AdmissionAuditor(restarts=True)
        self.deferring = False
        self.driver = self.start(Tables(), 1000.0)

    def start(self, tables: Tables, mono: float) -> StoredDriver:
        self.lives += 1
        return StoredDriver(tables, mono, self.lives, **SMALL)

    @property
    def core(self) -> Any:
        return self.driver.core._state

    def rest(self) -> None:
        """Everything under way has settled, and the auditor has seen it."""
        self.driver.settle()
        self.auditor.read(self.driver.entries)
        self.driver.entries.clear()

    def jobs_in(self, *states: State) -> list[str]:
        jobs = self.driver.tables.jobs
        return sorted(job_id for (_, job_id), job in jobs.items() if job.state in states)

    def ask(self, message: Any, **fields: Any) -> None:
        given = {"ask_id": self.driver.ask_id(), "tenant_id": "acme", "actor": Actor("op")}
        self.driver.send(message(**given, **fields))
        self.rest()

    # ---- work

    @initialize(given=st.lists(controls(), max_size=3))
    def begin(self, given: list[tuple[ControlKind, str, Control]]) -> None:
        for each in given:
            self.change_a_control(each)
        self.a_worker_comes(set(TYPES), set(), 3, 6)

    @rule(jobs=st.lists(definitions, min_size=1, max_size=6))
    def submit(self, jobs: list[dict[str, Any]]) -> None:
        made = []
        for fields in jobs:
            self.numbers += 1
            delay_s, expires_s = fields.pop("delay_s", None), fields.pop("expires_s", None)
            now_at = self.driver.now.at
            if delay_s:
                fields["not_before"] = now_at + round(delay_s * SECOND)
            if expires_s:
                fields["expires_at"] = now_at + expires_s * SECOND
            if "concurrency_key" in fields:
                fields["concurrency_limit"] = int(fields["concurrency_key"][1])
            made.append(new_job(self.numbers, **fields))
        self.driver.submit(*made)
        self.rest()

    @rule(
        types=st.sets(st.sampled_from(TYPES), min_size=1),
        queues=st.sets(st.sampled_from(["scan", "other"])),
        slots=st.integers(0, 6),
        capacity=st.integers(1, 8),
    )
    def a_worker_comes(self, types: set[str], queues: set[str], slots: int, capacity: int) -> None:
        session_id = len(self.sessions) + 1
        self.sessions[session_id] = frozenset(types), frozenset(queues)
        self.driver.attach(
            session_id,
            slots=slots,
            job_types=frozenset(types),
            queues=frozenset(queues),
            capacity=capacity,
        )
        self.rest()

    @rule(data=st.data(), slots=st.integers(0, 8))
    def a_worker_wants(self, data: st.DataObject, slots: int) -> None:
        if attached := sorted(session.session_id for session in self.attached()):
            session_id = data.draw(st.sampled_from(attached))
            self.driver.send(SetCredit(session_id=session_id, slots=slots))
            self.rest()

    @rule(data=st.data(), kind=st.sampled_from([Drain, Detach]))
    def a_worker_goes(self, data: st.DataObject, kind: Any) -> None:
        if attached := sorted(session.session_id for session in self.attached()):
            extra = {"ref": 1} if kind is Drain else {}
            self.driver.send(kind(session_id=data.draw(st.sampled_from(attached)), **extra))
            self.rest()

    @rule(data=st.data(), end=st.sampled_from(["done", "done", "own", 429, 502, "back", "later"]))
    def a_job_ends(self, data: st.DataObject, end: str | int) -> None:
        held = [job_id for job_id in self.auditor.running if self.session_of(job_id)]
        if held:
            self.end(data.draw(st.sampled_from(sorted(held))), end)

    def end(self, of: str, end: str | int) -> None:
        attempt = self.driver.tables.jobs["acme", of].attempt
        lease: dict[str, Any] = {"lease_id": lease_id(of, attempt), "token": attempt, "ref": 1}
        report: Any
        if end == "done":
            report = Completed(result=b"1", **lease)
        elif end in ("back", "later"):
            report = GivenBack(delay_us=5 * SECOND if end == "later" else 0, **lease)
        else:
            status = end if isinstance(end, int) else None
            error = Failure(class_="Boom", message="no", retryable=True, http_status=status)
            report = Failed(error=error, **lease)
        self.driver.report(report, session_id=self.session_of(of))
        self.rest()

    def session_of(self, job_id: str) -> int:
        lease = self.core.leases.of_job(job_id)
        return 0 if lease is None or lease.session is None else lease.session.session_id

    def attached(self) -> list[Any]:
        return list(self.core.sessions._by_id.values())

    # ---- operators

    @rule(given=controls())
    def change_a_control(self, given: tuple[ControlKind, str, Control | None]) -> None:
        kind, name, control = given
        self.ask(
            ChangeControl, kind=kind, name=name, control=control, event=f"{kind}.set", force=True
        )

    @rule(data=st.data())
    def take_a_control_away(self, data: st.DataObject) -> None:
        known = sorted(self.auditor.controls)
        if known:
            kind, name = data.draw(st.sampled_from(known))
            self.change_a_control((kind, name, None))

    @rule(
        begins_s=st.sampled_from([-5, 0, 3]),
        lasts_s=st.sampled_from([6, 100]),
        place=st.sampled_from([place for place in PLACES if place[0] != "project"]),
    )
    def set_a_blackout(self, begins_s: int, lasts_s: int, place: tuple[str, str]) -> None:
        begins_at = self.driver.now.at + begins_s * SECOND
        window = OneOff(start_at=begins_at, end_at=begins_at + lasts_s * SECOND)
        blackout = Blackout(
            blackout_id="b",
            calendar=(window,),
            reason="works",
            scope=BlackoutScope(place[0]),
            key=place[1],
        )
        self.change_a_control(("blackout", "b", blackout))

    @rule(
        data=st.data(), kind=st.sampled_from([CancelJob, PrioritizeJob, PrioritizeJob, ReleaseJob])
    )
    def operate_on_a_job(self, data: st.DataObject, kind: Any) -> None:
        if jobs := self.jobs_in(State.PENDING, State.SCHEDULED, State.RUNNING):
            extra = {"priority": data.draw(st.integers(0, 9))} if kind is PrioritizeJob else {}
            self.ask(kind, job_id=data.draw(st.sampled_from(jobs)), **extra)

    @rule(source=st.sampled_from(SOURCES), verb=st.sampled_from(["open", "close", "release"]))
    def force_a_breaker(self, source: str, verb: Any) -> None:
        self.ask(OperateBreaker, source_id=source, verb=verb)

    @rule(busy=st.booleans())
    def load(self, busy: bool) -> None:
        self.deferring = busy
        self.driver.send(SetLoad(level="elevated" if busy else "normal"))
        self.rest()

    # ---- time and faults

    @precondition(lambda self: self.driver.buckets_answer)
    @rule(seconds=st.sampled_from([0.2, 1.0, 7.0, 31.0, 100.0, 3700.0]))
    def time_passes(self, seconds: float) -> None:
        self.driver.wait(seconds)
        self.rest()

    @rule()
    def the_bucket_is_slow(self) -> None:
        self.driver.buckets_answer = False

    @precondition(lambda self: not self.driver.buckets_answer)
    @rule()
    def the_bucket_answers(self) -> None:
        self.driver.buckets_answer = True
        self.driver.answer_buckets()
        self.rest()

    @rule()
    def the_bucket_is_lost(self) -> None:
        self.driver.lose_buckets()
        self.rest()

    @rule(chance=st.integers(0, 3))
    def the_engine_restarts(self, chance: int) -> None:
        if chance:
            return
        self.driver = self.start(self.driver.tables, self.driver.mono + 0.5)
        self.deferring = False
        self.rest()
        self.a_worker_comes(set(TYPES), set(), 3, 6)

    # ---- what must hold

    @invariant()
    def places_held_are_those_of_live_leases(self) -> None:
        if self.driver.buckets_answer:
            running = self.jobs_in(State.RUNNING)
            assert sorted(self.auditor.running) == running
            occupancy = self.core.occupancy
            assert len(occupancy) == len(running)
            for scope, key in PLACES:
                assert occupancy.of(("acme", scope, key)) == self.auditor.count(scope, key)

    @invariant()
    def nothing_is_kept_of_what_is_gone(self) -> None:
        state, room, proposals = self.core, self.core.waiting_room, self.core.proposals
        waiting = set(self.jobs_in(State.SCHEDULED))
        assert room._parked.keys() <= waiting
        assert room._tried.keys() <= waiting
        assert room._closed.keys() <= state.lanes.keys()
        assert room._opens.keys() <= room._waiters.keys()
        assert not state.opened
        if self.driver.buckets_answer:
            held = [proposals._asked, proposals._candidates, proposals._by_lane]
            held += [proposals._proposed, proposals._outdated]
            held += [state.operating, state.set_aside, state.deferred, state.pending]
            assert not any(held), held
            assert not any(session.proposed for session in self.attached())

    @invariant()
    def whatever_waits_waits_at_a_closed_gate(self) -> None:
        if not self.driver.buckets_answer:
            return
        for waiting in self.jobs_in(State.PENDING, State.SCHEDULED):
            explanation = self.driver.explanation(waiting)
            named = {gate.gate for gate in explanation.gates}
            assert named, f"{waiting} waits at no gate"
            job = self.driver.tables.jobs["acme", waiting]
            expected = self.closed_by_the_model(job)
            assert named & EXACT == expected, (waiting, named, expected)
            for gate in named - EXACT:
                assert self.is_true(gate, job, named), (waiting, gate, explanation)

    def closed_by_the_model(self, job: Any) -> set[str]:
        if job.state is State.PENDING:
            return {"held"}
        at = self.driver.now.at
        closed = set(self.auditor.closed(self.auditor.definitions[job.job_id], at))
        if job.due_at > at:
            closed.add("not_before")
        return closed & EXACT

    def is_true(self, gate: str, job: Any, named: set[str]) -> bool:
        definition = self.auditor.definitions[job.job_id]
        source_id = definition.get("sourceId", "")
        closed = set(self.auditor.closed(definition, self.driver.now.at))
        takers = [session for session in self.attached() if self.takes(session, definition)]
        match gate:
            case "breaker":
                position = self.auditor.breakers.get(source_id, {}).get("to")
                return position in ("open", "half_open", "forced_open")
            case "no_worker":
                return not takers
            case "no_slot":
                return "lowered" in closed or not any(each.slots > 0 for each in takers)
            case "rate":
                return (
                    "rate" in closed
                    or bool(self.auditor.rate_keys(definition))
                    or bool(self.hourly(definition))
                )
            case "quota_hour":
                return bool(self.hourly(definition))
            case "retry_budget":
                return job.failures > 0
            case _:
                return gate == "behind" and (
                    (self.deferring and job.definition.priority <= 1)
                    or "no_slot" in named
                    or self.core.waiting_room.subject_of(self.core.lane_of(job)) is not None
                )

    def hourly(self, definition: dict[str, Any]) -> list[Any]:
        return [each for each in self.auditor._quotas(definition) if each[1].get("maxPerHour")]

    def takes(self, session: Any, definition: dict[str, Any]) -> bool:
        types, queues = self.sessions[session.session_id]
        return definition["jobType"] in types and (not queues or definition["queue"] in queues)

    def teardown(self) -> None:
        """Once all gates are open and somebody asks, everything comes to its end."""
        self.the_bucket_is_lost()
        for kind, name in sorted(self.auditor.controls):
            self.change_a_control((kind, name, None))
        self.load(busy=False)
        for held in self.jobs_in(State.PENDING):
            self.ask(ReleaseJob, job_id=held)
        self.a_worker_comes(set(TYPES), set(), 100, 100)
        last = len(self.sessions)
        for _ in range(60):
            for running in sorted(self.auditor.running):
                if self.session_of(running):
                    self.end(running, "done")
            self.driver.send(SetCredit(session_id=last, slots=100))
            self.driver.wait(60.0)
            self.rest()
            if not self.jobs_in(State.PENDING, State.SCHEDULED, State.RUNNING):
                break
        else:
            raise AssertionError(f"stuck: {self.jobs_in(State.SCHEDULED, State.RUNNING)}")
        self.auditor.finish()
        assert not self.core.waiting_room
        assert len(self.core.occupancy) == 0


TestAdmission = Admission.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


OSV = Source(
    host="api.osv.example",
    source_type="advisories",
    rate_policy=RatePolicy(burst=2, per_minute_micro=60 * SECOND),
)


def started(driver: ShardDriver) -> list[int]:
    return [int(grant.job.job_id[-12:]) for grant in driver.grants()]


def test_a_worker_all_of_whose_slots_were_proposed_in_vain_still_asks() -> None:
    driver = ShardDriver()
    driver.control("source", "osv", OSV)
    driver.submit(*(new_job(number, source_id="osv") for number in range(1, 7)))
    driver.settle()
    driver.attach(slots=2)
    driver.settle()
    driver.send(SetCredit(session_id=1, slots=2))
    assert started(driver) == [1, 2]
    driver.wait(1.1)
    driver.settle()
    assert started(driver) == [1, 2, 3]


def test_tokens_of_a_limit_that_has_changed_meanwhile_start_nothing() -> None:
    driver = ShardDriver()
    driver.control("source", "osv", OSV)
    driver.attach()
    driver.buckets_answer = False
    driver.submit(new_job(1, source_id="osv"), new_job(2, source_id="osv"))
    slow = RatePolicy(burst=1, per_minute_micro=SECOND)
    driver.control("throttle", "tenant", Throttle(rate=slow))
    driver.buckets_answer = True
    driver.answer_buckets()
    driver.settle()
    assert started(driver) == [1]


def test_an_operation_that_is_refused_leaves_a_parked_job_at_its_gate() -> None:
    driver = StoredDriver(Tables(), 1000.0, 1)
    driver.attach(auto_credit=True)
    driver.submit(*(new_job(n, concurrency_key="k", concurrency_limit=1) for n in (1, 2)))
    driver.settle()
    driver.send(ReleaseJob(ask_id=9, tenant_id="acme", actor=Actor("op"), job_id=job_id(2)))
    driver.settle()
    for number in (1, 2):
        driver.report(Completed(lease_id=lease_id(job_id(number), 1), token=1, result=b"1"))
        driver.settle()
    assert started(driver) == [1, 2]
    assert not driver.core._state.waiting_room
