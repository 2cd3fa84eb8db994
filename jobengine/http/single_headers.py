"""Headers that mean one thing, given once.

Two values of a header are read differently by different programs on the way (the first, the last,
both joined), so what a proxy has judged need not be what is acted on. Such a request is refused
before anything of it is believed.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from jobengine.http.errors import invalid

__all__ = ["refuse_repeated"]

_SINGLE: Final = {
    name.lower(): name
    for name in (
        "Authorization",
        "Content-Digest",
        "Content-Encoding",
        "Content-Type",
        "Idempotency-Key",
        "If-Range",
        "Last-Event-ID",
        "Range",
        "Repr-Digest",
        "X-Correlation-Id",
        "X-Stella-Operator-Reason",
        "X-Stella-Operator-Ticket",
        "X-Stella-Project",
        "X-Stella-Tenant",
    )
}


def refuse_repeated(names: Iterable[str]) -> None:
    """Raise the refusal of the first of these header names that is there twice but must not be."""
    for name, times in Counter(name.lower() for name in names).items():
        if times > 1 and name in _SINGLE:
            raise invalid(_SINGLE[name], "is given twice; give it once")
