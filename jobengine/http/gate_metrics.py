"""Metrics of admission: breakers, buckets, quotas, blackouts, pauses and allotments.

`tenant` and `key` name a gate as `explain` does. Of each kind at most `keys_max` are shown, those
that keep or slow jobs first; `jobengine_gates_left_out` counts the others, so that nobody takes a
part for the whole.

Not here: which gates are chosen, and the looking (`core/lease_shard/gauges`).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from jobengine.core.lease_shard.gauges import Census, GaugeKind, Shortlist
from jobengine.engine import Engine
from jobengine.messages.governor import Holding

__all__ = ["gate_metrics"]

_PREFIX: Final = "jobengine"
_ALLOTMENTS: Final = "allotment"
_UNSEEN: Final = "any"

_FAMILIES: Final[dict[GaugeKind, tuple[tuple[str, str], ...]]] = {
    "breaker": (
        (
            "breaker_position",
            "0 closed, 1 half open, 2 open, 3 forced closed, 4 forced open; by source",
        ),
    ),
    "concurrency": (
        ("source_running_max", "Jobs of a slow or failing source that may run at once now"),
    ),
    "quota_active": (
        ("quota_running", "Jobs that run of what a quota or source limits"),
        ("quota_running_max", "How many of them may"),
    ),
    "quota_hour": (
        ("quota_hour_starts", "Starts of the last hour of what a quota limits"),
        ("quota_hour_starts_max", "How many of them may be"),
    ),
    "blackout": (("blackout_active", "1 while nothing new starts"),),
    "paused": (("pause_active", "1 while it is paused"),),
    "bucket": (
        ("bucket_tokens", "Tokens that lie in a bucket"),
        ("bucket_burst", "Tokens that it holds at most"),
        ("bucket_refill_per_second", "Tokens a second, as upstreams have taught it"),
        ("bucket_refill_configured_per_second", "Tokens a second, as configured"),
        ("bucket_opens_in_seconds", "How long a push-back still forbids starts; 0: not at all"),
    ),
}
_OF_ALLOTMENT: Final = (
    ("allotment_slots", "Jobs of a tenant that may run at once, by the governance"),
    ("allotment_held_slots", "Slots that no other tenant can have yet"),
    ("allotment_running", "Jobs of a tenant that run, as the governor knows"),
    ("allotment_waiting", "Jobs that only the allotment keeps from a worker"),
)


def gate_metrics(engine: Engine) -> Iterator[Metric]:
    """Every family of admission, also those without a sample."""
    keys_max = engine.settings.metric_keys_max
    left_out = GaugeMetricFamily(
        f"{_PREFIX}_gates_left_out", "Gates that are not shown, by kind", labels=["kind"]
    )
    census = Census(engine.clock.moment().at, keys_max)
    for shard in engine.shards:
        if shard.core is not None:
            shard.core.be_counted(census)
    for kind, gauges, others in census.told():
        rows = [([gauge.tenant_id, gauge.key], gauge.values) for gauge in gauges]
        yield from _families(_FAMILIES[kind], ["tenant", "key"], rows)
        left_out.add_metric([kind], others)
    left_out.add_metric([_UNSEEN], census.unseen)
    holdings = Shortlist[Holding](keys_max)
    governor = engine.governor.core
    held = [] if governor is None else list(governor.holdings())
    for urgent in (True, False):
        offered = [holding for holding in held if bool(holding.waiting) is urgent]
        holdings.offer(offered, len(offered), urgent=urgent)
    slots = [([one.tenant_id], one[1:]) for one in sorted(holdings.chosen())]
    yield from _families(_OF_ALLOTMENT, ["tenant"], slots)
    left_out.add_metric([_ALLOTMENTS], holdings.left_out)
    capacity = None if governor is None else governor.capacity
    yield GaugeMetricFamily(
        f"{_PREFIX}_governance_capacity",
        "Jobs of all tenants that may run at once, by the governance; 0: no limit",
        value=capacity or 0,
    )
    yield left_out


def _families(
    families: tuple[tuple[str, str], ...],
    labels: list[str],
    rows: Sequence[tuple[list[str], tuple[float, ...]]],
) -> Iterator[Metric]:
    """A family for each value of the rows."""
    for place, (name, text) in enumerate(families):
        family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
        for named, values in rows:
            family.add_metric(named, values[place])
        yield family
