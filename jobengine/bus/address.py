"""Where a bus is: the URL of the setting `bus_url`, taken apart.

    nats://[user:password@ | token@]host[:4222][,host[:port]…]     tls:// speaks TLS
    valkey://[[user]:password@]host[:6379][/database]              valkeys:// speaks TLS

Names and passwords are percent-encoded where they hold a character that a URL gives a meaning to.
`redis://` and `rediss://` mean the same as `valkey://` and `valkeys://`.
"""

from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from jobengine.bus.errors import BusUnusableError

__all__ = ["BusAddress", "address_of"]

_SCHEMES: Final = {
    "nats": ("nats", False),
    "tls": ("nats", True),
    "valkey": ("valkey", False),
    "valkeys": ("valkey", True),
    "redis": ("valkey", False),
    "rediss": ("valkey", True),
}
_PORTS: Final = {"nats": 4222, "valkey": 6379}
_FORMS: Final = "nats://host:4222, tls://host:4222, valkey://host:6379/0 or valkeys://host:6379/0"


@attrs.frozen(kw_only=True)
class BusAddress:
    """`kind` is `nats` or `valkey`. `hosts` are tried in turn. A NATS token is a user alone."""

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    user: str = attrs.field(default="", repr=False)
    password: str = attrs.field(default="", repr=False)
    database: int = 0

    @property
    def shown(self) -> str:
        """For logs and people: without who logs in."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                         for host, port in self.hosts)  # fmt: skip
        return f"{self.kind}{'+tls' if self.tls else ''}://{hosts}"


def address_of(url: str) -> BusAddress:
    """Raises `BusUnusableError`, which does not repeat the URL: it may hold a password."""
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES or not rest:
        raise BusUnusableError(f"bus_url is not the address of a bus; write {_FORMS}")
    kind, tls = _SCHEMES[scheme]
    login, at, places = rest.rpartition("@")
    first, *more = places.split(",")
    if more and kind != "nats":
        raise BusUnusableError("bus_url names several hosts, which only nats:// takes; name one")
    try:
        parts = urlsplit(f"//{login}{at}{first}")
        hosts = [_host(parts, kind), *(_host(urlsplit(f"//{host}"), kind) for host in more)]
        database = int(parts.path.strip("/") or 0)
    except ValueError:
        raise BusUnusableError(f"bus_url is not the address of a bus; write {_FORMS}") from None
    return BusAddress(
        kind=kind,
        tls=tls,
        hosts=tuple(hosts),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
    )


def _host(parts: SplitResult, kind: str) -> tuple[str, int]:
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError(parts.path)
    return parts.hostname, _PORTS[kind] if parts.port is None else parts.port
