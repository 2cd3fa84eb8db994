"""The one message every core understands: the time it asked for has come."""

import msgspec


class Wake(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Sent by the shell to its own core when `wakeup_at` has passed; never put in a mailbox."""
