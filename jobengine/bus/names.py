"""How subjects, streams and keys are called.

I1  Two tenants never share a name, whatever their ids hold: octets other than ASCII letters,
    digits, `-` and `_` are written `%XX`, also the percent sign. What comes out holds no
    separator of NATS (`.`), no wildcard (`*`, `>`), no blank, and no `:`.
I2  Only the one spelling that `token` gives is taken for a tenant by `untoken`.
"""

from string import ascii_letters, digits
from typing import Final
from urllib.parse import unquote_to_bytes

import attrs

__all__ = ["Names", "token", "untoken"]

_PLAIN: Final = frozenset((ascii_letters + digits + "-_").encode())


def token(text: str) -> str:
    """A text as one token of a subject (I1)."""
    return "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in text.encode())


def untoken(written: str) -> str | None:
    """The text behind a token; None where it is nothing that `token` gives (I2)."""
    try:
        text = unquote_to_bytes(written).decode()
    except UnicodeError:
        return None
    return text if text and token(text) == written else None


@attrs.frozen
class Names:
    """Of everything on a bus that begins with a prefix."""

    prefix: str

    def event_subject(self, tenant_id: str, event_type: str) -> str:
        """The parts of a type are tokens of their own, so that `job.>` can be asked for."""
        parts = ".".join(token(part) for part in event_type.split("."))
        return f"{self.prefix}.events.{token(tenant_id)}.{parts}"

    def event_key(self, tenant_id: str) -> str:
        """The Valkey stream of a tenant's events."""
        return f"{self.prefix}:events:{token(tenant_id)}"

    def tenant_of(self, subject: str) -> str | None:
        """Whose job is requested on a NATS subject."""
        begin = f"{self.prefix}.jobs."
        return untoken(subject.removeprefix(begin)) if subject.startswith(begin) else None
