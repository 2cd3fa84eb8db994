"""JSON Schemas of the types in the route table, as generators of clients read them best.

I1  Each type has one schema, under its own name; `Page[JobView]` is `JobViewPage`.
I2  Patterns are those of ECMA 262, as JSON Schema wants them.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from jobengine.domain.errors import ErrorCode
from jobengine.http.errors import TRANSPORT_CODES
from jobengine.http.route import OpenRoute, Route, SignedRoute
from jobengine.wire.jobs import ErrorEnvelope

__all__ = ["REF", "REQUEST_TIMEOUT", "Schemas"]

REF: Final = "#/components/schemas/{name}"
REQUEST_TIMEOUT: Final = (408, TRANSPORT_CODES[408])
"""Status and code of a body that does not arrive: the one refusal that the framework makes up."""


class Schemas:
    """The schemas of all types of the table, under names fit for a generated client."""

    def __init__(
        self,
        routes: Sequence[Route],
        open_routes: Sequence[OpenRoute],
        signed_routes: Sequence[SignedRoute] = (),
    ) -> None:
        kinds = [kind for row in routes for kind in (row.query, row.body, *row.answers.values())]
        kinds += [kind for row in open_routes if row.described for kind in row.answers.values()]
        kinds += [kind for row in signed_routes for kind in (row.body, *row.answers.values())]
        self._kinds = [kind for kind in [*kinds, ErrorEnvelope] if kind is not None]
        shown, components = msgspec.json.schema_components(self._kinds, ref_template=REF)
        queries = {row.query.__name__ for row in routes}
        self._components = {name: _tidied(text) for name, text in components.items()}
        self._shown = [_tidied(text) for text in shown]
        self.components = {
            _fit(name): text
            for name, text in sorted(self._components.items())
            if name not in queries
        }
        self.components["ErrorBody"]["properties"]["code"] = {"$ref": REF.format(name="ErrorCode")}
        self.components["ErrorCode"] = {
            "type": "string",
            "description": "What went wrong, for programs. More may come.",
            "examples": [str(ErrorCode.INVALID_FIELD)],
            "x-extensible-enum": sorted([*map(str, ErrorCode), *TRANSPORT_CODES.values()]),
        }

    def of(self, kind: Any) -> dict[str, Any]:
        return cast(dict[str, Any], self._shown[self._kinds.index(kind)])

    def properties(self, kind: type[msgspec.Struct]) -> dict[str, Any]:
        return cast(dict[str, Any], self._components[kind.__name__]["properties"])


def _fit(name: str) -> str:
    """`Page_JobView_`, as msgspec names `Page[JobView]`, becomes `JobViewPage`."""
    outer, _, inner = name.rstrip("_").partition("_")
    return inner + outer


def _tidied(schema: Any) -> Any:
    """A schema as other tools read it best: no names of Python, patterns of ECMA 262."""
    match schema:
        case list():
            return [_tidied(part) for part in schema]
        case dict():
            kept = {
                name: _tidied(part)
                for name, part in schema.items()
                if not (name == "required" and part == []) and not _empty_default(name, part)
            }
        case _:
            return schema
    for name in ("title", "$ref"):
        if isinstance(kept.get(name), str):
            base, slash, last = kept[name].rpartition("/")
            kept[name] = base + slash + _fit(re.sub(r"\W+", "_", last))
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].split())
    if isinstance(kept.get("pattern"), str):
        # Python's `$` also matches before a last newline; that of ECMA 262 does not.
        kept["pattern"] = kept["pattern"].replace("(?!\\n)", "")
    if "enum" in kept and "type" not in kept:
        kept["type"] = "string"
    return kept


def _empty_default(name: str, value: Any) -> bool:
    return name == "default" and value is None
