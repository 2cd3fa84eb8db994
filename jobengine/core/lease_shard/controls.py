"""Controls: what operators change about admission, decided and recorded like everything else.

A control takes effect with the decision, so that whatever starts later in the ledger obeys it; who
asked is told after the commit.

I1  A limit below what runs now drains: nothing is killed, nothing more starts.

Not here: what is refused (``control_refusals``), who may change it (doors).
"""

from collections.abc import Sequence

import msgspec

from jobengine.core.lease_shard.calendars import Calendars
from jobengine.core.lease_shard.claimed_changes import ClaimedChanges
from jobengine.core.lease_shard.claims import store_claim
from jobengine.core.lease_shard.control_refusals import refuse_change
from jobengine.core.lease_shard.control_set import Revision
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.gate_view import gates_of
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sources import SourceChange
from jobengine.core.lease_shard.state import ENGINE, ShardState
from jobengine.core.lease_shard.submits import Submitter
from jobengine.core.machine import Answer
from jobengine.domain.change import ControlRow, GateStateRow
from jobengine.domain.control import (
    Control,
    Quota,
    Source,
    Throttle,
    decode_control,
    encode_control,
)
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.governance import Governance
from jobengine.messages.admission import (
    ChangeControl,
    ControlAnswer,
    GatesAnswer,
    LearnRate,
    OperateBreaker,
    ReadGates,
    SetLoad,
)
from jobengine.messages.answers import ABSENT, ControlFacts
from jobengine.messages.governor import PolicyChanged
from jobengine.messages.rate_bucket import Adapted, BucketState, Learn

__all__ = ["Controller"]

_json = msgspec.json.Encoder(order="sorted")
_Change = ChangeControl | OperateBreaker | LearnRate


class Controller:
    def __init__(
        self, state: ShardState, granter: Granter, submitter: Submitter, calendars: Calendars
    ) -> None:
        self._state = state
        self._granter = granter
        self._calendars = calendars
        self._changes = ClaimedChanges[_Change](state, submitter, self._carry_out, _replay)
        self.change = self._changes.begin
        self.loaded = self._changes.loaded
        self.read_failed = self._changes.read_failed

    def restore(self, controls: Sequence[ControlRow], states: Sequence[GateStateRow]) -> None:
        """Take up what the store holds, in the first message of a life."""
        state = self._state
        for row in controls:
            control = decode_control(row.kind, bytes(row.body))
            found = state.gates.controls(row.tenant_id)
            found.put(row.kind, row.name, control, Revision(row.revision, row.at))
        for tenant_id, found in state.gates.tenants.items():
            self._granter.set_weights(tenant_id, found.weights())
            self._calendars.watch(tenant_id)
        for kept in states:
            if not state.gates.sources.restore(kept.tenant_id, kept.name, bytes(kept.body)):
                key = kept.name.removeprefix("rate:")
                bucket = msgspec.json.decode(kept.body, type=BucketState)
                state.proposals.restore(kept.tenant_id, key, bucket)

    def read_gates(self, message: ReadGates) -> None:
        answer = gates_of(self._state, message.tenant_id, message.kinds, message.keys)
        self._state.commands.append(Answer(message.ask_id, answer))

    def adapted(self, message: Adapted) -> None:
        """A bucket has learned something: record and store it, and look again at who waits."""
        state = self._state
        draft = state.draft(message.tenant_id, ENGINE)
        data = {
            "key": message.key,
            "cause": message.cause,
            "fromPerMinuteMicro": message.from_micro,
            "toPerMinuteMicro": message.to_micro,
        }
        draft.remark("bucket.adapted", _json.encode(data))
        state.proposals.restore(message.tenant_id, message.key, message.state)
        state.keep_buckets(draft, {message.key: message.state})
        state.commit(draft, Pending())
        state.open_subject((message.tenant_id, "rate", message.key))

    def set_load(self, message: SetLoad) -> None:
        state = self._state
        state.gates.deferring = message.level != "normal"
        if not state.gates.deferring:
            for tenant_id in state.waiting_room.tenants():
                state.open_subject((tenant_id, "load", ""))

    # ---- decisions

    def _carry_out(self, message: _Change) -> None:
        match message:
            case ChangeControl():
                self._change_control(message)
            case OperateBreaker():
                self._operate_breaker(message)
            case LearnRate():
                self._learn_rate(message)

    def _change_control(self, message: ChangeControl) -> None:
        state = self._state
        controls = state.gates.controls(message.tenant_id)
        refusal = refuse_change(state, controls, message)
        if refusal is not None:
            self._changes.answer(message, refusal)
            return
        known = controls.revisions.get((message.kind, message.name))
        revision = Revision(known.number + 1 if known is not None else 1, state.now.at)
        draft, pending = state.draft(message.tenant_id, message.actor), Pending()
        body = None if message.control is None else encode_control(message.control)
        said = {"kind": message.kind, "name": message.name, "revision": revision.number}
        data = {**said, "control": None if body is None else msgspec.Raw(body)}
        draft.remark(message.event, _json.encode(data))
        draft.control(message.kind, message.name, body, revision.number)
        before = controls.documents.get((message.kind, message.name))
        controls.put(message.kind, message.name, message.control, revision)
        self._forget_states(draft, message, before)
        facts = ControlFacts(
            kind=message.kind,
            name=message.name,
            revision=revision.number,
            changed_at=revision.changed_at,
            control=ABSENT if body is None else msgspec.Raw(body),
        )
        if message.claim is not None:
            stored = _json.encode(facts)
            store_claim(draft, pending, message.tenant_id, message.claim, stored)
        if isinstance(message.control, Governance):
            told = PolicyChanged(
                policy=message.control, revision=revision.number, changed_at=revision.changed_at
            )
            pending.commands.append(told)
        pending.answers.append((message.ask_id, ControlAnswer(facts=facts)))
        state.commit(draft, pending)
        self._apply(message.tenant_id)

    def _forget_states(self, draft: Draft, message: ChangeControl, before: Control | None) -> None:
        """What gates remembered of a control that is gone is forgotten with it; what a bucket
        remembered of a limit that another control took away, once it matters no more."""
        state, tenant_id = self._state, message.tenant_id
        own: tuple[str, ...] = ()
        if message.control is None:
            own = _limit_keys(message.name, before)
            if message.kind == "source":
                state.gates.sources.forget(tenant_id, message.name)
                for kind in ("breaker", "concurrency"):
                    draft.keep_state(f"{kind}:{message.name}", None)
        for key in state.proposals.forget(tenant_id, own, state.wall_at):
            draft.keep_state(f"rate:{key}", None)

    def _apply(self, tenant_id: str) -> None:
        """Let everything of a tenant be judged anew."""
        state = self._state
        controls = state.gates.controls(tenant_id)
        self._granter.set_weights(tenant_id, controls.weights())
        self._calendars.watch(tenant_id)
        state.commands.extend(state.proposals.reconfigure(tenant_id))
        state.open_tenant(tenant_id)

    def _operate_breaker(self, message: OperateBreaker) -> None:
        state, at = self._state, self._state.now.at
        if state.gates.controls(message.tenant_id).source(message.source_id) is None:
            self._changes.answer(message, _no_source())
            return
        breaker = state.gates.sources.breaker(message.tenant_id, message.source_id)
        moves = {
            "open": breaker.force_open,
            "close": breaker.force_closed,
            "release": breaker.release,
        }
        change = moves[message.verb](at)
        moved = None if change is None else state.gates.sources.change_of(message.source_id, change)
        self._record(message, moved)
        state.open_subject((message.tenant_id, "breaker", message.source_id))

    def _record(self, message: OperateBreaker, moved: SourceChange | None) -> None:
        state = self._state
        draft, pending = state.draft(message.tenant_id, message.actor), Pending()
        if moved is not None:
            pending.source_changes.append(moved)
        answer = gates_of(state, message.tenant_id, ("breaker",), (message.source_id,))
        if message.claim is not None:
            store_claim(draft, pending, message.tenant_id, message.claim, _json.encode(answer))
        if moved is None and message.claim is None:
            state.commands.append(Answer(message.ask_id, answer))
            return
        pending.answers.append((message.ask_id, answer))
        state.commit(draft, pending)

    def _learn_rate(self, message: LearnRate) -> None:
        state = self._state
        source = state.gates.controls(message.tenant_id).source(message.source_id)
        if source is None or source.rate_policy is None:
            self._changes.answer(message, _no_source())
            return
        key = f"host:{source.host}"
        draft, pending = state.draft(message.tenant_id, message.actor), Pending()
        data = {
            "sourceId": message.source_id,
            "key": key,
            "learnedPerMinuteMicro": message.learned_micro,
            "pinned": message.pinned,
        }
        draft.remark("bucket.overridden", _json.encode(data))
        answer = gates_of(state, message.tenant_id, ("bucket",), (key,))
        if message.claim is not None:
            store_claim(draft, pending, message.tenant_id, message.claim, _json.encode(answer))
        learn = Learn(
            tenant_id=message.tenant_id,
            key=key,
            learned_micro=message.learned_micro,
            pinned=message.pinned,
        )
        state.commands.extend(state.proposals.tell(message.tenant_id, learn))
        pending.answers.append((message.ask_id, answer))
        state.commit(draft, pending)
        state.open_subject((message.tenant_id, "rate", key))


def _limit_keys(name: str, control: Control | None) -> tuple[str, ...]:
    """The keys of the limits that a control of this name may give."""
    match control:
        case Source():
            return (f"host:{control.host}", f"retry:{name}")
        case Quota():
            return (f"quota:{name}",)
        case Throttle():
            return (f"throttle:{name}",)
        case _:
            return ()


def _replay(request: _Change, stored: bytes | None) -> ControlAnswer | GatesAnswer:
    stored = stored or b"{}"
    if isinstance(request, ChangeControl):
        facts = msgspec.json.decode(stored, type=ControlFacts)
        return ControlAnswer(facts=facts, replayed=True)
    gates = msgspec.json.decode(stored, type=GatesAnswer)
    return msgspec.structs.replace(gates, replayed=True)


def _no_source() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "no such source here", {"path": "sourceId"})
