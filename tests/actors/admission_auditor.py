"""An auditor of admission: it reads a tenant's ledger entries and says whether any start broke a
limit of then. It knows the specification, and shares no code with the engine.

What is decided in one commit has one instant, and what a source's breaker and concurrency learn of
it is written behind it; so a start that those two forbid is a doubt, cleared if the news of the
same instant allow it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

Entry = dict[str, Any]
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
PROBES = 3


@attrs.define
class Flow:
    """The most that a token bucket can hold: ``level`` millionths at ``at``, after the last take.

    A bucket may be rebuilt from what was stored with the last take, under the limits of then; so
    the highest refill since counts, and the burst of now. Buckets run on the monotonic clock and
    the ledger on the wall clock, which may be a millisecond apart.
    """

    burst: int
    rate: int
    at: int
    level: int = 0
    rate_max: int = 0

    def set(self, burst: int, rate: int) -> None:
        self.burst, self.rate = burst, rate
        self.rate_max = max(self.rate_max, rate)

    def take(self, cost: int, at: int) -> bool:
        gained = (at - self.at) * self.rate_max // MINUTE_US + 1
        slack = 1_000 * self.rate_max // MINUTE_US + 1
        self.level = min(self.burst * 1_000_000, self.level + gained) - cost * 1_000_000
        self.at, self.rate_max = at, self.rate
        return self.level >= -slack


@attrs.define
class Running:
    definition: Entry
    is_probe: bool = False


class AdmissionAuditor:
    """``step`` each entry of one tenant in order, then ``finish``; a broken rule is an
    ``AssertionError``. ``restarts``: a half-open breaker gives its places anew with each life."""

    def __init__(self, *, restarts: bool = False) -> None:
        self.controls: dict[tuple[str, str], Entry] = {}
        self.definitions: dict[str, Entry] = {}
        self.failures: Counter[str] = Counter()
        self.running: dict[str, Running] = {}
        self.breakers: dict[str, Entry] = {}
        self.lowered: dict[str, int] = {}
        self.starts = 0
        self._restarts = restarts
        self._flows: dict[str, Flow] = {}
        self._hours: defaultdict[str, list[int]] = defaultdict(list)
        self._doubts: list[tuple[int, str, str]] = []

    def read(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.step(entry)

    def finish(self) -> None:
        assert not self._doubts, self._doubts

    def step(self, entry: Entry) -> None:
        assert not self._doubts or entry["at"] == self._doubts[0][0], self._doubts
        kind, at = entry["kind"], entry["at"]
        data: Any = entry.get("data")
        if kind == "job.created":
            self.definitions[entry["job"]] = data
        elif kind == "job.prioritized":
            job_id = entry["job"]
            self.definitions[job_id] = self.definitions[job_id] | {"priority": data["to"]}
        elif entry.get("to") == "running":
            self._start(entry["job"], at)
        elif entry.get("from") == "running":
            self.running.pop(entry["job"], None)
            self.failures[entry["job"]] += entry["to"] == "failed"
        elif kind.startswith("breaker."):
            self._breaker_moved(data)
        elif kind == "source.concurrency_adapted":
            self.lowered[data["sourceId"]] = data["to"] or 1 << 60
            self._clear_doubts("lowered", data["sourceId"])
        elif isinstance(data, dict) and data.keys() >= {"kind", "name", "revision"}:
            self._control(data, at)

    # ---- what was said about limits

    def _control(self, data: Entry, at: int) -> None:
        kind, name, control = data["kind"], data["name"], data["control"]
        if control is None:
            self.controls.pop((kind, name), None)
        else:
            self.controls[kind, name] = control
        if kind == "source" and control is None:
            self.breakers.pop(name, None)
            self.lowered.pop(name, None)
        rates = dict(self._rates())
        self._flows = {key: flow for key, flow in self._flows.items() if key in rates}
        for key, (burst, rate) in rates.items():
            if key not in self._flows:
                self._flows[key] = Flow(burst, rate, at, burst * 1_000_000, rate)
            self._flows[key].set(burst, rate)
        for key in [key for key in self._hours if ("quota", key) not in self.controls]:
            del self._hours[key]

    def _rates(self) -> Iterator[tuple[str, tuple[int, int]]]:
        hosts: defaultdict[str, list[Entry]] = defaultdict(list)
        for (kind, name), control in self.controls.items():
            if kind == "throttle":
                rate = control["rate"]
                yield f"throttle:{name}", (rate["burst"], rate["perMinuteMicro"])
            elif kind == "source" and control.get("ratePolicy"):
                hosts[control["host"]].append(control["ratePolicy"])
            elif kind == "quota" and control.get("burst"):
                yield f"quota:{name}", (control["burst"], control["maxPerHour"] * 1_000_000 // 60)
        for host, policies in hosts.items():
            burst = min(policy["burst"] for policy in policies)
            yield f"host:{host}", (burst, min(policy["perMinuteMicro"] for policy in policies))

    def _breaker_moved(self, data: Entry) -> None:
        source_id = data["sourceId"]
        if not (self._position(source_id) == "half_open" and data["to"] == "half_open"):
            for running in self.running.values():
                running.is_probe = False
        self.breakers[source_id] = data
        self._clear_doubts("breaker", source_id)

    def _position(self, source_id: str) -> str:
        position: str = self.breakers.get(source_id, {"to": "closed"})["to"]
        return position

    # ---- a start

    def _start(self, job_id: str, at: int) -> None:
        definition = self.definitions[job_id]
        assert job_id not in self.running, f"{job_id} runs already"
        closed = set(self.closed(definition, at))
        doubted = closed & {"breaker", "lowered"}
        assert not closed - doubted, f"{job_id} started at {at} past {closed - doubted}"
        source_id = definition.get("sourceId", "")
        for gate in sorted(doubted):
            self._doubts.append((at, gate, source_id))
        self._take(job_id, definition, at)
        running = self.running[job_id] = Running(definition)
        self.starts += 1
        if self._position(source_id) in ("open", "half_open"):
            running.is_probe = True
            if self._position(source_id) == "open":
                self.breakers[source_id] = {"to": "half_open"}
            probes = sum(
                each.is_probe and each.definition.get("sourceId") == source_id
                for each in self.running.values()
            )
            assert probes <= PROBES or self._restarts or doubted, f"{probes} probes at {at}"

    def _take(self, job_id: str, definition: Entry, at: int) -> None:
        cost = definition.get("cost", 1)
        for key in self.rate_keys(definition):
            assert self._flows[key].take(1 if key.startswith("quota:") else cost, at), (
                f"{job_id} started at {at} beyond the rate of {key}"
            )
        for name, quota in self._quotas(definition):
            if quota.get("maxPerHour"):
                assert self.hour_count(name, at) < quota["maxPerHour"], f"{name} at {at}"
                self._hours[name].append(at)

    def _clear_doubts(self, gate: str, source_id: str) -> None:
        if gate == "lowered":
            limit, running = self.lowered[source_id], self.count("source", source_id)
            allowed = running <= limit
        else:
            allowed = self._position(source_id) in ("closed", "forced_closed", "half_open")
        if allowed:
            self._doubts = [each for each in self._doubts if each[1:] != (gate, source_id)]

    # ---- gates, as the specification has them

    def closed(self, definition: Entry, at: int) -> Iterator[str]:
        """The gates of limits, switches and sources that are closed to a job at an instant."""
        source_id = definition.get("sourceId", "")
        source = self.controls.get(("source", source_id))
        reach = self.reach(definition)
        for (kind, _), control in self.controls.items():
            place = (control.get("scope", "tenant"), control.get("key", ""))
            if kind == "pause" and place in reach:
                yield "paused"
            elif kind == "blackout" and place in reach:
                if any(rule["startAt"] <= at < rule["endAt"] for rule in control["calendar"]):
                    yield "blackout"
            elif kind == "quota" and place in reach:
                if control.get("paused"):
                    yield "paused"
                if self.count(*place) >= control.get("maxActive", 1 << 60):
                    yield "quota_active"
        key = definition.get("concurrencyKey")
        if key and self.count("concurrency_key", key) >= definition.get("concurrencyLimit", 1):
            yield "concurrency_key"
        if source is None:
            return
        if not source.get("ratePolicy"):
            yield "rate"
        if self.count("source", source_id) >= source.get("maxActive", 1 << 60):
            yield "quota_active"
        if self.count("source", source_id) >= self.lowered.get(source_id, 1 << 60):
            yield "lowered"
        if source.get("lockKey") and self.count("lock", source["lockKey"]):
            yield "concurrency_key"
        breaker = self.breakers.get(source_id, {"to": "closed"})
        if breaker["to"] == "forced_open" or (
            breaker["to"] == "open" and at < (breaker["opensAt"] or 0)
        ):
            yield "breaker"

    def reach(self, definition: Entry) -> set[tuple[str, str]]:
        return {
            ("tenant", ""),
            ("queue", definition["queue"]),
            ("job_type", definition["jobType"]),
            ("project", definition.get("projectId") or "-"),
            ("source", definition.get("sourceId") or "-"),
        }

    def count(self, scope: str, key: str) -> int:
        """Running jobs of a part of the tenant."""
        field = {
            "concurrency_key": "concurrencyKey",
            "job_type": "jobType",
            "project": "projectId",
            "source": "sourceId",
        }
        if scope == "tenant":
            return len(self.running)
        if scope == "lock":
            return sum(
                self.count("source", name)
                for (kind, name), control in self.controls.items()
                if kind == "source" and control.get("lockKey") == key
            )
        return sum(each.definition.get(field[scope]) == key for each in self.running.values())

    def rate_keys(self, definition: Entry) -> list[str]:
        """The token buckets that a job takes from."""
        source = self.controls.get(("source", definition.get("sourceId", "")))
        keys = [f"host:{source['host']}"] if source is not None and "ratePolicy" in source else []
        for (kind, name), control in self.controls.items():
            place = (control.get("scope", "tenant"), control.get("key", ""))
            if kind == "throttle" and place in self.reach(definition):
                keys.append(f"throttle:{name}")
        return keys + [
            f"quota:{name}" for name, quota in self._quotas(definition) if quota.get("burst")
        ]

    def hour_count(self, name: str, at: int, span_us: int = HOUR_US) -> int:
        """Starts that an hourly quota has counted in the last hour."""
        return sum(started_at > at - span_us for started_at in self._hours[name])

    def _quotas(self, definition: Entry) -> list[tuple[str, Entry]]:
        reach = self.reach(definition)
        return [
            (name, quota)
            for (kind, name), quota in self.controls.items()
            if kind == "quota" and (quota.get("scope", "tenant"), quota.get("key", "")) in reach
        ]
