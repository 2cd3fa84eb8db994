"""What a client can ask about runs: begin, find, extend, operate on them, see graph and record.

`reason` and `ticket` of an act are kept in the audit. Not here: waiting for a run (`client`),
building one node by node (`run_draft`), DAG templates (`dag_operations`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from jobengine.sdk.exchange import BASE, Call, Exchange, Operation, listed, named, query_of
from jobengine.wire.fields import json_of
from jobengine.wire.jobs import JobView, Page
from jobengine.wire.run_views import (
    DagView,
    ExtendedView,
    FirstSignalView,
    GanttView,
    NodeView,
    RunLedgerRecord,
    RunStateName,
    RunView,
)
from jobengine.wire.runs import (
    EdgeRequest,
    ExtendRequest,
    NodeKeyRequest,
    NodeRequest,
    ReplayFromRequest,
    RerunRequest,
    RunRequest,
)

__all__ = ["RunOperations", "extension", "run_is_final"]


def run_is_final(run: RunView) -> bool:
    """Whether the run has ended, and all of its jobs with it."""
    return run.state in ("completed", "failed", "cancelled")


@attrs.frozen
class RunOperations(Exchange):
    def create_run(self, document: RunRequest | Mapping[str, Any]) -> Operation[RunView]:
        """Begin a run; the answer names its jobs by key. The first of a `run_token` is answered
        to every call that asks for the same. A mapping has the names of the wire."""
        return (yield from self._post("/runs", RunView, msgspec.json.encode(document)))

    def runs_page(
        self,
        *,
        state: RunStateName | Sequence[RunStateName] | None = None,
        dag_id: str | None = None,
        project: str | None = None,
        created_from: str | None = None,
        created_before: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[RunView]]:
        """One page of runs, newest first, filtered; instants are RFC 3339."""
        query = query_of(
            state=listed(state),
            dagId=dag_id,
            project=project,
            createdFrom=created_from,
            createdBefore=created_before,
            pageSize=page_size,
            pageToken=page_token,
        )
        return (yield from self._get("/runs", Page[RunView], query))

    def run_state(self, run_id: str) -> Operation[RunView]:
        """One run as it is now."""
        return (yield from self._get(named("runs", run_id), RunView))

    def extend_run(
        self,
        run_id: str,
        jobs: Sequence[NodeRequest | Mapping[str, Any]] = (),
        edges: Sequence[EdgeRequest | Mapping[str, Any]] = (),
    ) -> Operation[ExtendedView]:
        """Add nodes and edges to a run that is under way; edges go into nodes that have not begun.

        All of it is added or nothing. Raises msgspec.ValidationError for what cannot be right.
        """
        path, body = f"{named('runs', run_id)}:extend", extension(jobs, edges)
        return (yield from self._post(path, ExtendedView, msgspec.json.encode(body)))

    def cancel_run(self, run_id: str, *, reason: str, ticket: str) -> Operation[RunView]:
        """Give a run up; it is `cancelled` once all that runs has stopped."""
        path = f"{named('runs', run_id)}:cancel"
        return (yield from self._operate(path, RunView, reason, ticket))

    def retry_failed(
        self, run_id: str, *, reason: str, ticket: str, run_token: str | None = None
    ) -> Operation[RunView]:
        """Run again what did not complete of an ended run, and all behind it; answers the new run.

        Results of what completed are kept.
        """
        path, body = f"{named('runs', run_id)}:retryFailed", RerunRequest(run_token=run_token)
        return (yield from self._operate(path, RunView, reason, ticket, body))

    def replay_from(
        self, run_id: str, key: str, *, reason: str, ticket: str, run_token: str | None = None
    ) -> Operation[RunView]:
        """Run a node of an ended run again, and all behind it; answers the new run."""
        body = ReplayFromRequest(run_token=run_token, key=key)
        path = f"{named('runs', run_id)}:replayFrom"
        return (yield from self._operate(path, RunView, reason, ticket, body))

    def approve(self, run_id: str, key: str, *, reason: str, ticket: str) -> Operation[NodeView]:
        """Complete an approval that is open."""
        path = f"{named('runs', run_id)}:approve"
        return (yield from self._operate(path, NodeView, reason, ticket, NodeKeyRequest(key=key)))

    def reject(self, run_id: str, key: str, *, reason: str, ticket: str) -> Operation[NodeView]:
        """Fail an approval that is open."""
        path = f"{named('runs', run_id)}:reject"
        return (yield from self._operate(path, NodeView, reason, ticket, NodeKeyRequest(key=key)))

    def run_callbacks(self, run_id: str) -> Operation[list[NodeView]]:
        """The callbacks that are open, each with the signed URL that ends it; keep those secret."""
        found: list[NodeView] = []
        query: dict[str, str] = {}
        while True:
            page = yield from self._get(f"{named('runs', run_id)}/callbacks", Page[NodeView], query)
            found.extend(page.items)
            if page.next_page_token is None:
                return found
            query["pageToken"] = page.next_page_token

    def run_dag(self, run_id: str) -> Operation[DagView]:
        """The graph of a run: nodes in topological order, states, levels, critical path."""
        return (yield from self._get(f"{named('runs', run_id)}/dag", DagView))

    def run_gantt(self, run_id: str) -> Operation[GanttView]:
        """When each attempt of each job queued, ran and backed off."""
        return (yield from self._get(f"{named('runs', run_id)}/gantt", GanttView))

    def first_signal(
        self, run_id: str, known: FirstSignalView | None = None
    ) -> Operation[FirstSignalView | None]:
        """The earliest sign of life of a run; None while there is none.

        `known` is what an earlier call has answered: it is the answer again, without being sent
        again, where nothing has changed.
        """
        headers = dict(self.headers)
        if known is not None:
            headers["If-None-Match"] = known.summary_etag
        path = f"{BASE}{named('runs', run_id)}/first-signal"
        answer = yield from self._exchange(Call("GET", path, {}, headers, None))
        if answer.http_status == 304:
            return known
        if answer.http_status == 204:
            return None
        return msgspec.json.decode(answer.body, type=FirstSignalView)

    def run_result(self, run_id: str, key: str) -> Operation[Any]:
        """The result of the job at `key` as plain values; None while there is none.

        Raises KeyError for a key that the run does not have.
        """
        graph = yield from self.run_dag(run_id)
        job_ids = {node.key: node.job_id for node in graph.nodes}
        job = yield from self._get(named("jobs", job_ids[key]), JobView)
        return None if job.result is msgspec.UNSET else msgspec.json.decode(job.result)

    def run_record(self, run_id: str) -> Operation[RunLedgerRecord]:
        """What stays of a run for auditors, with a step for each of its jobs."""
        return (yield from self._get(f"{named('runs', run_id)}/record", RunLedgerRecord))

    def run_records_page(
        self,
        started_from: str,
        started_before: str,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[RunLedgerRecord]]:
        """One page of the records of ended runs, by start and id; instants are RFC 3339."""
        query = query_of(pageSize=page_size, pageToken=page_token, to=started_before)
        query["from"] = started_from
        answer = yield from self._exchange(
            Call("GET", BASE + "/runs:export", query, self.headers, None)
        )
        lines = [line for line in answer.body.split(b"\n") if line]
        records = [msgspec.json.decode(line, type=RunLedgerRecord) for line in lines]
        return Page(records, answer.headers.get("x-next-page-token"))


def extension(
    jobs: Sequence[NodeRequest | Mapping[str, Any]],
    edges: Sequence[EdgeRequest | Mapping[str, Any]],
) -> ExtendRequest:
    """Checked growth of a run; raises msgspec.ValidationError, and ValueError for NaN."""
    body = json_of({"jobs": list(jobs), "edges": list(edges)})
    return msgspec.json.decode(body, type=ExtendRequest)
