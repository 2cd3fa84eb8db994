"""The demo's graph and handlers: over the real engine, on the real data sets."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock

from jobengine.demo import advisories, report, sbom
from jobengine.demo.audit import plain_loop
from jobengine.demo.fetch import UpstreamRefusedError
from jobengine.demo.pipeline import Pipeline
from jobengine.demo.plan import JOIN, MAP, Ingest, Match, Plan, expected_jobs
from jobengine.demo.workspace import AttemptSeenTwiceError, Workspace
from jobengine.domain.job import Job
from tests.demo.rehearsal import URL, Attempt, Rehearsed, rehearse

PLAN = Plan(run="r1", created_at=1_790_000_000_000_000, shards=2, sources=("ghsa", "pyup"))
REPORTS = ("report.json", "report.md", "sbom.cdx.json")


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
    return site_at(workspace, published.__getitem__)


def site_at(workspace: Workspace, fetch: Any) -> Pipeline:
    return Pipeline(workspace, fetch, lambda: COMPONENTS, pace_s=0.0, pid=4711)


@attrs.frozen
class Once:
    """A run without any trouble, and what it left behind."""

    run: Rehearsed
    workspace: Workspace


@pytest.fixture(scope="module")
def once(published: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Once:
    workspace = Workspace(tmp_path_factory.mktemp("once"))
    handlers = site_at(workspace, published.__getitem__).handlers()
    clock = MockClock(autojump_threshold=0.0)
    return Once(trio.run(rehearse, PLAN, handlers, clock=clock), workspace)


def payload_of(asked: msgspec.Struct) -> Any:
    return msgspec.to_builtins(asked)


def taken(jobs: Iterable[Job]) -> list[Job]:
    """Those that were for a worker."""
    return [job for job in jobs if job.definition.job_type not in (MAP, JOIN)]


def files(workspace: Workspace) -> list[bytes]:
    return [(workspace.root / name).read_bytes() for name in REPORTS]


def test_the_report_equals_a_plain_loop_over_the_published_data(once: Once) -> None:
    run, workspace = once.run, once.workspace
    assert run.state == "completed"
    written = report.from_json((workspace.root / "report.json").read_bytes())
    assert written.run == "r1"
    assert written.outcomes == tuple(plain_loop(COMPONENTS, PLAN.sources))
    found = {finding.vulnerability for o in written.outcomes for finding in o.findings}
    assert {"CVE-2024-6345", "CVE-2022-40897", "CVE-2025-47273"} <= found
    assert written.not_covered == {"deb": 1}
    both = [f for o in written.outcomes for f in o.findings if f.sources == ("ghsa", "pyup")]
    assert both, "both sources know old vulnerabilities of Django"
    assert run.artifacts == [sbom.MIME, "application/json", "text/markdown"]
    sbom.validate((workspace.root / "sbom.cdx.json").read_bytes())


def test_a_run_has_the_planned_jobs_and_a_witness_for_each_that_a_worker_took(once: Once) -> None:
    jobs = list(once.run.jobs.values())
    assert Counter(job.definition.job_type for job in jobs) == expected_jobs(PLAN)
    witnesses = list(once.workspace.witnesses())
    assert sorted(w.job_id for w in witnesses) == sorted(job.job_id for job in taken(jobs))
    assert {(w.attempt, w.pid) for w in witnesses} == {(1, 4711)}


def test_a_job_is_given_what_those_before_it_found(once: Once) -> None:
    run = once.run
    shards = range(PLAN.shards)
    for source in PLAN.sources:
        for shard in shards:
            fetched = run.result(f"ingest_{source}[{shard}]")
            assert run.payload(f"normalise_{source}[{shard}]") == {
                "source": source, "shard": shard, "raw": fetched["digest"]
            }  # fmt: skip
    records = {
        source: [run.result(f"normalise_{source}[{shard}]")["digest"] for shard in shards]
        for source in PLAN.sources
    }
    bill = run.result("sbom")["digest"]
    for shard in shards:
        assert run.payload(f"match[{shard}]") == {
            "shard": shard, "shards": PLAN.shards, "sbom": bill, "advisories": records
        }  # fmt: skip
    assert run.payload("report") == {
        "run": "r1",
        "createdAt": PLAN.created_at,
        "sbom": bill,
        "advisories": records,
        "outcomes": [run.result(f"match[{shard}]")["digest"] for shard in shards],
    }


async def test_an_outcome_that_is_lost_twice_for_every_job_changes_nothing(
    site: Pipeline, workspace: Workspace, once: Once, autojump_clock: MockClock
) -> None:
    run = await rehearse(PLAN, site.handlers(), is_lost=lambda job: job.attempt < 3)
    assert {job.attempt for job in taken(run.jobs.values())} == {3}
    assert {key: run.result(key) for key in run.jobs} == {
        key: once.run.result(key) for key in once.run.jobs
    }
    assert files(workspace) == files(once.workspace)


async def test_a_source_that_refuses_holds_up_its_own_shards_and_not_the_other_source(
    workspace: Workspace, published: Mapping[str, bytes], autojump_clock: MockClock
) -> None:
    asked = Counter[str]()

    def fetch(url: str) -> bytes:
        asked[url] += 1
        if "/pyup/" in url and asked[url] < 3:
            raise UpstreamRefusedError(url, 429, 1.0)
        return published[url]

    run = await rehearse(PLAN, site_at(workspace, fetch).handlers())
    assert run.state == "completed"
    attempts = {key: job.attempt for key, job in run.jobs.items() if key.startswith("ingest_")}
    assert (attempts["ingest_ghsa[0]"], attempts["ingest_pyup[0]"]) == (1, 3)
    ends = run.done.index
    assert ends("normalise_ghsa[1]") < ends("ingest_pyup[0]")
    assert ends("sbom") < ends("ingest_pyup[0]")
    written = report.from_json((workspace.root / "report.json").read_bytes())
    assert written.outcomes == tuple(plain_loop(COMPONENTS, PLAN.sources))


def test_a_refusal_fails_the_attempt_and_leaves_nothing_but_its_witness(
    workspace: Workspace,
) -> None:
    def refuse(url: str) -> bytes:
        raise UpstreamRefusedError(url, 429, 1.0)

    asked = payload_of(Ingest(shard=0, url=URL))
    with pytest.raises(UpstreamRefusedError):
        site_at(workspace, refuse).ingest(Attempt("j", 1, asked))
    assert not (workspace.root / "blobs").exists()
    assert [w.attempt for w in workspace.witnesses()] == [1]


def test_a_second_owner_of_the_same_attempt_is_refused_before_it_does_anything(
    workspace: Workspace, published: Mapping[str, bytes]
) -> None:
    fetched: list[str] = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        return published[url]

    site = site_at(workspace, fetch)
    asked = payload_of(Ingest(shard=0, url=f"{URL}/ghsa/shards/0"))
    site.ingest(Attempt("j", 1, asked))
    with pytest.raises(AttemptSeenTwiceError):
        site.ingest(Attempt("j", 1, asked))
    assert len(fetched) == 1


def test_a_handler_told_to_stop_stops_between_two_components(
    site: Pipeline, workspace: Workspace
) -> None:
    class StoppedError(Exception):
        pass

    class StoppedAfterOne(Attempt):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2:
                raise StoppedError

    bill = workspace.put(sbom.build(COMPONENTS, created_at=0))
    none = workspace.put(advisories.encode([]))
    blobs = sorted((workspace.root / "blobs").iterdir())
    asked = Match(shard=0, shards=1, sbom=bill, advisories={"ghsa": (none,)})
    attempt = StoppedAfterOne("stopped", 1, payload_of(asked))
    with pytest.raises(StoppedError):
        site.match(attempt)
    assert attempt.checks == 2
    assert sorted((workspace.root / "blobs").iterdir()) == blobs
