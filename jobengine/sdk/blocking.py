"""Every operation as a blocking call. `awaiting` has the same for async code.

Not here: what takes more than one operation, or a stream (`client`).
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from jobengine.sdk.exchange import Answer, Call, Operation, Pause, Unreachable
from jobengine.sdk.operations import Operations
from jobengine.sdk.requests import Requests

__all__ = ["BlockingOperations"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    operation: Callable[Concatenate[Operations, P], Operation[T]],
) -> "Callable[Concatenate[BlockingOperations, P], T]":
    @functools.wraps(operation)
    def call(self: "BlockingOperations", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._drive(operation(self._operations, *args, **kwargs))

    return call


class BlockingOperations(Requests):
    """Drives operations with a client of its own; safe to share between threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.Client(timeout=self._timeout_s, verify=self._tls or True)

    submit = _blocking(Operations.submit)
    submit_many = _blocking(Operations.submit_many)
    get = _blocking(Operations.get)
    history = _blocking(Operations.history)
    job_logs_page = _blocking(Operations.job_logs_page)
    jobs_page = _blocking(Operations.jobs_page)
    jobs_summary = _blocking(Operations.jobs_summary)
    dead_letters_page = _blocking(Operations.dead_letters_page)
    cancel = _blocking(Operations.cancel)
    retry = _blocking(Operations.retry)
    replay = _blocking(Operations.replay)
    release = _blocking(Operations.release)
    dead_letter = _blocking(Operations.dead_letter)
    replay_dead_letter = _blocking(Operations.replay_dead_letter)
    retry_dead_letter = _blocking(Operations.retry_dead_letter)
    discard_dead_letter = _blocking(Operations.discard_dead_letter)
    artifact = _blocking(Operations.artifact)
    prioritize = _blocking(Operations.prioritize)
    dead_letter_stats = _blocking(Operations.dead_letter_stats)
    dead_letter_summary = _blocking(Operations.dead_letter_summary)
    redrive = _blocking(Operations.redrive)
    redrives_page = _blocking(Operations.redrives_page)
    redrive_state = _blocking(Operations.redrive_state)
    pause_redrive = _blocking(Operations.pause_redrive)
    resume_redrive = _blocking(Operations.resume_redrive)
    stop_redrive = _blocking(Operations.stop_redrive)
    workers_page = _blocking(Operations.workers_page)
    worker = _blocking(Operations.worker)
    drain_worker = _blocking(Operations.drain_worker)
    create_source = _blocking(Operations.create_source)
    sources_page = _blocking(Operations.sources_page)
    source = _blocking(Operations.source)
    update_source = _blocking(Operations.update_source)
    delete_source = _blocking(Operations.delete_source)
    pause_source = _blocking(Operations.pause_source)
    resume_source = _blocking(Operations.resume_source)
    throttle_source = _blocking(Operations.throttle_source)
    source_bucket = _blocking(Operations.source_bucket)
    set_source_bucket = _blocking(Operations.set_source_bucket)
    breakers_page = _blocking(Operations.breakers_page)
    open_breaker = _blocking(Operations.open_breaker)
    close_breaker = _blocking(Operations.close_breaker)
    release_breaker = _blocking(Operations.release_breaker)
    create_quota = _blocking(Operations.create_quota)
    quotas_page = _blocking(Operations.quotas_page)
    quota_summary_page = _blocking(Operations.quota_summary_page)
    quota = _blocking(Operations.quota)
    update_quota = _blocking(Operations.update_quota)
    delete_quota = _blocking(Operations.delete_quota)
    pause_quota = _blocking(Operations.pause_quota)
    resume_quota = _blocking(Operations.resume_quota)
    throttles_page = _blocking(Operations.throttles_page)
    set_throttle = _blocking(Operations.set_throttle)
    weights_page = _blocking(Operations.weights_page)
    set_weight = _blocking(Operations.set_weight)
    governance = _blocking(Operations.governance)
    set_governance = _blocking(Operations.set_governance)
    pauses_page = _blocking(Operations.pauses_page)
    pause_tenant = _blocking(Operations.pause_tenant)
    resume_tenant = _blocking(Operations.resume_tenant)
    pause_queue = _blocking(Operations.pause_queue)
    resume_queue = _blocking(Operations.resume_queue)
    create_blackout = _blocking(Operations.create_blackout)
    blackouts_page = _blocking(Operations.blackouts_page)
    blackout = _blocking(Operations.blackout)
    preview_blackout = _blocking(Operations.preview_blackout)
    update_blackout = _blocking(Operations.update_blackout)
    delete_blackout = _blocking(Operations.delete_blackout)
    create_webhook = _blocking(Operations.create_webhook)
    webhooks_page = _blocking(Operations.webhooks_page)
    webhook = _blocking(Operations.webhook)
    update_webhook = _blocking(Operations.update_webhook)
    delete_webhook = _blocking(Operations.delete_webhook)
    pause_webhook = _blocking(Operations.pause_webhook)
    resume_webhook = _blocking(Operations.resume_webhook)
    test_webhook = _blocking(Operations.test_webhook)
    rotate_webhook_secret = _blocking(Operations.rotate_webhook_secret)
    explain = _blocking(Operations.explain)
    explain_queue = _blocking(Operations.explain_queue)
    create_run = _blocking(Operations.create_run)
    runs_page = _blocking(Operations.runs_page)
    run_state = _blocking(Operations.run_state)
    extend_run = _blocking(Operations.extend_run)
    cancel_run = _blocking(Operations.cancel_run)
    retry_failed = _blocking(Operations.retry_failed)
    replay_from = _blocking(Operations.replay_from)
    approve = _blocking(Operations.approve)
    reject = _blocking(Operations.reject)
    run_callbacks = _blocking(Operations.run_callbacks)
    run_dag = _blocking(Operations.run_dag)
    run_gantt = _blocking(Operations.run_gantt)
    first_signal = _blocking(Operations.first_signal)
    run_result = _blocking(Operations.run_result)
    run_record = _blocking(Operations.run_record)
    run_records_page = _blocking(Operations.run_records_page)
    register_dag = _blocking(Operations.register_dag)
    dags_page = _blocking(Operations.dags_page)
    dag = _blocking(Operations.dag)
    disable_dag = _blocking(Operations.disable_dag)
    enable_dag = _blocking(Operations.enable_dag)
    register_pack = _blocking(Operations.register_pack)
    packs_page = _blocking(Operations.packs_page)
    pack = _blocking(Operations.pack)
    disable_pack = _blocking(Operations.disable_pack)
    enable_pack = _blocking(Operations.enable_pack)
    create_pack_run = _blocking(Operations.create_pack_run)
    pack_runs_page = _blocking(Operations.pack_runs_page)
    pack_run = _blocking(Operations.pack_run)
    pack_run_logs_page = _blocking(Operations.pack_run_logs_page)
    pack_run_artifacts_page = _blocking(Operations.pack_run_artifacts_page)
    cancel_pack_run = _blocking(Operations.cancel_pack_run)

    def _drive(self, operation: Operation[T]) -> T:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = operation.send(None)
                else:
                    step = operation.send(self._call(step))
        except StopIteration as end:
            result: T = end.value
            return result

    def _call(self, call: Call) -> Answer | Unreachable:
        try:
            response = self._http.send(self._request(self._http, call))
        except httpx.TransportError as error:
            return Unreachable(error)
        return self._answer(response)
