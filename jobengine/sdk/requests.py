"""What both clients share: where the engine is, who asks, and the form of their requests."""

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from jobengine.sdk.artifacts import Download, Upload, path_of
from jobengine.sdk.exchange import BASE, Answer, ApiError, Call, error_of, retry_after_s
from jobengine.sdk.feed import Feed
from jobengine.sdk.header_octets import octets_of
from jobengine.sdk.operations import Operations
from jobengine.sdk.trust import trusted

__all__ = [
    "DEFAULT_URL",
    "Pressure",
    "Requests",
    "busy_for_s",
    "is_overlong",
    "lower",
    "passing",
    "read_s_of",
]

DEFAULT_URL: Final = "http://127.0.0.1:7070"
_BUSY: Final = (429, 503)
_LATE_S_MAX: Final = 0.5
QUIET_S_MAX: Final = 40.0
"""The engine comments every 15 s; a stream silent for longer than this is dead."""


class Pressure(NamedTuple):
    """What the engine last said in answer to new work: how many jobs of the tenant waited (None
    until it has said so), and whether the engine was so busy that low priorities wait (`elevated`)
    or new work is refused (`shedding`)."""

    backlog: int | None = None
    load: str = "normal"

    def after(self, headers: Mapping[str, str]) -> "Pressure":
        """As it is once an answer with these headers came."""
        backlog, load = headers.get("x-jobengine-backlog", ""), headers.get("x-jobengine-load")
        if backlog.isdecimal():
            return Pressure(int(backlog), load or "normal")
        return self if load is None else self._replace(load=load)


class Requests:
    """Built alike by both; see `Client` for the parameters."""

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        tenant: str | None = None,
        project: str | None = None,
        timeout_s: float = 30.0,
        retries_max: int = 5,
        verify: ssl.SSLContext | str | Path | None = None,
    ) -> None:
        self._url = (url or os.environ.get("JOBENGINE_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("JOBENGINE_TOKEN")
        tenant = tenant or os.environ.get("JOBENGINE_TENANT")
        headers = {
            "Authorization": f"Bearer {token}" if token else None,
            "X-Stella-Tenant": tenant,
            "X-Stella-Project": project,
        }
        given = {name: value for name, value in headers.items() if value}
        self._timeout_s = timeout_s
        self._tls = verify if isinstance(verify, ssl.SSLContext) else trusted(verify)
        self._operations = Operations(given, retries_max)
        self._pressure = Pressure()

    @property
    def pressure(self) -> Pressure:
        """What the engine last said of the tenant's backlog and of its load; asks nothing."""
        return self._pressure

    def _stream_request(
        self, path: str, query: Mapping[str, str], feed: Feed, read_s: float
    ) -> dict[str, Any]:
        return {
            "method": "GET",
            "url": self._url + BASE + path,
            "params": dict(query),
            "headers": octets_of({**self._operations.headers, **feed.resume_headers()}),
            "timeout": httpx.Timeout(self._timeout_s, read=read_s),
        }

    def _download_request(self, download: Download) -> dict[str, Any]:
        return {
            "method": "GET",
            "url": self._url + path_of(download.digest),
            "headers": octets_of({**self._operations.headers, **download.headers()}),
        }

    def _request(self, http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
        body = call.body
        request = http.build_request(
            call.method,
            self._url + call.path,
            params=dict(call.query),
            headers=octets_of(call.headers),
            content=None if isinstance(body, Upload) else body,
        )
        if isinstance(body, Upload):
            request.stream = body
        return request

    def _answer(self, response: httpx.Response) -> Answer:
        headers = lower(response.headers)
        self._pressure = self._pressure.after(headers)
        return Answer(response.status_code, headers, response.content)


def read_s_of(until: float) -> float:
    """How long a connection that is opened now may be silent, of a stream that ends at `until`."""
    return max(0.05, min(QUIET_S_MAX, until - time.monotonic()))


def is_overlong(read_s: float, until: float) -> bool:
    """Whether a connection would be read too long past `until`, did it fall silent now; one that is
    opened again waits for what is left."""
    return time.monotonic() + read_s > until + _LATE_S_MAX


def lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def busy_for_s(response: httpx.Response) -> float | None:
    """How long a stream's 429 or 503 asks to wait; any other refusal is raised."""
    answer = Answer(response.status_code, lower(response.headers), response.content)
    if answer.http_status not in _BUSY:
        raise error_of(answer)
    return retry_after_s(answer.headers, datetime.now(UTC))


@contextmanager
def passing() -> Iterator[None]:
    """Leaves out the errors of the block that whoever waits may outlive: no engine, or a busy
    one."""
    try:
        yield
    except httpx.TransportError:
        pass
    except ApiError as error:
        if error.http_status not in _BUSY:
            raise
