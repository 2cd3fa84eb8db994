"""The gates of a tenant as its ledger has them: what runs, and what was said about limits.

Definition. A *place* is what a control is about, as (scope, key): the tenant, a job type, a queue,
a project, a source.

Not here: what follows from a closed gate (`limits`, `work`, `explaining`), rates (`rates`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jobengine.testing.sim.audited import AuditedJob, Entry

__all__ = ["LedgerGates", "Place", "places_of"]

Place = tuple[str, str]
_UNLIMITED: Final = 1 << 60


class LedgerGates:
    """`step` each entry of one ledger in its order; the gates stand as they did behind it."""

    def __init__(self, jobs: Mapping[str, AuditedJob]) -> None:
        self.controls: dict[tuple[str, str], Entry] = {}
        self.running: dict[str, Entry] = {}
        self._jobs = jobs
        self._counts: Counter[Place] = Counter()
        self._breakers: dict[str, str] = {}
        self._lowered: dict[str, int] = {}
        self._places: dict[str, tuple[Place, ...]] = {}

    def step(self, entry: Entry) -> None:
        job_id = entry.get("job")
        if job_id:
            if entry.get("to") == "running" and entry.get("worker") is not None:
                self.running[job_id] = self._jobs[job_id].definition
                self._counts.update(self.places(job_id))
            elif entry.get("from") == "running" and self.running.pop(job_id, None) is not None:
                self._counts.subtract(self.places(job_id))
        elif isinstance(entry.get("data"), dict):
            self._note(entry["kind"], entry["data"])

    def _note(self, kind: str, data: Entry) -> None:
        if data.keys() >= {"kind", "name", "revision"}:
            name = (data["kind"], data["name"])
            if data["control"] is None:
                self.controls.pop(name, None)
            else:
                self.controls[name] = data["control"]
            if data["kind"] == "source" and data["control"] is None:
                self._breakers.pop(data["name"], None)
                self._lowered.pop(data["name"], None)
        elif kind.startswith("breaker."):
            self._breakers[data["sourceId"]] = data["to"]
        elif kind == "source.concurrency_adapted":
            self._lowered[data["sourceId"]] = data["to"] or _UNLIMITED

    def places(self, job_id: str) -> tuple[Place, ...]:
        """What a job takes a place of while it runs, and what controls of it are about."""
        found = self._places.get(job_id)
        if found is None:
            found = self._places[job_id] = places_of(self._jobs[job_id].definition)
        return found

    def breaker(self, source_id: str) -> str:
        """Where the breaker of a source stands."""
        return self._breakers.get(source_id, "closed")

    def source_of(self, job_id: str) -> tuple[str, Entry] | None:
        """The source of a job, if it is registered."""
        source_id = self._jobs[job_id].definition.get("sourceId")
        source = self.controls.get(("source", source_id or ""))
        return None if source is None else (str(source_id), source)

    def of(self, job_id: str, kind: str) -> Iterator[tuple[str, Entry]]:
        """The controls of a kind that are about a job, by name."""
        places = self.places(job_id)
        for (found, name), control in self.controls.items():
            if found == kind and (control.get("scope", "tenant"), control.get("key", "")) in places:
                yield name, control

    def closed(self, job_id: str, at: int | None = None) -> Iterator[tuple[str, str, str]]:
        """Gates that keep a job from starting, as (gate, key, why). Blackouts only where the
        instant is given."""
        definition = self._jobs[job_id].definition
        for name, _ in self.of(job_id, "pause"):
            yield "paused", name, "a pause"
        for name, quota in self.of(job_id, "quota"):
            if quota.get("paused"):
                yield "paused", name, "a paused quota"
            count = self._counts[quota.get("scope", "tenant"), quota.get("key", "")]
            if count >= quota.get("maxActive", _UNLIMITED):
                yield "quota_active", name, f"{count} run of {quota['maxActive']}"
        if at is not None:
            for name, blackout in self.of(job_id, "blackout"):
                if any(each["startAt"] <= at < each["endAt"] for each in blackout["calendar"]):
                    yield "blackout", name, "a blackout"
        key = definition.get("concurrencyKey")
        if key is not None:
            count, limit = self._counts["concurrency_key", key], definition["concurrencyLimit"]
            if count >= limit:
                yield "concurrency_key", key, f"{count} run of {limit}"
        yield from self._closed_of_source(job_id)

    def _closed_of_source(self, job_id: str) -> Iterator[tuple[str, str, str]]:
        found = self.source_of(job_id)
        if found is None:
            return
        source_id, source = found
        count = self._counts["source", source_id]
        if "ratePolicy" not in source:
            yield "rate", source_id, "no rate policy"
        if count >= source.get("maxActive", _UNLIMITED):
            yield "quota_active", f"source:{source_id}", f"{count} run of {source['maxActive']}"
        if count >= self._lowered.get(source_id, _UNLIMITED):
            yield "no_slot", f"source:{source_id}", f"{count} run of a slow source"
        lock = source.get("lockKey")
        if lock is not None and self._held_by_lock(lock):
            yield "concurrency_key", lock, "its lock is taken"
        if self.breaker(source_id) in ("open", "forced_open"):
            yield "breaker", source_id, "its breaker is open"

    def _held_by_lock(self, lock: str) -> int:
        return sum(
            self._counts["source", name]
            for (kind, name), control in self.controls.items()
            if kind == "source" and control.get("lockKey") == lock
        )


def places_of(definition: Mapping[str, Any]) -> tuple[Place, ...]:
    """What a job of this definition belongs to."""
    found: list[Place] = [("tenant", "")]
    for scope, field in (
        ("job_type", "jobType"),
        ("queue", "queue"),
        ("project", "projectId"),
        ("source", "sourceId"),
        ("concurrency_key", "concurrencyKey"),
    ):
        value = definition.get(field)
        if value is not None:
            found.append((scope, value))
    return tuple(found)
