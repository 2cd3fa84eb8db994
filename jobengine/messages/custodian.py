"""The alphabet of the custodian."""

import msgspec

__all__ = ["Prepare", "PrepareFailed", "Prepared"]


class Prepare(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Command: make room in the store for the days to come."""

    now_at: int


class Prepared(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class PrepareFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass
