"""A TCP connection to one of a bus's hosts, which TLS can be put around."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import trio

from jobengine.bus.address import BusAddress
from jobengine.bus.errors import BusAwayError

__all__ = ["CONNECT_S_MAX", "Stream", "dialled", "over_tls", "translated"]

CONNECT_S_MAX: Final = 10.0
Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"
_BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError)


@asynccontextmanager
async def dialled(address: BusAddress) -> AsyncIterator[tuple[trio.SocketStream, str]]:
    """A connection to the first host that answers, and that host; closed when the block is left.

    Raises `BusAwayError`.
    """
    fault: Exception | None = None
    for host, port in address.hosts:
        try:
            with trio.fail_after(CONNECT_S_MAX):
                stream = await trio.open_tcp_stream(host, port)
        except (OSError, trio.TooSlowError) as error:
            fault = error
            continue
        try:
            yield stream, host
        finally:
            await trio.aclose_forcefully(stream)
        return
    raise BusAwayError(f"{address.shown} cannot be reached ({_told(fault)})")


async def over_tls(stream: trio.SocketStream, host: str) -> "trio.SSLStream[trio.SocketStream]":
    """TLS with the system's trust, checked for this host. Raises `BusAwayError`."""
    wrapped = trio.SSLStream(
        stream, ssl.create_default_context(), server_hostname=host, https_compatible=True
    )
    try:
        with trio.fail_after(CONNECT_S_MAX):
            await wrapped.do_handshake()
    except (*_BROKEN, trio.TooSlowError) as error:
        raise BusAwayError(f"no TLS with {host} ({_told(error.__cause__ or error)})") from None
    return wrapped


@asynccontextmanager
async def translated(shown: str) -> AsyncIterator[None]:
    """What a connection breaks with leaves the block as `BusAwayError`."""
    try:
        yield
    except _BROKEN as error:
        raise BusAwayError(f"the connection to {shown} broke ({_told(error)})") from None


def _told(error: BaseException | None) -> str:
    return str(error) or type(error).__name__
