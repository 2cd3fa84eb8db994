"""Every operation as an awaited call. `blocking` has the same for blocking code.

Not here: what takes more than one operation, or a stream (`async_client`).
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio
import httpx

from jobengine.sdk.exchange import Answer, Call, Operation, Pause, Unreachable
from jobengine.sdk.operations import Operations
from jobengine.sdk.requests import Requests

__all__ = ["AwaitingOperations"]

P = ParamSpec("P")
T = TypeVar("T")


def _awaiting(
    operation: Callable[Concatenate[Operations, P], Operation[T]],
) -> "Callable[Concatenate[AwaitingOperations, P], Awaitable[T]]":
    @functools.wraps(operation)
    async def call(self: "AwaitingOperations", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._drive(operation(self._operations, *args, **kwargs))

    return call


class AwaitingOperations(Requests):
    """Drives operations with a client of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.AsyncClient(timeout=self._timeout_s, verify=self._tls or True)

    submit = _awaiting(Operations.submit)
    submit_many = _awaiting(Operations.submit_many)
    get = _awaiting(Operations.get)
    history = _awaiting(Operations.history)
    job_logs_page = _awaiting(Operations.job_logs_page)
    jobs_page = _awaiting(Operations.jobs_page)
    jobs_summary = _awaiting(Operations.jobs_summary)
    dead_letters_page = _awaiting(Operations.dead_letters_page)
    cancel = _awaiting(Operations.cancel)
    retry = _awaiting(Operations.retry)
    replay = _awaiting(Operations.replay)
    release = _awaiting(Operations.release)
    dead_letter = _awaiting(Operations.dead_letter)
    replay_dead_letter = _awaiting(Operations.replay_dead_letter)
    retry_dead_letter = _awaiting(Operations.retry_dead_letter)
    discard_dead_letter = _awaiting(Operations.discard_dead_letter)
    artifact = _awaiting(Operations.artifact)
    prioritize = _awaiting(Operations.prioritize)
    dead_letter_stats = _awaiting(Operations.dead_letter_stats)
    dead_letter_summary = _awaiting(Operations.dead_letter_summary)
    redrive = _awaiting(Operations.redrive)
    redrives_page = _awaiting(Operations.redrives_page)
    redrive_state = _awaiting(Operations.redrive_state)
    pause_redrive = _awaiting(Operations.pause_redrive)
    resume_redrive = _awaiting(Operations.resume_redrive)
    stop_redrive = _awaiting(Operations.stop_redrive)
    workers_page = _awaiting(Operations.workers_page)
    worker = _awaiting(Operations.worker)
    drain_worker = _awaiting(Operations.drain_worker)
    create_source = _awaiting(Operations.create_source)
    sources_page = _awaiting(Operations.sources_page)
    source = _awaiting(Operations.source)
    update_source = _awaiting(Operations.update_source)
    delete_source = _awaiting(Operations.delete_source)
    pause_source = _awaiting(Operations.pause_source)
    resume_source = _awaiting(Operations.resume_source)
    throttle_source = _awaiting(Operations.throttle_source)
    source_bucket = _awaiting(Operations.source_bucket)
    set_source_bucket = _awaiting(Operations.set_source_bucket)
    breakers_page = _awaiting(Operations.breakers_page)
    open_breaker = _awaiting(Operations.open_breaker)
    close_breaker = _awaiting(Operations.close_breaker)
    release_breaker = _awaiting(Operations.release_breaker)
    create_quota = _awaiting(Operations.create_quota)
    quotas_page = _awaiting(Operations.quotas_page)
    quota_summary_page = _awaiting(Operations.quota_summary_page)
    quota = _awaiting(Operations.quota)
    update_quota = _awaiting(Operations.update_quota)
    delete_quota = _awaiting(Operations.delete_quota)
    pause_quota = _awaiting(Operations.pause_quota)
    resume_quota = _awaiting(Operations.resume_quota)
    throttles_page = _awaiting(Operations.throttles_page)
    set_throttle = _awaiting(Operations.set_throttle)
    weights_page = _awaiting(Operations.weights_page)
    set_weight = _awaiting(Operations.set_weight)
    governance = _awaiting(Operations.governance)
    set_governance = _awaiting(Operations.set_governance)
    pauses_page = _awaiting(Operations.pauses_page)
    pause_tenant = _awaiting(Operations.pause_tenant)
    resume_tenant = _awaiting(Operations.resume_tenant)
    pause_queue = _awaiting(Operations.pause_queue)
    resume_queue = _awaiting(Operations.resume_queue)
    create_blackout = _awaiting(Operations.create_blackout)
    blackouts_page = _awaiting(Operations.blackouts_page)
    blackout = _awaiting(Operations.blackout)
    preview_blackout = _awaiting(Operations.preview_blackout)
    update_blackout = _awaiting(Operations.update_blackout)
    delete_blackout = _awaiting(Operations.delete_blackout)
    create_webhook = _awaiting(Operations.create_webhook)
    webhooks_page = _awaiting(Operations.webhooks_page)
    webhook = _awaiting(Operations.webhook)
    update_webhook = _awaiting(Operations.update_webhook)
    delete_webhook = _awaiting(Operations.delete_webhook)
    pause_webhook = _awaiting(Operations.pause_webhook)
    resume_webhook = _awaiting(Operations.resume_webhook)
    test_webhook = _awaiting(Operations.test_webhook)
    rotate_webhook_secret = _awaiting(Operations.rotate_webhook_secret)
    explain = _awaiting(Operations.explain)
    explain_queue = _awaiting(Operations.explain_queue)
    create_run = _awaiting(Operations.create_run)
    runs_page = _awaiting(Operations.runs_page)
    run_state = _awaiting(Operations.run_state)
    extend_run = _awaiting(Operations.extend_run)
    cancel_run = _awaiting(Operations.cancel_run)
    retry_failed = _awaiting(Operations.retry_failed)
    replay_from = _awaiting(Operations.replay_from)
    approve = _awaiting(Operations.approve)
    reject = _awaiting(Operations.reject)
    run_callbacks = _awaiting(Operations.run_callbacks)
    run_dag = _awaiting(Operations.run_dag)
    run_gantt = _awaiting(Operations.run_gantt)
    first_signal = _awaiting(Operations.first_signal)
    run_result = _awaiting(Operations.run_result)
    run_record = _awaiting(Operations.run_record)
    run_records_page = _awaiting(Operations.run_records_page)
    register_dag = _awaiting(Operations.register_dag)
    dags_page = _awaiting(Operations.dags_page)
    dag = _awaiting(Operations.dag)
    disable_dag = _awaiting(Operations.disable_dag)
    enable_dag = _awaiting(Operations.enable_dag)
    register_pack = _awaiting(Operations.register_pack)
    packs_page = _awaiting(Operations.packs_page)
    pack = _awaiting(Operations.pack)
    disable_pack = _awaiting(Operations.disable_pack)
    enable_pack = _awaiting(Operations.enable_pack)
    create_pack_run = _awaiting(Operations.create_pack_run)
    pack_runs_page = _awaiting(Operations.pack_runs_page)
    pack_run = _awaiting(Operations.pack_run)
    pack_run_logs_page = _awaiting(Operations.pack_run_logs_page)
    pack_run_artifacts_page = _awaiting(Operations.pack_run_artifacts_page)
    cancel_pack_run = _awaiting(Operations.cancel_pack_run)

    async def _drive(self, operation: Operation[T]) -> T:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    await anyio.sleep(step.seconds)
                    step = operation.send(None)
                else:
                    step = operation.send(await self._call(step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _call(self, call: Call) -> Answer | Unreachable:
        try:
            response = await self._http.send(self._request(self._http, call))
        except httpx.TransportError as error:
            return Unreachable(error)
        return self._answer(response)
