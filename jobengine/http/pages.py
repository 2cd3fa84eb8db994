"""Keyset pages: the cursor of a list, to and from the token that a client sees."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jobengine.auth.sealed import SealBrokenError
from jobengine.http.errors import invalid
from jobengine.http.route import Call, Paging

__all__ = ["after", "cut", "token"]

C = TypeVar("C")
R = TypeVar("R")


def after(call: Call[Any, Any], kind: type[C]) -> C | None:
    """The cursor that the request goes on after, or None for a first page. Raises a refusal."""
    query: Paging = call.query
    if query.page_token is None:
        return None
    try:
        return call.front.pages.open(call.filter_key, query.page_token, kind)
    except SealBrokenError:
        raise invalid(
            "pageToken", "was not given for this tenant, list and filter; start without one"
        ) from None


def token(call: Call[Any, Any], cursor: Any) -> str | None:
    """The token of a cursor; None for None."""
    return None if cursor is None else call.front.pages.seal(call.filter_key, cursor)


def cut(rows: Sequence[R], size: int, key: Callable[[R], Any]) -> tuple[Sequence[R], Any]:
    """A page of rows that were read one beyond it, and the cursor after it if any is left."""
    if len(rows) <= size:
        return rows, None
    return rows[:size], key(rows[size - 1])
