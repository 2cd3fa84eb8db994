"""The demo's handlers, run by a loop that delivers at least once, on the real data sets."""

import itertools
import json
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobengine.demo import advisories, pipeline, report, sbom
from jobengine.demo.audit import plain_loop
from jobengine.demo.fetch import UpstreamRefused
from jobengine.demo.pipeline import Handler, Pipeline
from jobengine.demo.plan import (
    BUILD,
    INGEST,
    MATCH,
    NORMALISE,
    REPORT,
    Plan,
    expected_jobs,
    first_jobs,
)
from jobengine.demo.workspace import AttemptSeenTwice, Workspace
from jobengine.wire.jobs import JobRequest

PLAN = Plan(run="r1", created_at=1_790_000_000_000_000, shards=2, sources=("ghsa", "pyup"))
URL = "http://upstream"


def component(name: str, version: str, ecosystem: str = "pypi") -> sbom.Component:
    return sbom.Component(
        purl=f"pkg:{'deb/debian' if ecosystem == 'deb' else ecosystem}/{name}@{version}",
        ecosystem=ecosystem,
        name=name,
        version=version,
        locations=("/somewhere",),
    )


COMPONENTS = (
    component("setuptools", "65.5.0"),
    component("django", "2.2"),
    component("requests", "2.33.0"),
    component("no-such-package", "1.0"),
    component("setuptools", "66.1.1-1", "deb"),
)


class NeverCancelled:
    """Nobody asks this handler to stop."""

    def wait(self, timeout_s: float) -> bool:
        assert timeout_s >= 0
        return False


class Attempt:
    """One attempt of a job: keeps the follow-ups, as requests the engine would accept."""

    def __init__(self, job_id: str, attempt: int, payload: Any) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.payload = payload
        self.cancelled = NeverCancelled()
        self.follow_ups: list[JobRequest] = []
        self.artifacts: list[str] = []

    def check(self) -> None:
        return

    def progress(self, percent: float, message: str) -> None:
        assert 0 <= percent <= 100, message

    def artifact(self, path: Path, *, mime: str) -> str:
        self.artifacts.append(mime)
        return str(path)

    def follow_up(self, job_type: str, payload: Mapping[str, Any], **fields: Any) -> None:
        camel = {
            "".join(part.title() if n else part for n, part in enumerate(name.split("_"))): value
            for name, value in fields.items()
        }
        self.follow_ups.append(accepted({"jobType": job_type, "payload": payload, **camel}))


def accepted(body: Mapping[str, Any]) -> JobRequest:
    """The body as the engine reads it; raises on anything it would refuse."""
    return msgspec.json.decode(msgspec.json.encode(body), type=JobRequest)


class Loop:
    """Runs jobs until none is left; every attempt is run `times` over, the last one counts.

    Creates a job once per unique key, like the engine.
    """

    def __init__(self, handlers: Mapping[str, Handler], times: int) -> None:
        self.handlers = handlers
        self.times = times
        self.created: dict[str, JobRequest] = {}
        self.queue: deque[tuple[str, JobRequest]] = deque()
        self.results: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: list[str] = []

    def create(self, request: JobRequest) -> None:
        assert request.unique_key is not None
        if request.unique_key not in self.created:
            self.created[request.unique_key] = request
            self.queue.append((request.unique_key.replace("/", "-"), request))

    def run(self) -> None:
        while self.queue:
            job_id, request = self.queue.popleft()
            payload = json.loads(bytes(request.payload))
            attempts = [Attempt(job_id, number + 1, payload) for number in range(self.times)]
            handler = self.handlers[request.job_type]
            self.results[job_id] = [handler(attempt) for attempt in attempts]
            self.artifacts += attempts[-1].artifacts
            for follow_up in attempts[-1].follow_ups:
                self.create(follow_up)


@pytest.fixture(scope="module")
def published() -> Mapping[str, bytes]:
    """Raw shards by URL."""
    return {
        f"{URL}/{source}/shards/{number}": shard
        for source in PLAN.sources
        for number, shard in enumerate(
            advisories.raw_shards(advisories.DATA_SETS[source], PLAN.shards)
        )
    }


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def site(workspace: Workspace, published: Mapping[str, bytes]) -> Pipeline:
    return Pipeline(
        workspace=workspace,
        fetch=published.__getitem__,
        installed=lambda: COMPONENTS,
        pace_s=0.0,
        pid=4711,
    )


def finished(site: Pipeline, times: int) -> Loop:
    loop = Loop(site.handlers(), times)
    for body in first_jobs(PLAN, URL):
        loop.create(accepted(body))
    loop.run()
    return loop


def test_the_report_equals_a_plain_loop_over_the_published_data(
    site: Pipeline, workspace: Workspace
) -> None:
    loop = finished(site, times=1)
    written = report.from_json((workspace.root / "report.json").read_bytes())
    assert written.outcomes == tuple(plain_loop(COMPONENTS, PLAN.sources))
    found = {finding.vulnerability for o in written.outcomes for finding in o.findings}
    assert {"CVE-2024-6345", "CVE-2022-40897", "CVE-2025-47273"} <= found
    assert written.not_covered == {"deb": 1}
    both = [f for o in written.outcomes for f in o.findings if f.sources == ("ghsa", "pyup")]
    assert both, "both sources know old vulnerabilities of Django"
    assert loop.artifacts == [sbom.MIME, "application/json", "text/markdown"]
    sbom.validate((workspace.root / "sbom.cdx.json").read_bytes())


def test_a_run_has_the_planned_jobs_and_a_witness_for_each(
    site: Pipeline, workspace: Workspace
) -> None:
    loop = finished(site, times=1)
    assert Counter(r.job_type for r in loop.created.values()) == expected_jobs(PLAN)
    witnesses = list(workspace.witnesses())
    assert sorted(w.job_id for w in witnesses) == sorted(loop.results)
    assert {(w.attempt, w.pid) for w in witnesses} == {(1, 4711)}


def test_delivering_every_job_three_times_changes_nothing(
    site: Pipeline, workspace: Workspace, tmp_path: Path
) -> None:
    loop = finished(site, times=3)
    assert Counter(r.job_type for r in loop.created.values()) == expected_jobs(PLAN)
    for results in loop.results.values():
        assert results[0] == results[1] == results[2]
    once = Workspace(tmp_path / "once")
    finished(Pipeline(once, site.fetch, site.installed, pace_s=0.0, pid=1), times=1)
    for name in ("report.json", "report.md", "sbom.cdx.json"):
        assert (workspace.root / name).read_bytes() == (once.root / name).read_bytes()


@pytest.mark.parametrize("stage", [NORMALISE, MATCH])
def test_a_join_survives_the_death_of_whoever_marked_last(site: Pipeline, stage: str) -> None:
    """Every first attempt of the stage dies after its work: what it asked for is never created."""
    attempts = itertools.count(1)

    def dying(job: pipeline.JobContext) -> dict[str, Any]:
        next(attempts)
        site.handlers()[stage](job)
        again = Attempt(job.job_id, job.attempt + 1, job.payload)
        result = site.handlers()[stage](again)
        survivors.extend(again.follow_ups)
        return result

    survivors: list[JobRequest] = []
    loop = Loop({**site.handlers(), stage: dying}, times=1)
    for body in first_jobs(PLAN, URL):
        loop.create(accepted(body))
    loop.run()
    following = {NORMALISE: BUILD, MATCH: REPORT}[stage]
    assert [request.job_type for request in survivors] == [following]
    assert next(attempts) == expected_jobs(PLAN)[stage] + 1


def test_two_parts_that_are_both_last_ask_for_one_and_the_same_job(site: Pipeline) -> None:
    loop = finished(site, times=1)
    asked = []
    for request in loop.created.values():
        if request.job_type == MATCH:
            attempt = Attempt(f"again-{request.unique_key}".replace("/", "-"), 1, None)
            attempt.payload = json.loads(bytes(request.payload))
            site.match(attempt)
            asked += attempt.follow_ups
    assert len(asked) == PLAN.shards
    assert {(r.unique_key, bytes(r.payload)) for r in asked} == {
        (r.unique_key, bytes(r.payload)) for r in loop.created.values() if r.job_type == REPORT
    }


def test_a_refusal_fails_the_attempt_and_leaves_nothing_but_its_witness(
    site: Pipeline, workspace: Workspace
) -> None:
    def refuse(url: str) -> bytes:
        raise UpstreamRefused(url, 429, 1.0)

    refused = Pipeline(workspace, refuse, site.installed, pace_s=0.0, pid=1)
    body = accepted(first_jobs(PLAN, URL)[0])
    attempt = Attempt("j", 1, json.loads(bytes(body.payload)))
    with pytest.raises(UpstreamRefused):
        refused.ingest(attempt)
    assert attempt.follow_ups == []
    assert not (workspace.root / "blobs").exists()
    assert [w.attempt for w in workspace.witnesses()] == [1]


def test_a_second_owner_of_the_same_attempt_is_refused_before_it_does_anything(
    site: Pipeline,
) -> None:
    payload = json.loads(bytes(accepted(first_jobs(PLAN, URL)[0]).payload))
    site.ingest(Attempt("j", 1, payload))
    second = Attempt("j", 1, payload)
    with pytest.raises(AttemptSeenTwice):
        site.ingest(second)
    assert second.follow_ups == []


def test_a_handler_told_to_stop_stops_between_two_components(
    site: Pipeline, workspace: Workspace
) -> None:
    class Stopped(Exception):
        pass

    class StoppedAfterOne(Attempt):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2:
                raise Stopped

    loop = finished(site, times=1)
    whole = {
        "plan": msgspec.to_builtins(Plan(run="r2", created_at=0, shards=1, sources=("ghsa",))),
        "shard": 0,
        "sbom": loop.results["r1-sbom.build-machine"][0]["digest"],
        "advisories": {"ghsa": [loop.results["r1-advisories.normalise-ghsa.0"][0]["digest"]]},
    }
    attempt = StoppedAfterOne("stopped", 1, whole)
    with pytest.raises(Stopped):
        site.match(attempt)
    assert attempt.checks == 2
    assert workspace.marks("r2", MATCH) == {}


def test_the_first_jobs_are_one_per_source_and_shard() -> None:
    bodies = [accepted(body) for body in first_jobs(PLAN, URL)]
    assert {body.job_type for body in bodies} == {INGEST}
    assert len({body.unique_key for body in bodies}) == len(bodies) == 4
