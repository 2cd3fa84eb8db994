"""How near the engine comes to an upstream's limit that nobody told it, and how politely.

Jobs of one source, with a rate policy far above what its upstream bears, each make one call. The
upstream is a token bucket over HTTP whose limit moves from phase to phase. After a time to settle
in each phase, two figures are taken: the share of the hidden limit that was served, and the share
of all calls that were refused.
"""

import json
from typing import Any, Final

import attrs
import trio

from bench.harness.children import open_load
from bench.harness.errors import MeasurementFailed
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.harness.upstream import Upstream, open_upstream
from bench.load.http_client import HttpClient, open_client
from bench.rounds import show_progress

__all__ = ["AdaptiveCase", "run"]

_API: Final = "/api/v1/jobengine"
_POLICY_PER_HIDDEN: Final = 4
_SUBMIT_MAX: Final = 1_000
_SOURCE: Final = "bench-upstream"


@attrs.frozen(kw_only=True)
class AdaptiveCase:
    """``per_minute`` of the first phase; then a half of it, then its double. ``burst`` is the
    upstream's. Seconds are those of each phase."""

    per_minute: int
    burst: int
    settle_s: float
    seconds: float

    def phases(self) -> tuple[int, ...]:
        return self.per_minute, self.per_minute // 2, self.per_minute * 2

    def jobs(self) -> int:
        """More than the upstream can serve in all phases, at the highest limit."""
        minutes = len(self.phases()) * (self.settle_s + self.seconds) / 60
        return round(max(self.phases()) * minutes * 1.2)


async def run(options: Options, case: AdaptiveCase) -> Report:
    async with open_target(options) as target, open_upstream(case.per_minute, case.burst) as stub:
        report = report_on(target, "adaptive", "share_percent", "% of the hidden limit",
                           **attrs.asdict(case))  # fmt: skip
        for number in range(options.rounds):
            await _round(target, stub, case, report, number)
        return report


async def _round(
    target: Target, stub: Upstream, case: AdaptiveCase, report: Report, number: int
) -> None:
    job_type, source_id = target.job_type("adaptive", number), f"{_SOURCE}-{number}"
    async with open_client(
        target.http_url, target.token, target.tenant, operator_reason="benchmark"
    ) as client:
        await _make_source(client, source_id, case)
        await _submit(client, job_type, source_id, case.jobs())
    async with open_load(
        "caller",
        **target.door(),
        job_type=job_type,
        capacity=64,
        upstream_url=stub.url,
        source_id=source_id,
    ) as caller:
        for per_minute in case.phases():
            stub.per_minute = per_minute
            report.add(f"{per_minute}/min", **await _measure(stub, case))
        await caller.ask(do="drain")


async def _measure(stub: Upstream, case: AdaptiveCase) -> dict[str, Any]:
    began_at = trio.current_time()
    title, total_s = f"{stub.per_minute}/min", case.settle_s + case.seconds
    async with show_progress(title, total_s, lambda: trio.current_time() - began_at):
        await trio.sleep(case.settle_s)
        since, served, refused = trio.current_time(), stub.served, stub.refused
        await trio.sleep(case.seconds)
    served, refused = stub.served - served, stub.refused - refused
    allowed = stub.per_minute / 60 * (trio.current_time() - since)
    return {
        "share_percent": 100 * served / allowed,
        "refused_percent": 100 * refused / max(1, served + refused),
        "served": served,
        "refused": refused,
    }


async def _make_source(client: HttpClient, source_id: str, case: AdaptiveCase) -> None:
    per_minute = max(case.phases()) * _POLICY_PER_HIDDEN
    await _post(
        client,
        "/sources",
        {
            "sourceId": source_id,
            "sourceType": "bench",
            "host": f"{source_id}.example",
            "ratePolicy": {"rpm": per_minute, "burst": max(1, per_minute // 60)},
        },
    )


async def _submit(client: HttpClient, job_type: str, source_id: str, jobs: int) -> None:
    for first in range(0, jobs, _SUBMIT_MAX):
        count = min(_SUBMIT_MAX, jobs - first)
        job = {"jobType": job_type, "sourceId": source_id, "payload": {}}
        await _post(client, "/jobs:bulk", [job] * count)


async def _post(client: HttpClient, path: str, body: Any) -> None:
    http_status, answer = await client.post(
        _API + path, json.dumps(body).encode(), "application/json"
    )
    if http_status >= 300:
        raise MeasurementFailed(f"POST {path}: {http_status} {answer.decode(errors='replace')}")
