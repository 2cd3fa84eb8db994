"""Headers as octets: what somebody wrote for people as UTF-8, the rest in visible ASCII.

I1  What cannot be sent is refused before anything is, by the name of the parameter that it was.
I2  The refusal never quotes a value: it may be a token.

Not here: which headers a request has (`exchange`, `requests`).
Sources: RFC 9110 §5.5 (field values).
"""

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["UnsendableError", "octets_of"]

_FOR_PEOPLE: Final = {
    "X-Stella-Operator-Reason": "reason",
    "X-Stella-Operator-Ticket": "ticket",
    "X-Stella-Project": "project",
}
"""Which parameter each of the headers is that the engine reads as UTF-8."""

_FOR_PROGRAMS: Final = {
    "Authorization": "token",
    "Content-Type": "mime",
    "Idempotency-Key": "idempotency_key",
    "Last-Event-ID": "after",
    "X-Stella-Tenant": "tenant",
}
_BEARER: Final = "Bearer "
_one_line: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_visible: Final = re.compile(r"(?:[\x21-\x7e]+(?: +[\x21-\x7e]+)*)?").fullmatch


class UnsendableError(ValueError):
    """A value that no request can carry. `parameter` is what it was given as: `token`, `tenant`,
    `project`, `reason`, `ticket`, `idempotency_key`, `mime`, `after`."""

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(f"{parameter} {why}")
        self.parameter = parameter
        self.why = why


def octets_of(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers as they are sent. Raises `UnsendableError`."""
    return [(name.encode("ascii"), _octets(name, text)) for name, text in headers.items()]


def _octets(name: str, text: str) -> bytes:
    if (parameter := _FOR_PEOPLE.get(name)) is not None:
        if _one_line(text) is None:
            raise UnsendableError(
                parameter, "holds a line break or another control character: write it on one line"
            )
        try:
            return text.strip(" \t").encode()
        except UnicodeEncodeError:
            raise UnsendableError(parameter, "is not text in UTF-8") from None
    parameter = _FOR_PROGRAMS.get(name, name)
    single = text.removeprefix(_BEARER) if parameter == "token" else text
    if _visible(single) is None or (parameter != "mime" and " " in single):
        raise UnsendableError(parameter, "must be visible ASCII characters, without spaces")
    return text.encode("ascii")
