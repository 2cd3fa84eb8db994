"""The part of the engine's REST contract that the demo uses, as a client sees it.

Only the fields that the demo reads are declared; the engine may send more.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import httpx
import msgspec

BASE = "/api/v1/jobengine"


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    class_: str = msgspec.field(name="class")
    message: str
    http_status: int | None = None


class Job(msgspec.Struct, frozen=True, rename="camel"):
    job_id: str
    job_type: str
    state: str
    attempt: int
    failures: int
    created_at: datetime
    labels: dict[str, str] = {}
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Failure | None = None


class Transition(msgspec.Struct, frozen=True, rename="camel"):
    """An item of a job's history; `from_` is None in the first."""

    to: str
    at: datetime
    attempt: int
    from_: str | None = msgspec.field(default=None, name="from")
    reason: str | None = None
    worker_id: str | None = None
    error: Failure | None = None


class DeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    job_id: str
    job_type: str
    state: str


class Gate(msgspec.Struct, frozen=True, rename="camel"):
    gate: str
    message: str = ""


class Explanation(msgspec.Struct, frozen=True, rename="camel"):
    state: str
    gates: tuple[Gate, ...] = ()


ItemT = TypeVar("ItemT")


class Api:
    """A client of one engine for one tenant. Methods raise `httpx.HTTPError` on any refusal."""

    def __init__(self, url: str, *, token: str, tenant: str) -> None:
        self._client = httpx.Client(
            base_url=url.rstrip("/") + BASE,
            headers={"Authorization": f"Bearer {token}", "X-Stella-Tenant": tenant},
            timeout=10.0,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def submit(self, job: Mapping[str, Any]) -> Job:
        """Create one job; answers the existing one where its unique key is taken."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        response = self._client.post("/jobs", json=job, headers=key).raise_for_status()
        return msgspec.json.decode(response.content, type=Job)

    def jobs(self, labels: Mapping[str, str]) -> Sequence[Job]:
        """All jobs that carry these labels, in the order of creation."""
        found = (job for job in self._list("/jobs", Job) if labels.items() <= job.labels.items())
        return sorted(found, key=lambda job: (job.created_at, job.job_id))

    def history(self, job_id: str) -> Sequence[Transition]:
        """The job's transitions, the first one first."""
        return list(self._list(f"/jobs/{job_id}/history", Transition))

    def explain(self, job_id: str) -> Explanation:
        """Why the job is not running."""
        response = self._client.get(f"/jobs/{job_id}/explain").raise_for_status()
        return msgspec.json.decode(response.content, type=Explanation)

    def dead_letters(self) -> Sequence[DeadLetter]:
        """All dead letters of the tenant."""
        return list(self._list("/deadletter", DeadLetter))

    def _list(self, path: str, item: type[ItemT]) -> Iterator[ItemT]:
        query: dict[str, str | int] = {"pageSize": 500}
        while True:
            response = self._client.get(path, params=query).raise_for_status()
            page = msgspec.json.decode(response.content)
            yield from msgspec.convert(page["items"], list[item])  # type: ignore[valid-type]
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]
