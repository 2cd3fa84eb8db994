"""What a run of the demo consists of: its graph, the payloads of its jobs, how many there are.

Per source, `ingest_<source>` and `normalise_<source>`:

    ingest_ghsa ══ normalise_ghsa ──┐
    ingest_pyup ══ normalise_pyup ──┼── match ══ report
    sbom ───────────────────────────┘

`══` is a fan-out: `ingest_…` and `match` become a job for each shard, `normalise_…` one for each
result of its ingest. Whoever comes after waits for all of them, and reads what they found as a
list. What one job hands to another is a digest; templates carry it from result to payload.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

INGEST = "advisories.ingest"
NORMALISE = "advisories.normalise"
BUILD = "sbom.build"
MATCH = "components.match"
REPORT = "report.write"
MAP = "orch.map"
"""A fan-out of the run, which the engine does without a worker."""
JOIN = "orch.join"
"""A fan-in, likewise: each `MAP` has one."""

LEASE_S = 5
"""Short, so that a dead worker's jobs come back while one watches."""
RETRIES_MAX = 10
"""Enough to sit out a source that refuses for a few seconds."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about. `created_at` is in microseconds UTC."""

    run: str
    created_at: int
    shards: int
    sources: tuple[str, ...]


class Record(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A payload: camelCase on the wire, unknown fields refused on arrival."""


class Ingest(Record, frozen=True, kw_only=True):
    shard: int
    url: str


class Normalise(Record, frozen=True, kw_only=True):
    source: str
    shard: int
    raw: str


class Build(Record, frozen=True, kw_only=True):
    created_at: int


class Match(Record, frozen=True, kw_only=True):
    """`advisories` holds, by source, a digest for each of the `shards`; the job reads its own."""

    shard: int
    shards: int
    sbom: str
    advisories: dict[str, tuple[str, ...]]


class Write(Record, frozen=True, kw_only=True):
    """`advisories` holds the digests of all shards by source, `outcomes` a digest per shard."""

    run: str
    created_at: int
    sbom: str
    advisories: dict[str, tuple[str, ...]]
    outcomes: tuple[str, ...]


def run_request(plan: Plan, upstream_url: str) -> dict[str, Any]:
    """The run as a body for `POST /runs`."""
    inputs = {
        "createdAt": plan.created_at,
        "shards": list(range(plan.shards)),
        "upstream": upstream_url,
    }
    nodes = [node for source in plan.sources for node in _advisories(source)]
    nodes += [_sbom(), _match(plan.sources), _report(plan.sources)]
    return {"runToken": plan.run, "inputs": inputs, "jobs": nodes}


def expected_jobs(plan: Plan) -> Mapping[str, int]:
    """How many jobs of each type a run has, in the order of the pipeline."""
    per_source = len(plan.sources) * plan.shards
    maps = 2 * len(plan.sources) + 1
    return {
        INGEST: per_source,
        NORMALISE: per_source,
        BUILD: 1,
        MATCH: plan.shards,
        REPORT: 1,
        MAP: maps,
        JOIN: maps,
    }


def _advisories(source: str) -> list[dict[str, Any]]:
    return [
        _node(
            f"ingest_{source}",
            INGEST,
            {"shard": "${item}", "url": f"${{inputs.upstream}}/{source}/shards/${{item}}"},
            over="inputs.shards",
            backoff={"kind": "exponential", "baseSeconds": 1, "maxSeconds": 4, "jitter": "full"},
        ),
        _node(
            f"normalise_{source}",
            NORMALISE,
            {"source": source, "shard": "${item.shard}", "raw": "${item.digest}"},
            over=f"results.ingest_{source}",
            after=[f"ingest_{source}"],
        ),
    ]


def _sbom() -> dict[str, Any]:
    return _node("sbom", BUILD, {"createdAt": "${inputs.createdAt}"})


def _match(sources: tuple[str, ...]) -> dict[str, Any]:
    return _node(
        "match",
        MATCH,
        {
            "shard": "${item}",
            "shards": "${length(inputs.shards)}",
            "sbom": "${results.sbom.digest}",
            "advisories": _digests(sources),
        },
        over="inputs.shards",
        after=["sbom", *(f"normalise_{source}" for source in sources)],
    )


def _report(sources: tuple[str, ...]) -> dict[str, Any]:
    return _node(
        "report",
        REPORT,
        {
            "run": "${run.runToken}",
            "createdAt": "${inputs.createdAt}",
            "sbom": "${results.sbom.digest}",
            "advisories": _digests(sources),
            "outcomes": "${results.match[*].digest}",
        },
        after=["match", "sbom", *(f"normalise_{source}" for source in sources)],
    )


def _digests(sources: tuple[str, ...]) -> dict[str, str]:
    return {source: f"${{results.normalise_{source}[*].digest}}" for source in sources}


def _node(
    key: str,
    job_type: str,
    payload: Mapping[str, Any],
    *,
    over: str | None = None,
    after: list[str] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A node for workers, and a fan-out where it is `over` a list."""
    fan_out = {} if over is None else {"kind": "map", "over": over}
    return {
        "key": key,
        "jobType": job_type,
        "payload": payload,
        "template": True,
        "dependsOn": after or [],
        "leaseSeconds": LEASE_S,
        "maxRetries": RETRIES_MAX,
        **fan_out,
        **fields,
    }
