"""The proof finds each single thing that is wrong, and nothing in a sound run."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import attrs
import msgspec
import pytest

from jobengine.demo import report, sbom
from jobengine.demo.api import Dag, DeadLetter, Failure, Node, RollUp, Run, Transition
from jobengine.demo.audit import Observed, audit, plain_loop
from jobengine.demo.plan import JOIN, MAP, MATCH, Plan, expected_jobs
from jobengine.demo.workspace import Witness

AT = datetime(2026, 11, 1, tzinfo=UTC)
PLAN = Plan(run="r1", created_at=0, shards=1, sources=("pyup",))
COMPONENTS = tuple(
    sbom.Component(
        purl=f"pkg:pypi/{name}@{version}",
        ecosystem="pypi",
        name=name,
        version=version,
        locations=("here",),
    )
    for name, version in (("django", "2.0"), ("flask", "0.12"))
)
REFUSED = Failure(class_="http_429", message="slow down", http_status=429)


def node(job_type: str, number: int) -> Node:
    attempt = {"advisories.ingest": 2, MATCH: 2}.get(job_type, 1)
    key = job_type if number == 0 else f"{job_type}.{number}"
    return Node(
        key=key,
        job_id=key,
        kind="job" if job_type not in (MAP, JOIN) else job_type.removeprefix("orch."),
        job_type=job_type,
        state="completed",
        attempt=attempt,
        started_at=AT,
        finished_at=AT + timedelta(seconds=1),
    )


def history(*failures: tuple[str, Failure | None]) -> list[Transition]:
    states: list[tuple[str, str | None, Failure | None]] = [
        ("pending", None, None),
        ("scheduled", None, None),
    ]
    for reason, error in failures:
        states += [("running", None, None), ("failed", reason, error), ("scheduled", None, None)]
    states += [("running", None, None), ("completed", None, None)]
    before = [None, *(state for state, _, _ in states)]
    return [
        Transition(to=to, from_=from_, at=AT, attempt=0, reason=reason, error=error)
        for from_, (to, reason, error) in zip(before, states, strict=False)
    ]


@pytest.fixture(scope="module")
def sound() -> Observed:
    """A run whose ingest was refused once and whose matching lost its first worker."""
    nodes = [
        node(job_type, number)
        for job_type, count in expected_jobs(PLAN).items()
        for number in range(count)
    ]
    witnesses = [
        Witness(job_id=n.job_id, job_type=n.job_type, attempt=number, pid=100 + number)
        for n in nodes
        if n.kind == "job"
        for number in range(1, n.attempt + 1)
    ]
    histories = {n.job_id: history() for n in nodes}
    histories["advisories.ingest"] = history(("error", REFUSED))
    histories[MATCH] = history(("lease_expired", None))
    counts = RollUp(completed=len(nodes), failed=0, cancelled=0)
    return Observed(
        plan=PLAN,
        run=Run(run_id="r", run_token="r1", state="completed", nodes=len(nodes), roll_up=counts),
        dag=Dag(
            run_id="r",
            state="completed",
            nodes=tuple(nodes),
            edges=(("sbom.build", MATCH), (MATCH, "report.write")),
        ),
        histories=histories,
        dead_letters=[DeadLetter(job_id="of another run", job_type=MATCH, state="open")],
        witnesses=witnesses,
        refusals=1,
        killed_pid=101,
        killed_jobs=[MATCH],
        components=COMPONENTS,
        report=report.summarise(
            run="r1",
            created_at=0,
            sbom="",
            sources=(),
            outcomes=plain_loop(COMPONENTS, PLAN.sources),
        ),
    )


def test_a_sound_run_has_no_problem(sound: Observed) -> None:
    assert audit(sound) == []
    assert sound.report.findings > 5


def without_outcome(observed: Observed) -> Observed:
    fewer = msgspec.structs.replace(observed.report, outcomes=observed.report.outcomes[1:])
    return attrs.evolve(observed, report=fewer)


def with_finding_removed(observed: Observed) -> Observed:
    first, *others = observed.report.outcomes
    first = msgspec.structs.replace(first, findings=first.findings[1:])
    return attrs.evolve(
        observed, report=msgspec.structs.replace(observed.report, outcomes=(first, *others))
    )


def with_nodes(observed: Observed, *nodes: Node) -> Observed:
    return attrs.evolve(observed, dag=msgspec.structs.replace(observed.dag, nodes=nodes))


def with_run(observed: Observed, **fields: object) -> Observed:
    return attrs.evolve(observed, run=msgspec.structs.replace(observed.run, **fields))


def earlier(steps: Sequence[Transition]) -> list[Transition]:
    return [msgspec.structs.replace(step, at=AT - timedelta(seconds=1)) for step in steps]


def with_history(observed: Observed, job_id: str, steps: list[Transition]) -> Observed:
    return attrs.evolve(observed, histories={**observed.histories, job_id: steps})


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda o: with_nodes(o, *o.dag.nodes[:-1]), "orch.join: 2 jobs, planned 3"),
        (lambda o: with_nodes(o, *o.dag.nodes, o.dag.nodes[-1]), "orch.join: 4 jobs, planned 3"),
        (
            lambda o: with_nodes(
                o, *o.dag.nodes[1:], msgspec.structs.replace(o.dag.nodes[0], state="running")
            ),
            "advisories.ingest is running",
        ),
        (lambda o: with_run(o, state="failed"), "the run is failed"),
        (lambda o: with_run(o, nodes=99), "the run has 99 nodes, 11 in its graph, 11 completed"),
        (lambda o: with_run(o, roll_up=None), "11 in its graph, 0 completed"),
        (
            lambda o: with_history(o, "report.write", earlier(o.histories["report.write"])),
            "report.write began before components.match had completed",
        ),
        (
            lambda o: attrs.evolve(
                o, dead_letters=[DeadLetter(job_id=MATCH, job_type=MATCH, state="open")]
            ),
            "is a dead letter",
        ),
        (lambda o: with_history(o, "sbom.build", history()[:-1]), "does not end completed"),
        (
            lambda o: with_history(o, "sbom.build", [*history()[:2], *history()[3:]]),
            "a step from running follows scheduled",
        ),
        (lambda o: attrs.evolve(o, witnesses=o.witnesses[:-1]), "which no worker started"),
        (
            lambda o: attrs.evolve(
                o,
                witnesses=[
                    *o.witnesses,
                    Witness(job_id="sbom.build", job_type="sbom.build", attempt=2, pid=1),
                ],
            ),
            "seen, 1 granted",
        ),
        (lambda o: attrs.evolve(o, refusals=2), "sent 429 2 times, 1 attempts failed"),
        (lambda o: attrs.evolve(o, killed_jobs=[]), "held no lease"),
        (lambda o: attrs.evolve(o, killed_jobs=["sbom.build"]), "its lease never expired"),
        (lambda o: attrs.evolve(o, killed_pid=102), "no other worker took it over"),
        (without_outcome, "pkg:pypi/django@2.0: 0 times in the report, 1 in the SBOM"),
        (
            lambda o: attrs.evolve(o, components=COMPONENTS[:1]),
            "pkg:pypi/flask@0.12: 1 times in the report, 0 in the SBOM",
        ),
        (with_finding_removed, "differs from a plain loop"),
    ],
)
def test_each_single_defect_is_named(
    sound: Observed, tamper: Callable[[Observed], Observed], named: str
) -> None:
    problems = audit(tamper(sound))
    assert any(named in problem for problem in problems), problems
