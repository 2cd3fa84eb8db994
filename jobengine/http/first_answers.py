"""What was answered to a request before, under its idempotency key.

Asked before a change is decided: what was true then, such as that its target is there, need not be
true any more. Not here: that a key takes effect once (the shard).
"""

from typing import Any

import msgspec

from jobengine.http.route import Call

__all__ = ["first_answer"]


async def first_answer(call: Call[Any, Any]) -> msgspec.Raw | bytes | None:
    """The facts as they were stored; None for a request that is new or has no key."""
    claim, gateway = call.claim, call.front.gateway
    if claim is None:
        return None
    pair = (claim.key, claim.path)
    claims = await gateway.store.claims(call.tenant_id, (), [pair], gateway.clock.moment().at)
    row = claims.answers.get(pair)
    # Another body under that key is for the shard to refuse, as always.
    if row is None or row.body_digest != claim.body_digest:
        return None
    return row.answer
