"""Why bytes were refused, said so that their author can mend them.

Codes: `BAD_JSON` (not JSON, not UTF-8, too deep), `UNKNOWN_OP`, `INVALID_FIELD`, and what a
door adds. `path` is JSONPath-like (`$.jobs[3].priority`).
"""

import re
from typing import Final, NamedTuple

import msgspec

_PLACE: Final = re.compile(r" - at `(?P<path>[^`]+)`$")
_PATTERN: Final = re.compile(r"^Expected `str` matching regex '(?P<form>.*)'$")
_NO_NEWLINE: Final = r"(?!\\n)"
_MEMBER: Final = re.compile(r"^Object (missing required|contains unknown) field `(?P<name>.*)`$")


class Refusal(NamedTuple):
    """One refusal; `message` says what is wrong and what would be right."""

    code: str
    message: str
    path: str


def refusal_of(error: Exception, root: str = "$") -> Refusal:
    """Translate an error of msgspec's decoder; `root` is the path of what was decoded."""
    if isinstance(error, RecursionError):
        return Refusal("BAD_JSON", "nested too deeply; flatten the value", root)
    if not isinstance(error, msgspec.ValidationError):
        return Refusal("BAD_JSON", f"{error}; send one UTF-8 JSON value", root)
    text = str(error)
    place = _PLACE.search(text)
    path = root + (place["path"][1:] if place else "")
    text = text[: place.start()] if place else text
    pattern = _PATTERN.match(text)
    if pattern is not None:
        text = f"is not of the form {pattern['form'].removesuffix(_NO_NEWLINE)}"
        return Refusal("INVALID_FIELD", f"{path} {text}", path)
    member = _MEMBER.match(text)
    if member is None:
        return Refusal("INVALID_FIELD", f"{path}: {text}", path)
    path = f"{path}.{member['name']}"
    if member[1] == "missing required":
        return Refusal("INVALID_FIELD", f"{path} is required; add it", path)
    return Refusal("INVALID_FIELD", f"{path} is not a known field; remove it", path)
