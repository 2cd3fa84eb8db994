"""Requests to addresses that tenants name: what may be reached, and the client that reaches nothing
else.

I1  A connection is made to an address that was checked, and there is no second look-up between the
    check and the connection; so a name that leads elsewhere a moment later leads nowhere new.
I2  Of a name, all addresses must be allowed, not one of them.
I3  Unless the policy names it, an address is reached only if it is global unicast, also where it is
    written as, or wrapped in, another (IPv4-mapped, 6to4, NAT64); addresses at which clouds tell
    secrets to their machines are not.
I4  What a name leads to is not told, so that nobody can ask for names of an inner network.
I5  Certificates are verified against the name in the URL. Redirects are answers like others; there
    are no cookies, and no proxies of the environment.

Not here: what is sent, and what an answer means (`webhook_delivery`).
Sources: the IANA special-purpose address registries (RFC 6890), RFC 6052, RFC 3056, RFC 1035.
"""

import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

import attrs
import httpcore
import httpx
import trio

__all__ = [
    "AddressRefusedError",
    "OutgoingPolicy",
    "Resolve",
    "check_url",
    "open_client",
    "policy_of",
    "resolve_by_system",
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host name for a port. Raises `OSError`, and `UnicodeError` for what no name
server can be asked for."""

_URL_CHARACTERS_MAX: Final = 2_048
_NAME_CHARACTERS_MAX: Final = 253
_LABEL_CHARACTERS_MAX: Final = 63
_ADDRESSES_MAX: Final = 4
"""Of a name, tried one after another."""
_LOOKUPS_MAX: Final = 64
_KEEPALIVE_S: Final = 30.0

_NOT_GLOBAL: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
    )
)
_UNICAST_6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefusedError(Exception):
    """The policy does not let anything be sent there; the message says why."""


@attrs.frozen(kw_only=True)
class OutgoingPolicy:
    """What may be reached beside the public internet. `suffixes` begin with a dot."""

    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def names(self, host: str) -> bool:
        """Whether a host is allowed by its name, wherever that leads."""
        host = host.lower().rstrip(".")
        return host in self.hosts or host.endswith(self.suffixes)

    def allows(self, address: Address) -> bool:
        return _is_public(address) or any(address in network for network in self.networks)


def policy_of(text: str) -> OutgoingPolicy:
    """The policy that a setting says: host names, `*.` and a domain, and networks, with commas.

    Raises `ValueError`, whose message names what is wrong.
    """
    hosts: list[str] = []
    suffixes: list[str] = []
    networks: list[Network] = []
    for part in filter(None, (each.strip().lower() for each in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(part.strip("[]")))
            continue
        except ValueError:
            pass
        name = part.removeprefix("*.").rstrip(".")
        if not name or any(each in name for each in "*/:@ []") or _ends_in_number(name):
            raise ValueError(
                f"{part!r} is neither a host name, nor a domain such as *.example.net, nor a "
                "network such as 10.1.0.0/16"
            )
        (suffixes if part.startswith("*.") else hosts).append(
            f".{name}" if part.startswith("*.") else name
        )
    return OutgoingPolicy(
        hosts=frozenset(hosts), suffixes=tuple(suffixes), networks=tuple(networks)
    )


def check_url(url: str, policy: OutgoingPolicy) -> str | None:
    """Why a URL cannot be posted to, as far as that shows without looking up its host; None where
    nothing is wrong with it."""
    if len(url) > _URL_CHARACTERS_MAX:
        return f"has more than {_URL_CHARACTERS_MAX} characters"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "holds characters that a URL does not have; encode them"
    try:
        parsed = httpx.URL(url)
        host = parsed.host
    except (httpx.InvalidURL, UnicodeError):
        return "is not a URL"
    if parsed.scheme not in ("http", "https") or not host:
        return "must begin with https:// and a host"
    if parsed.userinfo or "@" in re.split("[/?#]", url.partition("://")[2])[0]:
        return "must not hold a user or password; the signature says who is asking"
    if "%" in host:
        return "must not encode its host"
    if parsed.fragment or "#" in url:
        return "must not hold a fragment"
    address = _literal(host)
    listed = policy.names(host)
    if address is not None:
        listed = any(address in network for network in policy.networks)
        if not policy.allows(address):
            return (
                f"names {address}, which may not be reached; the setting webhook_allow can let it"
            )
    elif not listed and (_ends_in_number(host) or "." not in host.rstrip(".")):
        return f"names {host}, which is no host name of the internet"
    elif not _can_be_looked_up(parsed.raw_host.decode("ascii")):
        return "names a host with an empty label, or with more characters than a host name has"
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        return f"names the port {parsed.port}, which there is not"
    if parsed.scheme == "http" and not listed:
        return "must be https://; http:// is for hosts that the setting webhook_allow names"
    return None


def open_client(
    policy: OutgoingPolicy, resolve: Resolve, tls: ssl.SSLContext, *, connections_max: int
) -> httpcore.AsyncConnectionPool:
    """A client that keeps to the policy; to be entered, and used by one thread.

    A request raises what `httpcore` raises, and `AddressRefusedError`. Answers are not decoded.
    """
    return httpcore.AsyncConnectionPool(
        ssl_context=tls,
        max_connections=connections_max,
        max_keepalive_connections=connections_max,
        keepalive_expiry=_KEEPALIVE_S,
        network_backend=_GuardedNetwork(policy, resolve),
    )


def resolve_by_system() -> Resolve:
    """Look-ups as the system does them, in threads of their own: a name server that does not answer
    holds up no other use of threads."""
    limiter = trio.CapacityLimiter(_LOOKUPS_MAX)

    async def resolve(host: str, port: int) -> Sequence[str]:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=limiter)
        return list(dict.fromkeys(str(place[0]) for *_, place in found))

    return resolve


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked (I1)."""

    def __init__(self, policy: OutgoingPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._network = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._checked(host, port)
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefusedError("a socket of the file system is no address")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _checked(self, host: str, port: int) -> Sequence[Address]:
        literal = _literal(host)
        if literal is not None:
            found: Sequence[Address] = [literal]
        else:
            try:
                texts = await self._resolve(host, port)
            except UnicodeError:
                raise httpcore.ConnectError(f"{host} was not found: it is no name") from None
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise httpcore.ConnectError(f"{host} was not found: {reason}") from None
            found = [ipaddress.ip_address(text) for text in texts]
        if literal is not None or not self._policy.names(host):
            for address in found:
                if not self._policy.allows(address):
                    raise AddressRefusedError(f"{host} leads to where nothing may be sent")
        return found[:_ADDRESSES_MAX]


def _is_public(address: Address) -> bool:
    """I3"""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(inner)
        if address not in _UNICAST_6:
            return False
    return not any(address in network for network in _NOT_GLOBAL)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _can_be_looked_up(host: str) -> bool:
    """Whether name servers can be asked for a host (RFC 1035, 2.3.4), given as it is sent."""
    name = host.removesuffix(".")
    return len(name) <= _NAME_CHARACTERS_MAX and all(
        0 < len(label) <= _LABEL_CHARACTERS_MAX for label in name.split(".")
    )


def _ends_in_number(host: str) -> bool:
    """Whether a host is taken for an IPv4 address, in some spelling, by one parser or another."""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")
