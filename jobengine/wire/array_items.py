"""The items of a JSON array as texts, of which no more are made than are allowed.

A list with a `max_length` is measured when it has been made; what is made of an array here, and
how long that takes, is bounded however many items it has.
"""

from functools import cache
from typing import Any, Final

import msgspec

__all__ = ["ITEMS_MAX", "TooManyItemsError", "array_items", "bounded_array"]

ITEMS_MAX: Final = 10_000
"""Of a bulk and of a frame of the worker protocol."""

_ABSENT: Final = msgspec.Raw()
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


class TooManyItemsError(Exception):
    """The array has more than `ITEMS_MAX` items; what is behind those was not looked at."""


def array_items(text: str) -> list[msgspec.Raw]:
    """The items in their order. Raises `TooManyItemsError`, and what msgspec's decoder raises for
    what is no JSON array."""
    if text.count(",") < ITEMS_MAX or text.lstrip(" \t\r\n")[:1] != "[":
        return _items.decode(text)
    try:
        found = msgspec.structs.astuple(_bounded_items().decode(text))
    except msgspec.ValidationError:
        raise TooManyItemsError from None
    return [item for item in found if item is not _ABSENT]


def bounded_array(items_max: int) -> type[Any]:
    """A type that a JSON array of at most so many items of any kind can be read as. Reading ends
    with the first that is too many, with an error that says how many may be."""
    return msgspec.defstruct(
        "BoundedArray",
        [(f"item{n}", msgspec.Raw, _ABSENT) for n in range(items_max)],
        array_like=True,
        frozen=True,
        repr_omit_defaults=True,
        forbid_unknown_fields=True,
    )


@cache
def _bounded_items() -> msgspec.json.Decoder[Any]:
    """Made when it is needed first: it takes as long as reading many bodies."""
    return msgspec.json.Decoder(bounded_array(ITEMS_MAX))
