"""What the parts of the PostgreSQL store are written against: rows of a named statement."""

from typing import Any, Protocol

__all__ = ["Rows"]


class Rows(Protocol):
    """The rows of a named statement: across tenants, and of one tenant as the role that sees no
    other."""

    async def _fetch(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]: ...

    async def _fetch_of(
        self, tenant_id: str, name: str, **parameters: Any
    ) -> list[tuple[Any, ...]]: ...
