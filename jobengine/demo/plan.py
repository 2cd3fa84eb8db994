"""What a run of the demo consists of: its plan, the payloads of its jobs, how many there are.

Definitions: a *part* is one job of a stage; its unique key is `<run>/<job type>/<part>`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

INGEST = "advisories.ingest"
NORMALISE = "advisories.normalise"
BUILD = "sbom.build"
MATCH = "components.match"
REPORT = "report.write"

RUN_LABEL = "demoRun"
LEASE_S = 5
"""Short, so that a dead worker's jobs come back while one watches."""
RETRIES_MAX = 10
"""Enough to sit out a source that refuses for a few seconds."""
UNIQUE_WINDOW_S = 3600
"""How long a unique key holds, also after its job has finished; longer than any run."""


class Record(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A payload: camelCase on the wire, unknown fields refused on arrival."""


class Plan(Record, frozen=True, kw_only=True):
    """What a run is about. `created_at` is in microseconds UTC."""

    run: str
    created_at: int
    shards: int
    sources: tuple[str, ...]


class Ingest(Record, frozen=True, kw_only=True):
    plan: Plan
    source: str
    shard: int
    url: str


class Normalise(Record, frozen=True, kw_only=True):
    plan: Plan
    source: str
    shard: int
    raw: str


class Build(Record, frozen=True, kw_only=True):
    """`advisories` holds a digest per shard, by source."""

    plan: Plan
    advisories: dict[str, tuple[str, ...]]


class Match(Record, frozen=True, kw_only=True):
    """`advisories` holds, by source, the digests of all shards; the job reads its own."""

    plan: Plan
    shard: int
    sbom: str
    advisories: dict[str, tuple[str, ...]]


class Write(Record, frozen=True, kw_only=True):
    """`outcomes` holds a digest per shard."""

    plan: Plan
    sbom: str
    advisories: dict[str, tuple[str, ...]]
    outcomes: tuple[str, ...]


def first_jobs(plan: Plan, upstream_url: str) -> list[dict[str, Any]]:
    """The jobs that start a run, as bodies for `POST /jobs`; the rest follows from them."""
    return [
        {
            "jobType": INGEST,
            "payload": msgspec.to_builtins(
                Ingest(
                    plan=plan,
                    source=source,
                    shard=shard,
                    url=f"{upstream_url}/{source}/shards/{shard}",
                )
            ),
            "labels": {RUN_LABEL: plan.run},
            "uniqueKey": unique_key(plan, INGEST, part_name(source, shard)),
            "uniqueScope": "window",
            "windowSeconds": UNIQUE_WINDOW_S,
            "leaseSeconds": LEASE_S,
            "maxRetries": RETRIES_MAX,
            "backoff": {"kind": "exponential", "baseSeconds": 1, "maxSeconds": 4, "jitter": "full"},
        }
        for source in plan.sources
        for shard in range(plan.shards)
    ]


def expected_jobs(plan: Plan) -> Mapping[str, int]:
    """How many jobs of each type a run has, in the order of the pipeline."""
    per_source = len(plan.sources) * plan.shards
    return {INGEST: per_source, NORMALISE: per_source, BUILD: 1, MATCH: plan.shards, REPORT: 1}


def part_name(of: str, number: int) -> str:
    """The name of one part of a stage."""
    return f"{of}.{number}"


def unique_key(plan: Plan, job_type: str, part: str) -> str:
    """The key under which the engine creates this job once."""
    return f"{plan.run}/{job_type}/{part}"
