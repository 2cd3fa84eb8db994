"""What readers get next of a tenant's events: the unit in which streams move.

I1  `events` are all events that the filter lets through with a seq in (after_seq, through_seq], in
    order. So a reader's cursor is `through_seq` afterwards, also where nothing matched.
I2  A `gap` names the first and the last seq at the beginning of that span that retention has taken.
I3  A batch is shared by all readers with the same filter and cursor, and encoded once for each form
    in which it is sent.
"""

from collections.abc import Callable, Sequence

import attrs

from jobengine.domain.event import Event

__all__ = ["Batch", "EncodeBatch"]


@attrs.define(kw_only=True, eq=False)
class Batch:
    tenant_id: str
    after_seq: int
    through_seq: int
    events: Sequence[Event]
    gap: tuple[int, int] | None = None
    _encoded: dict["EncodeBatch", bytes] = attrs.field(init=False, factory=dict)

    def encoded(self, encode: "EncodeBatch") -> bytes:
        """The bytes that `encode` makes of it: made at the first call, kept with the batch."""
        data = self._encoded.get(encode)
        if data is None:
            data = self._encoded[encode] = encode(self)
        return data


EncodeBatch = Callable[[Batch], bytes]
"""A function of a module, so that every reader gives the same one."""
