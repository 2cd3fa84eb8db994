"""Bounds of the broadcaster."""

import attrs

__all__ = ["BroadcasterLimits"]


@attrs.frozen(kw_only=True)
class BroadcasterLimits:
    """``ring_…`` bound what is kept of one tenant, ``rings_bytes_max`` gives each of many tenants
    an equal part; ``batch_…`` bound what a reader gets at once, ``page_…`` what one read of the
    ledger gives, ``pages_max`` how many such pages there are, with those being read. Bytes of rings
    and pages are those of stored entries, of which events take up to six times as much. A reader
    for which nothing matches hears how far it has come every ``quiet_events_max`` events."""

    ring_events_max: int = 8_192
    ring_bytes_max: int = 8 << 20
    rings_bytes_max: int = 128 << 20
    batch_events_max: int = 512
    batch_bytes_max: int = 512 << 10
    scan_events_max: int = 4_096
    quiet_events_max: int = 4_096
    piece_bytes: int = 128 << 10
    page_blocks_max: int = 64
    page_bytes_max: int = 512 << 10
    pages_max: int = 4
    reads_max: int = 2
    backoff_s_first: float = 0.1
    backoff_s_max: float = 2.0
