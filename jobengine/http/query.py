"""Query parameters, read by the type that declares them.

I1  A parameter that the type does not name is refused, naming it; so is one given twice, unless it
    is a list. A list is given by repeating the parameter or by commas.
"""

from functools import cache
from typing import Any, Generic, TypeVar, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from jobengine.domain.errors import RefusedError
from jobengine.http.errors import invalid, refused_by_wire
from jobengine.http.route import Paging
from jobengine.wire.refusal import refusal_of

__all__ = ["QueryReader"]

Q = TypeVar("Q", bound=msgspec.Struct)

_PARAMETERS_MAX = 64
_PAGING = frozenset(field.encode_name for field in msgspec.structs.fields(Paging))


class QueryReader(Generic[Q]):
    """Reads the query strings of one endpoint."""

    def __init__(self, kind: type[Q]) -> None:
        self._kind = kind
        self._lists = _lists_of(kind)
        self._names = {each.encode_name: each.name for each in msgspec.structs.fields(kind)}

    def read(self, raw: bytes) -> tuple[Q, str]:
        """The parameters, and the part of them that a page token is bound to.

        Raises `RefusedError`.
        """
        values = self._values(raw)
        try:
            query = msgspec.convert(values, self._kind, strict=False)
        except msgspec.ValidationError as error:
            raise RefusedError(refused_by_wire(refusal_of(error))) from None
        for name in values:
            # Of a number the text "null" is read as none.
            if getattr(query, self._names[name]) is None:
                raise invalid(name, "is null, which is no value; leave it out")
        bound = {name: value for name, value in values.items() if name not in _PAGING}
        return query, msgspec.json.encode(bound, order="sorted").decode() if bound else ""

    def _values(self, raw: bytes) -> dict[str, Any]:
        if not raw:
            return {}
        try:
            pairs = parse_qsl(
                raw.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_PARAMETERS_MAX,
            )
        except ValueError:
            raise invalid("query", "not well-formed UTF-8 pairs, or too many of them") from None
        values: dict[str, Any] = {}
        for name, value in pairs:
            if "\0" in value:
                raise invalid(name, "holds the character U+0000; leave it out")
            if name in self._lists:
                values.setdefault(name, []).extend(value.split(","))
            elif name in values:
                raise invalid(name, "is given twice; give it once")
            else:
                values[name] = value
        return values


@cache
def _lists_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The parameters that are lists; most endpoints share a kind with others."""
    hints = get_type_hints(kind)
    return frozenset(
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if get_origin(hints[field.name]) is list
    )
