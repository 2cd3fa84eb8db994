"""What requests about webhooks say, checked. All of it raises `RefusedError`, naming the field."""

import secrets
from collections.abc import Sequence
from typing import Any, Final

from jobengine.http.errors import invalid
from jobengine.http.outgoing import check_url
from jobengine.http.route import Call
from jobengine.wire.event_types import EVENT_TYPES

__all__ = [
    "checked_description",
    "checked_types",
    "checked_url",
    "new_secret",
    "newest_seq",
    "seq_after",
]

_SECRET_BYTES: Final = 32
_SECRET_PREFIX: Final = "jws_"
_TYPES: Final = frozenset(one.name for one in EVENT_TYPES if one.origin == "ledger")


def new_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def checked_url(call: Call[Any, Any], url: str) -> str:
    wrong = check_url(url, call.front.outgoing)
    if wrong is not None:
        raise invalid("url", wrong)
    return url


def checked_types(names: Sequence[str]) -> tuple[str, ...]:
    """Names of events, each once."""
    for place, name in enumerate(names):
        if name not in _TYPES and not _matches_one(name):
            raise invalid(
                f"types[{place}]",
                f"no event is called {name}; name one, such as job.completed, or many, such as "
                "job.*",
            )
    return tuple(dict.fromkeys(names))


def _matches_one(name: str) -> bool:
    return name.endswith("*") and any(one.startswith(name[:-1]) for one in _TYPES)


def checked_description(call: Call[Any, Any], text: str) -> str:
    if text and not text.isprintable():
        raise invalid("description", "holds characters that cannot be shown; leave them out")
    return call.front.redactor.text(text)


async def newest_seq(call: Call[Any, Any]) -> int:
    heads = await call.front.gateway.store.heads([call.tenant_id])
    return heads[call.tenant_id].next_seq - 1 if call.tenant_id in heads else 0


def seq_after(after: int | None, newest_seq: int) -> int:
    if after is None:
        return newest_seq
    if after > newest_seq:
        raise invalid(
            "after", f"lies beyond the newest event, {newest_seq}; leave it out to begin there"
        )
    return after
