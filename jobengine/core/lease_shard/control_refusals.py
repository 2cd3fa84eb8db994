"""Changes of controls that are refused.

I1  A change is refused unless the control is what its author takes it for: there or not there, and
    of the revision that was read.
I2  A source that jobs wait or run for, and a limit that jobs wait at, are taken away by force only.
I3  A tenant has at most ``tenant_controls_max`` controls; a pause is never refused for that.

Not here: whether a document is sensible by itself (``domain/control``).
"""

from jobengine.core.lease_shard.control_set import ControlSet
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.control import Quota, refuse_control
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.messages.admission import ChangeControl

__all__ = ["refuse_change"]


def refuse_change(
    state: ShardState, controls: ControlSet, message: ChangeControl
) -> Refusal | None:
    """Why this change of a tenant's controls is not made, or None."""
    kind, name = message.kind, message.name
    known = controls.revisions.get((kind, name))
    if message.expect == "absent" and known is not None:
        return Refusal(
            ErrorCode.ALREADY_EXISTS,
            f"{kind} {name!r} is there already; change it, or choose another name",
            {"kind": kind, "name": name},
        )
    if known is None and (message.expect == "present" or message.control is None):
        return Refusal(ErrorCode.NOT_FOUND, f"no {kind} {name!r} here", {"name": name})
    if message.revision is not None and (known is None or known.number != message.revision):
        found = 0 if known is None else known.number
        return Refusal(
            ErrorCode.REVISION_MISMATCH,
            f"{kind} {name!r} has revision {found}, not {message.revision}; read it again and "
            "decide anew",
            {"revision": found},
        )
    if message.control is None:
        return None if message.force else _refuse_use(state, message)
    controls_max = state.limits.tenant_controls_max
    if known is None and message.kind != "pause" and len(controls.revisions) >= controls_max:
        return Refusal(
            ErrorCode.CAPACITY_EXCEEDED,
            f"the tenant has {controls_max} controls, as many as it may; take some away, or raise "
            "the setting tenant_controls_max",
            {"controlsMax": controls_max},
        )
    return refuse_control(message.control, state.now.at)


def _refuse_use(state: ShardState, message: ChangeControl) -> Refusal | None:
    """I2"""
    tenant_id, name = message.tenant_id, message.name
    if message.kind == "source":
        running = state.occupancy.of((tenant_id, "source", name))
        lanes = [
            lane for lane in state.lanes if lane.tenant_id == tenant_id and lane.source_id == name
        ]
        if not running and not lanes:
            return None
        waits = f", and jobs wait in queue {lanes[0].queue}" if lanes else ""
        return _in_use(message, f"{running} of its jobs run{waits}")
    subjects = [(tenant_id, "rate", f"{message.kind}:{name}"), (tenant_id, message.kind, name)]
    control = state.gates.controls(tenant_id).documents[(message.kind, name)]
    if isinstance(control, Quota):
        subjects.append((tenant_id, control.scope, control.key))
    waiting = sum(map(state.waiting_room.count, subjects))
    return _in_use(message, f"{waiting} jobs or lanes wait at it") if waiting else None


def _in_use(message: ChangeControl, how: str) -> Refusal:
    return Refusal(
        ErrorCode.IN_USE,
        f"{message.kind} {message.name!r} is in use: {how}; wait, or take it away with force=true",
        {"kind": message.kind, "name": message.name},
    )
