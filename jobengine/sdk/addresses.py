"""The two addresses of an engine, each found from what a worker was given."""

from typing import Final
from urllib.parse import urlsplit, urlunsplit

__all__ = ["AddressError", "api_url_of", "worker_url"]

_REST_PORT: Final = 7070


class AddressError(ValueError):
    """A URL that leads to no worker door; the message says what would."""


def worker_url(url: str) -> str:
    """The WebSocket URL of a worker door: http becomes ws, a missing path `/worker`. Raises
    `AddressError`."""
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise AddressError(f"{url!r} is no URL") from None
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not has_place:
        raise AddressError(f"{url!r} is no ws:// or wss:// URL")
    path = parts.path if parts.path not in ("", "/") else "/worker"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def api_url_of(worker_url: str) -> str:
    """The engine whose worker door this is: of the same port where the path is one of REST, else of
    the same host at the default port."""
    parts = urlsplit(worker_url)
    scheme = "https" if parts.scheme == "wss" else "http"
    netloc = parts.netloc.rpartition("@")[2]
    if parts.path.startswith("/api/"):
        return f"{scheme}://{netloc}"
    host = parts.hostname or "127.0.0.1"
    return f"{scheme}://[{host}]:{_REST_PORT}" if ":" in host else f"{scheme}://{host}:{_REST_PORT}"
