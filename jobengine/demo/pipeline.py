"""The demo's job handlers: five job types, joined by follow-up jobs and one directory.

    advisories.ingest     one per source and shard    fetch the shard from the upstream
      → advisories.normalise    one per source and shard    typed records
          → sbom.build              one, after the last of them     CycloneDX of this machine
              → components.match        one per shard                   components × advisories
                  → report.write            one, after the last of them     Markdown and JSON

A follow-up is created in the same commit as its parent's completion, so a step is never lost
between two jobs. There is no coordinator for the two joins: each part stores its result in the
workspace, marks it, and then looks whether all parts are marked; the last one does see them all
(`workspace`). Two parts may both be last, and both ask for the next job: its unique key makes that
one job.

Invariants:
    I1  Handlers are idempotent, as they must be under at-least-once: what they store is named by
        its content, and depends on the payload alone. Digests in payloads name the exact input.
    I2  Every follow-up has a unique key within its run, so a stage's job is created once.
    I3  Each attempt leaves a witness before it does anything else.

Not here: the engine and its SDK. `worker` binds these handlers to a real worker.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import attrs
import msgspec

from jobengine.demo import advisories, matching, report, sbom
from jobengine.demo.plan import (
    BUILD,
    INGEST,
    LEASE_S,
    MATCH,
    NORMALISE,
    REPORT,
    RETRIES_MAX,
    RUN_LABEL,
    UNIQUE_WINDOW_S,
    Build,
    Ingest,
    Match,
    Normalise,
    Plan,
    Record,
    Write,
    part_name,
    unique_key,
)
from jobengine.demo.workspace import Witness, Workspace


class Cancellation(Protocol):
    """Whether the handler is to stop."""

    def wait(self, timeout_s: float) -> bool: ...


class JobContext(Protocol):
    """What a handler needs of the SDK's job."""

    @property
    def job_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def payload(self) -> Any: ...

    @property
    def cancelled(self) -> Cancellation: ...

    def check(self) -> None: ...

    def progress(self, percent: float, message: str) -> None: ...

    def artifact(self, path: Path, *, mime: str) -> str: ...

    def follow_up(
        self,
        job_type: str,
        payload: Mapping[str, Any],
        *,
        labels: Mapping[str, str],
        unique_key: str,
        unique_scope: Literal["active", "window"],
        window_seconds: int,
        lease_seconds: int,
        max_retries: int,
    ) -> None: ...


PayloadT = TypeVar("PayloadT", bound=Record)
Handler = Callable[[JobContext], dict[str, Any]]


@attrs.frozen
class Pipeline:
    """The handlers with what they reach outside: all of it is given.

    `fetch` answers the body behind a URL or raises; `installed` answers what this machine has;
    `pace_s` is how long a shard of components is stretched; `pid` signs the witnesses.
    """

    workspace: Workspace
    fetch: Callable[[str], bytes]
    installed: Callable[[], tuple[sbom.Component, ...]]
    pace_s: float
    pid: int

    def handlers(self) -> Mapping[str, Handler]:
        """The handler of each job type, in the order of the pipeline."""
        return {
            INGEST: self.ingest,
            NORMALISE: self.normalise,
            BUILD: self.build,
            MATCH: self.match,
            REPORT: self.write,
        }

    def ingest(self, job: JobContext) -> dict[str, Any]:
        """Fetch one shard of one source; what `fetch` raises fails the attempt."""
        asked = self._begin(job, INGEST, Ingest)
        raw = self.workspace.put(self.fetch(asked.url))
        payload = Normalise(plan=asked.plan, source=asked.source, shard=asked.shard, raw=raw)
        _follow(job, asked.plan, NORMALISE, part_name(asked.source, asked.shard), payload)
        return {"digest": raw}

    def normalise(self, job: JobContext) -> dict[str, Any]:
        """Read one raw shard into records; the last part asks for the bill of materials."""
        asked = self._begin(job, NORMALISE, Normalise)
        plan = asked.plan
        records = advisories.normalise(asked.source, self.workspace.get(asked.raw))
        digest = self.workspace.put(advisories.encode(records))
        self.workspace.mark(plan.run, NORMALISE, part_name(asked.source, asked.shard), digest)
        marks = self.workspace.marks(plan.run, NORMALISE)
        if len(marks) == len(plan.sources) * plan.shards:
            digests = {
                source: tuple(marks[part_name(source, shard)] for shard in range(plan.shards))
                for source in plan.sources
            }
            _follow(job, plan, BUILD, "machine", Build(plan=plan, advisories=digests))
        return {"digest": digest, "advisories": len(records)}

    def build(self, job: JobContext) -> dict[str, Any]:
        """Write down what is installed, check it against the schema, ask for the matching."""
        asked = self._begin(job, BUILD, Build)
        plan = asked.plan
        components = self.installed()
        job.progress(20, f"{len(components)} components found")
        document = sbom.build(components, created_at=plan.created_at)
        job.progress(50, "checking against the CycloneDX 1.6 schema")
        sbom.validate(document)
        digest = self.workspace.put(document)
        job.artifact(self.workspace.export("sbom.cdx.json", document), mime=sbom.MIME)
        for shard in range(plan.shards):
            payload = Match(plan=plan, shard=shard, sbom=digest, advisories=asked.advisories)
            _follow(job, plan, MATCH, part_name("shard", shard), payload)
        return {"digest": digest, "components": len(components)}

    def match(self, job: JobContext) -> dict[str, Any]:
        """Match one shard of the components; the last part asks for the report."""
        asked = self._begin(job, MATCH, Match)
        plan = asked.plan
        components = [
            component
            for component in sbom.read(self.workspace.get(asked.sbom))
            if advisories.shard_of(component.name, plan.shards) == asked.shard
        ]
        outcomes = self._match(job, asked, components)
        digest = self.workspace.put(msgspec.json.encode(outcomes))
        self.workspace.mark(plan.run, MATCH, part_name("shard", asked.shard), digest)
        marks = self.workspace.marks(plan.run, MATCH)
        if len(marks) == plan.shards:
            ordered = tuple(marks[part_name("shard", shard)] for shard in range(plan.shards))
            payload = Write(
                plan=plan, sbom=asked.sbom, advisories=asked.advisories, outcomes=ordered
            )
            _follow(job, plan, REPORT, "machine", payload)
        findings = sum(len(outcome.findings) for outcome in outcomes)
        return {"digest": digest, "components": len(outcomes), "findings": findings}

    def write(self, job: JobContext) -> dict[str, Any]:
        """Put all outcomes into one report, as JSON and Markdown."""
        asked = self._begin(job, REPORT, Write)
        outcomes = [
            outcome
            for digest in asked.outcomes
            for outcome in msgspec.json.decode(
                self.workspace.get(digest), type=tuple[matching.Outcome, ...]
            )
        ]
        facts = [
            self._facts(source, digests) for source, digests in sorted(asked.advisories.items())
        ]
        written = report.summarise(
            run=asked.plan.run,
            created_at=asked.plan.created_at,
            sbom=asked.sbom,
            sources=facts,
            outcomes=outcomes,
        )
        encoded = report.to_json(written)
        markdown = report.to_markdown(written).encode()
        job.artifact(self.workspace.export("report.json", encoded), mime="application/json")
        job.artifact(self.workspace.export("report.md", markdown), mime="text/markdown")
        digest = self.workspace.put(encoded)
        return {"digest": digest, "components": len(outcomes), "findings": written.findings}

    def _begin(self, job: JobContext, job_type: str, payload: type[PayloadT]) -> PayloadT:
        self.workspace.witness(
            Witness(job_id=job.job_id, job_type=job_type, attempt=job.attempt, pid=self.pid)
        )
        return msgspec.convert(job.payload, payload)

    def _match(
        self, job: JobContext, asked: Match, components: list[sbom.Component]
    ) -> list[matching.Outcome]:
        records = [
            record
            for digests in asked.advisories.values()
            for record in advisories.decode(self.workspace.get(digests[asked.shard]))
        ]
        index = matching.index(records)
        covered = frozenset(advisories.DATA_SETS[source].ecosystem for source in asked.plan.sources)
        outcomes = []
        for number, component in enumerate(components, start=1):
            outcomes.append(matching.match(component, index, covered))
            job.cancelled.wait(self.pace_s / len(components))
            job.check()
            job.progress(100 * number / len(components), component.purl)
        return outcomes

    def _facts(self, source: str, digests: tuple[str, ...]) -> report.SourceFacts:
        records = [
            record for digest in digests for record in advisories.decode(self.workspace.get(digest))
        ]
        return report.source_facts(
            advisories.DATA_SETS[source],
            advisories=len(records),
            unreadable=sum(len(record.unreadable) for record in records),
        )


def _follow(job: JobContext, plan: Plan, job_type: str, part: str, payload: Record) -> None:
    job.follow_up(
        job_type,
        msgspec.to_builtins(payload),
        labels={RUN_LABEL: plan.run},
        unique_key=unique_key(plan, job_type, part),
        unique_scope="window",
        window_seconds=UNIQUE_WINDOW_S,
        lease_seconds=LEASE_S,
        max_retries=RETRIES_MAX,
    )
