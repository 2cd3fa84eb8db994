"""Rates: what starts in a while.

R19 Starts take no more tokens of a bucket than its burst and what it was refilled with; hourly
    quotas let no more start in any hour. By instants of the ledger, where clocks are right.

What a bucket may hold at most is computed here: it may be rebuilt from what was stored with the
last start, under the limits of then, so the highest refill since counts. One that no start has
taken from is full, whatever its burst has become.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Final

import attrs

from jobengine.testing.sim.audited import AuditedLedger, Entry, hold
from jobengine.testing.sim.rules.evidence import Evidence
from jobengine.testing.sim.rules.gates import LedgerGates

__all__ = ["judge_rates", "rates_of"]

_MICRO: Final = 1_000_000
_MINUTE_US: Final = 60_000_000
_HOUR_US: Final = 60 * _MINUTE_US
_SLACK_US: Final = 1_000
"""What the clocks that buckets and ledgers run on may differ."""


@attrs.define(eq=False)
class _Bucket:
    """The most that a bucket can hold: `level` millionths of a token at `at`, behind the last
    start; `rate_max` is the highest refill since."""

    burst: int
    rate: int
    at: int
    level: int
    rate_max: int
    untouched: bool = True

    def set(self, burst: int, rate: int) -> None:
        self.burst, self.rate = burst, rate
        if self.untouched:
            self.level = burst * _MICRO
        self.rate_max = max(self.rate_max, rate)

    def take(self, cost: int, at: int) -> bool:
        """Whether there can have been so many tokens."""
        gained = (at - self.at) * self.rate_max // _MINUTE_US + 1
        self.level = min(self.burst * _MICRO, self.level + gained) - cost * _MICRO
        slack = _SLACK_US * self.rate_max // _MINUTE_US + 1
        self.at, self.rate_max, self.untouched = at, self.rate, False
        return self.level >= -slack


def judge_rates(evidence: Evidence) -> None:
    if evidence.clocks_are_right:
        for ledger in evidence.ledgers.values():
            _judge(ledger)


def _judge(ledger: AuditedLedger) -> None:
    gates, buckets = LedgerGates(ledger.jobs), dict[str, _Bucket]()
    hours: defaultdict[str, deque[int]] = defaultdict(deque)
    for entry in ledger.entries:
        if entry.get("to") == "running" and entry.get("worker") is not None:
            _take(ledger, gates, buckets, entry)
            _count(gates, hours, entry)
        gates.step(entry)
        data = entry.get("data")
        if "job" not in entry and isinstance(data, dict) and "control" in data:
            _set(buckets, gates, entry["at"])
            for name in [name for name in hours if ("quota", name) not in gates.controls]:
                del hours[name]


def _take(
    ledger: AuditedLedger, gates: LedgerGates, buckets: dict[str, _Bucket], entry: Entry
) -> None:
    job_id = entry["job"]
    cost = ledger.jobs[job_id].definition.get("cost", 1)
    for key in rates_of(gates, job_id):
        tokens = 1 if key.startswith("quota:") else cost
        told = f"#{entry['seq']}: {job_id} starts beyond the rate of {key}"
        hold(buckets[key].take(tokens, entry["at"]), "R19", told)


def _count(gates: LedgerGates, hours: defaultdict[str, deque[int]], entry: Entry) -> None:
    for name, quota in gates.of(entry["job"], "quota"):
        if "maxPerHour" not in quota:
            continue
        starts, at = hours[name], entry["at"]
        while starts and starts[0] <= at - _HOUR_US:
            starts.popleft()
        told = f"#{entry['seq']}: {entry['job']} is one more in an hour than {name} allows"
        hold(len(starts) < quota["maxPerHour"], "R19", told)
        starts.append(at)


def _set(buckets: dict[str, _Bucket], gates: LedgerGates, at: int) -> None:
    limits = dict(_limits(gates))
    for key in [key for key in buckets if key not in limits]:
        del buckets[key]
    for key, (burst, rate) in limits.items():
        if key not in buckets:
            buckets[key] = _Bucket(burst, rate, at, burst * _MICRO, rate)
        buckets[key].set(burst, rate)


def _limits(gates: LedgerGates) -> Iterator[tuple[str, tuple[int, int]]]:
    """Burst and millionths of a token a minute, by the bucket's key; sources share their host's."""
    hosts: defaultdict[str, list[Entry]] = defaultdict(list)
    for (kind, name), control in gates.controls.items():
        if kind == "throttle":
            yield f"throttle:{name}", (control["rate"]["burst"], control["rate"]["perMinuteMicro"])
        elif kind == "source" and "ratePolicy" in control:
            hosts[control["host"]].append(control["ratePolicy"])
        elif kind == "quota" and "burst" in control:
            yield f"quota:{name}", (control["burst"], control["maxPerHour"] * _MICRO // 60)
    for host, policies in hosts.items():
        burst = min(policy["burst"] for policy in policies)
        yield f"host:{host}", (burst, min(policy["perMinuteMicro"] for policy in policies))


def rates_of(gates: LedgerGates, job_id: str) -> Iterator[str]:
    """The buckets that a job takes tokens from."""
    found = gates.source_of(job_id)
    if found is not None and "ratePolicy" in found[1]:
        yield f"host:{found[1]['host']}"
    for name, _ in gates.of(job_id, "throttle"):
        yield f"throttle:{name}"
    for name, quota in gates.of(job_id, "quota"):
        if "burst" in quota:
            yield f"quota:{name}"
