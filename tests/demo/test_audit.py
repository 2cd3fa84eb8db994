"""The proof finds each single thing that is wrong, and nothing in a sound run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs
import msgspec
import pytest

from jobengine.demo import report, sbom
from jobengine.demo.api import DeadLetter, Failure, Job, Transition
from jobengine.demo.audit import Observed, audit, plain_loop
from jobengine.demo.plan import MATCH, Plan, expected_jobs
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


def job(job_type: str, attempt: int = 1) -> Job:
    return Job(
        job_id=job_type,
        job_type=job_type,
        state="completed",
        attempt=attempt,
        failures=attempt - 1,
        created_at=AT,
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
    attempts = {"advisories.ingest": 2, MATCH: 2}
    jobs = [job(job_type, attempts.get(job_type, 1)) for job_type in expected_jobs(PLAN)]
    witnesses = [
        Witness(job_id=j.job_id, job_type=j.job_type, attempt=number, pid=100 + number)
        for j in jobs
        for number in range(1, j.attempt + 1)
    ]
    histories = {j.job_id: history() for j in jobs}
    histories["advisories.ingest"] = history(("error", REFUSED))
    histories[MATCH] = history(("lease_expired", None))
    return Observed(
        plan=PLAN,
        jobs=jobs,
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


def with_history(observed: Observed, job_id: str, steps: list[Transition]) -> Observed:
    return attrs.evolve(observed, histories={**observed.histories, job_id: steps})


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda o: attrs.evolve(o, jobs=o.jobs[:-1]), "report.write: 0 jobs, planned 1"),
        (lambda o: attrs.evolve(o, jobs=[*o.jobs, o.jobs[-1]]), "report.write: 2 jobs, planned 1"),
        (
            lambda o: attrs.evolve(
                o, jobs=[*o.jobs[:-1], msgspec.structs.replace(o.jobs[-1], state="running")]
            ),
            "is running",
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
