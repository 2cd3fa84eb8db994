"""What is asked of the engine about runs, as the doors ask it.

Every request but a cancel and an answer may be repeated: tokens and keys of nodes make it the same.

Not here: what is asked for (`composer`), how a request travels (`desk`).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from jobengine.domain.canonical import digest
from jobengine.domain.dag_document import DAG, DagDocument, encode_dag
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.redaction import Redactor
from jobengine.domain.run import RunState
from jobengine.domain.run_record import RunRecord
from jobengine.engine import Engine
from jobengine.http.run_requests import (
    decode_extension,
    decode_run,
    extension_nodes,
    has_grown,
    plan_request,
)
from jobengine.messages.lease_shard import Actor
from jobengine.messages.runs import RegisterDocument, RunPlan
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.journal import Answered
from jobengine.wire.documents import DagRequest
from jobengine.wire.translate_runs import edges_of, node_jobs

__all__ = ["RunDesk"]

_COMPOSER: Final = Actor("composer")
_MAYBE_GROWN: Final = (ErrorCode.RUN_INVALID, ErrorCode.RUN_ENDED)
_dag: Final = msgspec.json.Decoder(DagRequest)


class RunDesk:
    """Each answers what the engine did, a refusal as well; None where it stays unknown."""

    def __init__(self, tenant_id: str, desk: Desk) -> None:
        self._tenant_id = tenant_id
        self._desk = desk

    async def register(self, dag_id: str, nodes: Sequence[dict[str, Any]]) -> Answered | None:
        body = _document(dag_id, nodes)

        async def attempt(engine: Engine) -> dict[str, Any]:
            await engine.gateway.runs.document(
                self._tenant_id,
                lambda ask_id: RegisterDocument(
                    ask_id=ask_id,
                    tenant_id=self._tenant_id,
                    actor=_COMPOSER,
                    kind=DAG,
                    name=dag_id,
                    version=1,
                    digest=digest(body),
                    body=body,
                ),
            )
            return {}

        return await self._ask("dag", {"dagId": dag_id, "jobs": nodes}, attempt, key=dag_id)

    async def create(self, request: dict[str, Any]) -> Answered | None:
        body = msgspec.json.encode(request)

        async def attempt(engine: Engine) -> dict[str, Any]:
            created = await engine.gateway.runs.create(self._plan(engine, body), _COMPOSER)
            assert created.run is not None
            return {"runId": created.run.run_id, "jobIds": []}

        return await self._ask("run", request, attempt, key=request["runToken"])

    async def rerun(self, run_id: str, request: dict[str, Any]) -> Answered | None:
        """Of what did not complete, or from a `key` on."""
        token, key = request["runToken"], request.get("key")

        async def attempt(engine: Engine) -> dict[str, Any]:
            runs = engine.gateway.runs
            if key is None:
                answer = await runs.retry_failed(self._tenant_id, run_id, token, _COMPOSER)
            else:
                answer = await runs.replay_from(self._tenant_id, run_id, key, token, _COMPOSER)
            return {"runId": answer.run_id}

        return await self._ask("rerun", request | {"runId": run_id}, attempt, key=token)

    async def extend(self, run_id: str, growth: dict[str, Any]) -> Answered | None:
        body = msgspec.json.encode(growth)

        async def attempt(engine: Engine) -> dict[str, Any]:
            request, gateway = decode_extension(body), engine.gateway
            nodes = extension_nodes(request, Redactor())
            edges = edges_of(request.jobs, request.edges)
            try:
                await gateway.runs.extend(self._tenant_id, run_id, _COMPOSER, nodes, edges)
            except RefusedError as error:
                parts = await gateway.store.run_parts(self._tenant_id, run_id)
                grown = has_grown(parts, nodes, edges)
                if error.refusal.code not in _MAYBE_GROWN or not grown:
                    raise
            return {}

        key = f"{run_id}+{growth['jobs'][0]['key']}"
        return await self._ask("extend", growth | {"runId": run_id}, attempt, key=key)

    async def cancel(self, run_id: str) -> Answered | None:
        async def attempt(engine: Engine) -> dict[str, Any]:
            await engine.gateway.runs.cancel(self._tenant_id, run_id, _COMPOSER)
            return {}

        return await self._ask("cancel_run", {"runId": run_id}, attempt)

    async def answer(self, run_id: str, key: str, kind: str, *, agrees: bool) -> Answered | None:
        """Answer an approval or a callback: it completes, or fails."""

        async def attempt(engine: Engine) -> dict[str, Any]:
            runs, tenant_id = engine.gateway.runs, self._tenant_id
            if kind == "callback":
                outcome: dict[str, Any] = {"result": b'"heard"'} if agrees else {"error": "unheard"}
                answer = await runs.complete_callback(tenant_id, run_id, key, _COMPOSER, **outcome)
            else:
                act = runs.approve if agrees else runs.reject
                answer = await act(tenant_id, run_id, key, _COMPOSER)
            return {"state": str(answer.state)}

        about = {"runId": run_id, "key": key, "agrees": agrees}
        return await self._ask("answer", about, attempt)

    async def _ask(
        self,
        verb: str,
        about: dict[str, Any],
        attempt: Callable[[Engine], Awaitable[dict[str, Any]]],
        key: str | None = None,
    ) -> Answered | None:
        return await self._desk.ask(self._tenant_id, verb, about, attempt, key=key)

    def _plan(self, engine: Engine, body: bytes) -> RunPlan:
        request, gateway = decode_run(body), engine.gateway
        run_id = gateway.new_id()
        record = RunRecord(
            tenant_id=self._tenant_id,
            run_id=run_id,
            run_token=request.run_token,
            state=RunState.PENDING,
            nodes=0,
            created_at=gateway.clock.moment().at,
            created_by=_COMPOSER.subject,
            fail_fast=bool(request.fail_fast),
            correlation_id=run_id,
        )
        made = plan_request(record, request, Redactor())
        return RunPlan(record=made.record, nodes=made.nodes, jobs=made.jobs, graph=made.graph)


def _document(dag_id: str, nodes: Sequence[dict[str, Any]]) -> bytes:
    """What is registered of a DAG of these nodes."""
    request = _dag.decode(msgspec.json.encode({"dagId": dag_id, "jobs": nodes}))
    jobs = node_jobs(request.jobs, request.edges, templates=True, redactor=Redactor())
    assert not isinstance(jobs, Refusal), jobs
    return encode_dag(DagDocument(jobs=tuple(jobs)))
