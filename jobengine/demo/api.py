"""The part of the engine's REST contract that the demo uses, as a client sees it.

Only the fields that the demo reads are declared; the engine may send more.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar

import httpx
import msgspec

BASE = "/api/v1/jobengine"
SILENCE_S = 40.0
"""A stream that says nothing for so long has broken: the engine sends a comment every 15 s."""


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    class_: str = msgspec.field(name="class")
    message: str
    http_status: int | None = None


class Job(msgspec.Struct, frozen=True, rename="camel"):
    job_id: str
    error: Failure | None = None


class Node(msgspec.Struct, frozen=True, rename="camel"):
    """A node of a run with its job. `started_at` is of the last attempt; a `kind` other than `job`
    has no worker."""

    key: str
    job_id: str
    kind: str
    job_type: str = msgspec.field(name="type")
    state: str
    attempt: int
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Dag(msgspec.Struct, frozen=True, rename="camel"):
    """A run's graph. Nodes come before those that depend on them; edges are pairs of keys."""

    run_id: str
    state: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


class RollUp(msgspec.Struct, frozen=True, rename="camel"):
    """How the nodes of a run did that has ended."""

    completed: int
    failed: int
    cancelled: int


class Run(msgspec.Struct, frozen=True, rename="camel"):
    """`nodes` counts those of its maps too, once they are there."""

    run_id: str
    run_token: str
    state: str
    nodes: int
    started_at: datetime | None = None
    duration_ms: int | None = None
    roll_up: RollUp | None = None


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
        self._base = url.rstrip("/") + BASE
        self._headers = {"Authorization": f"Bearer {token}", "X-Stella-Tenant": tenant}
        self._client = httpx.Client(
            base_url=self._base, headers=self._headers, timeout=10.0, trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def create_run(self, request: Mapping[str, Any]) -> Run:
        """Begin a run; answers the existing one where its token is taken."""
        response = self._client.post("/runs", json=request).raise_for_status()
        return msgspec.json.decode(response.content, type=Run)

    def run(self, run_id: str) -> Run:
        """The run as it is now."""
        return self._get(f"/runs/{run_id}", Run)

    def dag(self, run_id: str) -> Dag:
        """The run's graph as it is now."""
        return self._get(f"/runs/{run_id}/dag", Dag)

    def job(self, job_id: str) -> Job:
        """One job."""
        return self._get(f"/jobs/{job_id}", Job)

    def events(self, run_id: str, after: str | None) -> AbstractContextManager[httpx.Response]:
        """The run's events, as server-sent events: after that id, or from now on. On a connection
        of its own, so that it may be read in another thread than the rest is called from."""
        query = {"runId": run_id} if after is None else {"runId": run_id, "after": after}
        return httpx.stream(
            "GET",
            f"{self._base}/stream/events",
            params=query,
            headers=self._headers,
            timeout=httpx.Timeout(10.0, read=SILENCE_S),
            trust_env=False,
        )

    def history(self, job_id: str) -> Sequence[Transition]:
        """The job's transitions, the first one first."""
        return list(self._list(f"/jobs/{job_id}/history", Transition))

    def explain(self, job_id: str) -> Explanation:
        """Why the job is not running."""
        return self._get(f"/jobs/{job_id}/explain", Explanation)

    def dead_letters(self) -> Sequence[DeadLetter]:
        """All dead letters of the tenant."""
        return list(self._list("/deadletter", DeadLetter))

    def _get(self, path: str, answer: type[ItemT]) -> ItemT:
        response = self._client.get(path).raise_for_status()
        return msgspec.json.decode(response.content, type=answer)

    def _list(self, path: str, item: type[ItemT]) -> Iterator[ItemT]:
        query: dict[str, str | int] = {"pageSize": 500}
        while True:
            response = self._client.get(path, params=query).raise_for_status()
            page = msgspec.json.decode(response.content)
            yield from msgspec.convert(page["items"], list[item])  # type: ignore[valid-type]
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]
