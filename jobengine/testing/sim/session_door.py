"""Submits over a worker's session, as a producer that wants no HTTP does: raw frames on a link of
its own, with all that links suffer.

Not here: what is submitted (`producer`), trying again (`desk`).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import trio

from jobengine.actors.frame_channel import ChannelClosedError
from jobengine.messages.session import SCOPE_SUBMIT, Peer
from jobengine.testing.sim.network import CALL_S_MAX, LinkEnd, LostError
from jobengine.testing.sim.world import World

__all__ = ["submit_over_session"]

_REF: Final = 1


async def submit_over_session(
    world: World, tenant_id: str, requests: Sequence[dict[str, Any]], key: str | None
) -> dict[str, Any]:
    """Greet, submit, and wait for the ack: its outcomes. Raises `LostError` without one."""
    name = f"{tenant_id}-producer"
    peer = Peer(tenant_id=tenant_id, subject=name, scopes=frozenset({SCOPE_SUBMIT}))
    submit = {"op": "submit", "ref": _REF, "jobs": list(requests)}
    if key is not None:
        submit["idempotencyKey"] = key
    with trio.move_on_after(CALL_S_MAX):
        await trio.lowlevel.checkpoint()
        try:
            link = world.open_link(name, peer)
        except OSError as error:
            raise LostError("no way") from error
        try:
            _say(link, {"op": "hello", "workerId": name, "capacity": 0})
            await _hear(link, "welcome")
            _say(link, submit)
            return {"outcomes": [_outcome(job) for job in (await _hear(link, "ack"))["jobs"]]}
        except ChannelClosedError as error:
            raise LostError("cut") from error
        finally:
            link.cut()
    raise LostError("no answer")


def _say(link: LinkEnd, message: dict[str, Any]) -> None:
    link.put(msgspec.json.encode(message).decode())


async def _hear(link: LinkEnd, op: str) -> dict[str, Any]:
    """The next message of this kind. Raises `LostError` for a refusal: it may be over later."""
    while True:
        found = msgspec.json.decode(await link.receive())
        for message in found if isinstance(found, list) else [found]:
            if message["op"] == op:
                return dict(message)
            if message["op"] in ("nack", "error"):
                raise LostError(message["code"])


def _outcome(job: dict[str, Any]) -> dict[str, Any]:
    refusal = job.get("error")
    return {
        "outcome": job["outcome"],
        "jobId": job.get("jobId"),
        "refusal": refusal and refusal["code"],
    }
