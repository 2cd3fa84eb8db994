"""The alphabet of the custodian."""

import msgspec

__all__ = [
    "ArtifactsSwept",
    "DropOld",
    "OldDropped",
    "Prepare",
    "PrepareFailed",
    "Prepared",
    "SweepArtifacts",
]


class Prepare(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Command: make room in the store for the days to come."""

    now_at: int


class Prepared(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class PrepareFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class DropOld(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Command: drop what is over by now, and the log lines of days that end at or before another
    instant."""

    now_at: int
    logs_before_at: int


class OldDropped(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class SweepArtifacts(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Command: look at the next artifacts behind a place, and remove those nobody names."""

    now_at: int
    after: tuple[int, str, str] | None


class ArtifactsSwept(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``after`` is where to go on; None at the end."""

    after: tuple[int, str, str] | None
