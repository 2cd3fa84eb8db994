"""Every type of event: what it means, and what it carries beyond the fields of every envelope.

I1  Whatever kind of entry the engine writes is listed here as one of the ledger.
I2  A name that is listed keeps its meaning; a type may grow data, so a reader ignores what it does
    not know.

Not here: the fields of the envelope (`event_schema`), how events travel.
"""

from typing import Final, Literal

import attrs

__all__ = ["EVENT_TYPES", "EventType", "Origin"]

Origin = Literal["ledger", "beside", "reserved"]
"""An entry of the ledger; sent beside the entries, without a seq of its own; or a name that this
version keeps free and does not send."""


@attrs.frozen
class EventType:
    """`carries`: which parts of the envelope it has beyond those of every event."""

    name: str
    meaning: str
    carries: str = ""
    origin: Origin = "ledger"


_MOVED: Final = "`job` with `status`, `from`"
_CONTROL: Final = "`data`: `kind`, `name`, `revision`, `control` (null once it is gone)"
_BREAKER: Final = "`data`: `sourceId`, `from`, `to`, `cause`, `observed`, `limit`, `opensAt`"
_BUCKET_OVERRIDE: Final = "`data`: `sourceId`, `key`, `learnedPerMinuteMicro`, `pinned`"
_DOCUMENT: Final = "`data`: `name`, `version`, `digest`"
_RUN: Final = "`data`: `runId`"
_RUN_END: Final = "`data`: `runId`, `completed`, `failed`, `cancelled`, `outputsHash`"
_REDRIVE: Final = "`data`: `redriveId`, `replayed`, `failed`"
_KEY: Final = "`data`: `credential` (its public part), `label`, `scopes`, `expiresAt`"
_WEBHOOK: Final = (
    "`data`: `webhookId`, `url` (cut), `urlDigest`, `types`, `wrapping`, `state`, `reason`, "
    "`revision`"
)
_WEBHOOK_PAUSED: Final = (
    f"{_WEBHOOK}; by the engine: `webhookId`, `url`, `reason`, `revision`, `error`"
)
_INCIDENT: Final = "`data`: `incidentId`, `kind`, `webhookId`, `url`"

_JOBS: Final = (
    EventType("job.created", "a job was taken; always its first event", "`job` with `status`"),
    EventType("job.scheduled", "its dependencies are met; it waits for admission", _MOVED),
    EventType(
        "job.started",
        "a lease was granted: an attempt begins",
        f"{_MOVED}, `leaseId`, the worker; `metrics.queueSeconds`",
    ),
    EventType("job.progressed", "its worker told of progress", "`job` with `progress`"),
    EventType("job.artifact_named", "its attempt named a file", "`job` with `artifacts`"),
    EventType(
        "job.completed", "its worker succeeded", f"{_MOVED}, `leaseId`; `metrics.durationSeconds`"
    ),
    EventType(
        "job.failed",
        "an attempt ended without success: by its worker, its lease's expiry or its timeout",
        f"{_MOVED}, `reason`, `error`; `metrics.durationSeconds`",
    ),
    EventType(
        "job.retried",
        "a failed job waits for another attempt",
        f"{_MOVED}; `metrics.backoffSeconds`",
    ),
    EventType(
        "job.released",
        "its worker gave the lease back; no retry is spent",
        f"{_MOVED}; `metrics.durationSeconds`",
    ),
    EventType("job.cancel_requested", "its worker is asked to stop", "`job`, the worker"),
    EventType("job.cancelled", "it will not run, or run again", f"{_MOVED}, `reason`"),
    EventType(
        "job.prioritized", "an operator set its priority", "`job` with `priority`: `from`, `to`"
    ),
    EventType("job.dead_lettered", "it failed for good; its evidence is kept", "`job`"),
    EventType("job.dead_letter_discarded", "its dead letter was closed; nothing runs", "`job`"),
    EventType(
        "lease.refused", "a worker reported under a lease that is not its own any more", "`job`"
    ),
)

_RUNS: Final = (
    EventType(
        "run.created",
        "a run was taken",
        "`data`: `runId`, `inputsHash`, `nodes`, `edges` and, where given, `dagId`, `dagVersion`, "
        "`packId`, `parentRun`, `parentKey`, `replayOf`, `kept`, `failFast`, `projectId`, "
        "`correlationId`",
    ),
    EventType("run.started", "its first node may start", _RUN),
    EventType("run.node_opened", "a node that waits for the outside does so now", "`job`"),
    EventType("run.grown", "it has more nodes", "`data`: `runId`, `nodes`, `edges`"),
    EventType("run.cancel_requested", "it is to be cancelled", _RUN),
    EventType("run.completed", "all that was to run did", _RUN_END),
    EventType("run.failed", "a node failed for good", _RUN_END),
    EventType("run.cancelled", "it was cancelled, or a node of it was", _RUN_END),
    EventType("dag.registered", "a version of a DAG template is there", _DOCUMENT),
    EventType("dag.enabled", "a version may be run again", _DOCUMENT),
    EventType("dag.disabled", "a version may be run no more", _DOCUMENT),
    EventType("pack.registered", "a version of a pack is there", _DOCUMENT),
    EventType("pack.enabled", "a version may be run again", _DOCUMENT),
    EventType("pack.disabled", "a version may be run no more", _DOCUMENT),
)

_ADMISSION: Final = (
    EventType("source.created", "a source was set up", _CONTROL),
    EventType("source.updated", "a source was changed", _CONTROL),
    EventType("source.deleted", "a source was taken away", _CONTROL),
    EventType("source.paused", "nothing new of a source starts", _CONTROL),
    EventType("source.resumed", "jobs of a source start again", _CONTROL),
    EventType(
        "source.throttled",
        "an upstream pushed back, or an operator set a rate",
        "`data`: `httpStatus` and, where given, `sourceId`, `retryAfterUs`, `leaseId`; by an "
        "operator: `kind`, `name`, `revision`, `control`",
    ),
    EventType("source.unthrottled", "an operator took the rate of a source away", _CONTROL),
    EventType(
        "source.concurrency_adapted",
        "how many jobs of a source run at once has changed by itself",
        "`data`: `sourceId`, `cause`, `from`, `to`",
    ),
    EventType("quota.created", "a quota was set up", _CONTROL),
    EventType("quota.updated", "a quota was changed", _CONTROL),
    EventType("quota.paused", "what the quota is of starts nothing new", _CONTROL),
    EventType("quota.resumed", "the pause of a quota was lifted", _CONTROL),
    EventType("quota.deleted", "a quota was taken away", _CONTROL),
    EventType("throttle.set", "a rate was set", _CONTROL),
    EventType("throttle.removed", "a rate was taken away", _CONTROL),
    EventType("weight.set", "a share was set", _CONTROL),
    EventType("weight.removed", "a share was taken away", _CONTROL),
    EventType("blackout.created", "a blackout was set up", _CONTROL),
    EventType("blackout.updated", "a blackout was changed", _CONTROL),
    EventType("blackout.deleted", "a blackout was taken away", _CONTROL),
    EventType("blackout.began", "a window of it has begun", "`data`: `name`, `endsAt` (µs)"),
    EventType("blackout.ended", "a window of it is over", "`data`: `name`"),
    EventType("pause.set", "the tenant or a queue starts nothing new", _CONTROL),
    EventType("pause.lifted", "the tenant or a queue starts again", _CONTROL),
    EventType("breaker.opened", "nothing of a source starts", _BREAKER),
    EventType("breaker.half_opened", "a few jobs of a source probe it", _BREAKER),
    EventType("breaker.closed", "jobs of a source start again", _BREAKER),
    EventType(
        "bucket.adapted",
        "push-backs have taught a rate",
        "`data`: `key`, `cause`, `fromPerMinuteMicro`, `toPerMinuteMicro`",
    ),
    EventType("bucket.overridden", "an operator set a learned rate", _BUCKET_OVERRIDE),
)

_OPERATIONS: Final = (
    EventType(
        "deadletter.redrive_started", "a redrive begins", "`data`: `redriveId`, `order` as asked"
    ),
    EventType("deadletter.redrive_paused", "it waits", _REDRIVE),
    EventType("deadletter.redrive_resumed", "it goes on", _REDRIVE),
    EventType("deadletter.redrive_stopped", "it was given up", _REDRIVE),
    EventType("deadletter.redrive_completed", "nothing is left to replay", _REDRIVE),
    EventType(
        "deadletter.redrive_letter_failed",
        "a letter could not be replayed; it stays open",
        "`data`: `redriveId`, `deadLetterId`, `jobId`, `error`",
    ),
    EventType(
        "worker.drain_requested",
        "a worker gets no more leases",
        "`data`: `workerId`, `deadlineAt` (µs)",
    ),
    EventType("apikey.created", "an API key was made", _KEY),
    EventType("apikey.revoked", "an API key counts no more", _KEY),
    EventType("token.revoked", "a token counts no more", "`data`: `credential`, `expiresAt`"),
    EventType("artifact.stored", "a file was uploaded", "`data`: `digest`, `mime`, `sizeBytes`"),
    EventType(
        "governance.changed", "how tenants share the node was set (tenant `_system`)", _CONTROL
    ),
    EventType(
        "load.changed",
        "a node became more or less busy (tenant `_system`)",
        "`data`: `node`, `before`, `level`, `causes`",
    ),
    EventType("webhook.created", "a webhook was set up", _WEBHOOK),
    EventType("webhook.updated", "a webhook was changed", _WEBHOOK),
    EventType("webhook.deleted", "a webhook was taken away", _WEBHOOK),
    EventType("webhook.secret_rotated", "a webhook signs with a new secret", _WEBHOOK),
    EventType("webhook.paused", "nothing is delivered to a webhook", _WEBHOOK_PAUSED),
    EventType("webhook.resumed", "a webhook is delivered what it missed", _WEBHOOK),
    EventType(
        "incident.opened",
        "something needs a person",
        f"{_INCIDENT}, `reason`, `error`, `failures`, `since`, `openedAt`",
    ),
    EventType("incident.closed", "its cause is gone", f"{_INCIDENT}, `closedAt`"),
)

_BESIDE: Final = (
    EventType(
        "webhook.test", "an operator asked whether a webhook is reached", "`seq` 0", "beside"
    ),
    EventType(
        "pack_run.log", "lines of a pack run's jobs, on its stream only", "no envelope", "beside"
    ),
    EventType(
        "pack_run.artifact",
        "`job.artifact_named` under the name that the stream of a pack run gives it",
        "as that",
        "beside",
    ),
)

_RESERVED: Final = tuple(
    EventType(name, meaning, origin="reserved")
    for name, meaning in (
        ("lease.expired", "a lease ran out; told by `job.failed` with the reason `lease_expired`"),
        ("watermark.advanced", "a source was processed up to a later instant"),
        ("schedule.fired", "a schedule made a job or a run"),
        ("schedule.missed", "a schedule's instant passed without one"),
        ("backfill.*", "a past range of event time is processed again"),
        ("slo.*", "an objective is at risk, breached or met again"),
        ("policy.updated", "a policy was changed"),
        ("export.completed", "a signed export is there"),
        ("audit.*", "the audit trail was read or anchored"),
    )
)

EVENT_TYPES: Final[tuple[EventType, ...]] = (
    *_JOBS, *_RUNS, *_ADMISSION, *_OPERATIONS, *_BESIDE, *_RESERVED
)  # fmt: skip
"""In the order in which people read them; names are unique."""
