"""Lists that the SDK answers a page at a time."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from jobengine.wire.jobs import Page

__all__ = ["every"]

T = TypeVar("T")


def every(page_of: "Callable[..., Page[T]]") -> Iterator[T]:
    """All items of a list, fetched page by page as they are taken."""
    token: str | None = None
    while True:
        page = page_of(page_token=token)
        yield from page.items
        token = page.next_page_token
        if token is None:
            return
