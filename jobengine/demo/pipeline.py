"""The demo's job handlers, one for each job type of the graph (`plan`).

Invariants:
    I1  Handlers are idempotent, as they must be under at-least-once: what they store is named by
        its content, and depends on the payload alone. Digests in payloads name the exact input,
        digests in results the exact output.
    I2  Each attempt leaves a witness before it does anything else.

Not here: which job comes after which (`plan`), the engine and its SDK (`worker` binds these
handlers to a real worker).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs
import msgspec

from jobengine.demo import advisories, matching, report, sbom
from jobengine.demo.plan import (
    BUILD,
    INGEST,
    MATCH,
    NORMALISE,
    REPORT,
    Build,
    Ingest,
    Match,
    Normalise,
    Record,
    Write,
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
        return {"shard": asked.shard, "digest": self.workspace.put(self.fetch(asked.url))}

    def normalise(self, job: JobContext) -> dict[str, Any]:
        """Read one raw shard into records."""
        asked = self._begin(job, NORMALISE, Normalise)
        records = advisories.normalise(asked.source, self.workspace.get(asked.raw))
        digest = self.workspace.put(advisories.encode(records))
        return {"shard": asked.shard, "digest": digest, "advisories": len(records)}

    def build(self, job: JobContext) -> dict[str, Any]:
        """Write down what is installed, and check it against the schema."""
        asked = self._begin(job, BUILD, Build)
        components = self.installed()
        job.progress(20, f"{len(components)} components found")
        document = sbom.build(components, created_at=asked.created_at)
        job.progress(50, "checking against the CycloneDX 1.6 schema")
        sbom.validate(document)
        digest = self.workspace.put(document)
        job.artifact(self.workspace.export("sbom.cdx.json", document), mime=sbom.MIME)
        return {"digest": digest, "components": len(components)}

    def match(self, job: JobContext) -> dict[str, Any]:
        """Match one shard of the components."""
        asked = self._begin(job, MATCH, Match)
        components = [
            component
            for component in sbom.read(self.workspace.get(asked.sbom))
            if advisories.shard_of(component.name, asked.shards) == asked.shard
        ]
        outcomes = self._match(job, asked, components)
        digest = self.workspace.put(msgspec.json.encode(outcomes))
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
            run=asked.run,
            created_at=asked.created_at,
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
        covered = frozenset(advisories.DATA_SETS[source].ecosystem for source in asked.advisories)
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
