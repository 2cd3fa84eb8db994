"""How near the engine comes to an upstream's limit that nobody told it, and how politely.

Jobs of several sources, each with a rate policy far above what its upstream bears, make one call
each. The upstreams are HTTP servers with hidden limits of several kinds, all at once; the limits
fall to a half and rise again. After a time to settle in each phase, two figures are taken of each
upstream: the share of the hidden limit that was served, and the share of all calls that were
refused.

How long each phase may settle differs: a lower limit shows itself by refusals, a higher one only by
their absence. A round takes eight minutes.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple

import attrs
import trio

from bench.harness.children import open_load
from bench.harness.errors import MeasurementFailedError
from bench.harness.hidden_limit import FixedWindow, HiddenLimit, SlidingWindow, TokenBucket
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
_SECOND: Final = 1_000_000


class _Kind(NamedTuple):
    make: Callable[[int], HiddenLimit]
    says_when: bool


_KINDS: Final[Mapping[str, _Kind]] = {
    "bucket, Retry-After": _Kind(lambda rpm: TokenBucket(rpm, burst=10), says_when=True),
    "bucket, bare": _Kind(lambda rpm: TokenBucket(rpm, burst=10), says_when=False),
    "1 s, Retry-After": _Kind(lambda rpm: FixedWindow(rpm, window_us=_SECOND), says_when=True),
    "sliding 1 s, bare": _Kind(lambda rpm: SlidingWindow(rpm, window_us=_SECOND), says_when=False),
    "10 s, bare": _Kind(lambda rpm: FixedWindow(rpm, window_us=10 * _SECOND), says_when=False),
}


class _Phase(NamedTuple):
    per_second: int
    settle_s: float


@attrs.frozen(kw_only=True)
class AdaptiveCase:
    """``per_second`` is the hidden limit of the first phase and the last, the second has a half.
    ``settle_s`` is that of the first two phases, ``rise_s`` of the last; each is measured for
    ``seconds``."""

    per_second: int
    settle_s: float
    rise_s: float
    seconds: float

    def phases(self) -> Mapping[str, _Phase]:
        return {
            "first": _Phase(self.per_second, self.settle_s),
            "fallen": _Phase(self.per_second // 2, self.settle_s),
            "risen": _Phase(self.per_second, self.rise_s),
        }

    def jobs(self) -> int:
        """More than an upstream serves in all phases."""
        served = sum(
            phase.per_second * (phase.settle_s + self.seconds) for phase in self.phases().values()
        )
        return round(served * 1.2) + self.per_second


async def run(options: Options, case: AdaptiveCase) -> Report:
    async with open_target(options) as target:
        report = report_on(target, "adaptive", "share_percent", "% of the hidden limit",
                           **attrs.asdict(case))  # fmt: skip
        for number in range(options.rounds):
            await _round(target, case, report, number)
        return report


async def _round(target: Target, case: AdaptiveCase, report: Report, number: int) -> None:
    async with _open_upstreams(case) as upstreams:
        plan: dict[str, dict[str, str]] = {}
        async with open_client(
            target.http_url, target.token, target.tenant, operator_reason="benchmark"
        ) as client:
            for place, upstream in enumerate(upstreams.values()):
                job_type = target.job_type(f"adaptive-{place}", number)
                source_id = f"bench-{number}-{place}"
                await _make_source(client, source_id, case)
                await _submit(client, job_type, source_id, case.jobs())
                plan[job_type] = {"url": upstream.url, "source_id": source_id}
        async with open_load("caller", **target.door(), capacity=256, upstreams=plan) as caller:
            for title, phase in case.phases().items():
                for upstream in upstreams.values():
                    upstream.limit.per_minute = phase.per_second * 60
                for kind, measured in (await _measure(title, phase, upstreams, case)).items():
                    report.add(f"{kind}: {title}", per_second=phase.per_second, **measured)
            await caller.ask(do="drain")


@asynccontextmanager
async def _open_upstreams(case: AdaptiveCase) -> AsyncIterator[Mapping[str, Upstream]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                open_upstream(kind.make(case.per_second * 60), says_when=kind.says_when)
            )
            for name, kind in _KINDS.items()
        }


async def _measure(
    title: str, phase: _Phase, upstreams: Mapping[str, Upstream], case: AdaptiveCase
) -> dict[str, dict[str, Any]]:
    began_at = trio.current_time()
    total_s = phase.settle_s + case.seconds
    async with show_progress(title, total_s, lambda: trio.current_time() - began_at):
        await trio.sleep(phase.settle_s)
        since = trio.current_time()
        before = {name: (each.served, each.refused) for name, each in upstreams.items()}
        await trio.sleep(case.seconds)
        allowed = phase.per_second * (trio.current_time() - since)
    measured = {}
    for name, (served, refused) in before.items():
        served = upstreams[name].served - served
        refused = upstreams[name].refused - refused
        measured[name] = {
            "share_percent": 100 * served / allowed,
            "refused_percent": 100 * refused / max(1, served + refused),
            "served": served,
            "refused": refused,
        }
    return measured


async def _make_source(client: HttpClient, source_id: str, case: AdaptiveCase) -> None:
    per_minute = case.per_second * 60 * _POLICY_PER_HIDDEN
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
        raise MeasurementFailedError(
            f"POST {path}: {http_status} {answer.decode(errors='replace')}"
        )
