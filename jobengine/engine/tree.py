"""The order in which actors start, and what they take with them when they fail."""

import structlog

from jobengine.actors.custodian import CustodianActor
from jobengine.actors.runtime.supervisor import ActorSpec, GroupSpec, RestartPolicy, Supervised
from jobengine.engine.parts import Engine

__all__ = ["log_change", "tree_of"]

_log = structlog.get_logger("jobengine.engine")


def tree_of(engine: Engine) -> GroupSpec:
    custodian = CustodianActor(
        store=engine.store,
        clock=engine.clock,
        asks=engine.asks,
        interval_s=engine.settings.prepare_interval_s,
        artifact_grace_s=engine.settings.artifact_grace_s,
        log_retention_s=engine.settings.log_retention_s,
    )
    jobs = GroupSpec(
        "jobs",
        (
            ActorSpec("ledger", engine.ledger.run, policy=RestartPolicy(restarts_max=0)),
            *(ActorSpec(f"rate-buckets-{each.shard}", each.run) for each in engine.rates),
            *(ActorSpec(f"lease-shard-{shard.shard}", shard.run) for shard in engine.shards),
            *(ActorSpec(f"dag-planner-{each.shard}", each.run) for each in engine.planners),
        ),
    )
    return GroupSpec(
        "engine",
        (
            ActorSpec("custodian", custodian.run),
            ActorSpec("load-meter", engine.load_meter.run),
            ActorSpec("broadcaster", engine.broadcaster.run),
            ActorSpec("governor", engine.governor.run),
            jobs,
            ActorSpec("redriver", engine.redriver.run),
            ActorSpec("notifier", engine.notifier.run),
        ),
    )


def log_change(change: Supervised) -> None:
    if change.error is not None:
        _log.error(
            "actor_failed",
            actor=change.actor,
            change=change.change,
            incarnation=change.incarnation,
            pause_s=round(change.pause_s, 3),
            exc_info=change.error,
        )
    else:
        _log.debug("actor", actor=change.actor, change=change.change)
