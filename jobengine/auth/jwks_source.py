"""Where an external issuer's keys come from: a JWKS file, or a URL that is fetched now and then.

I1  Keys are fetched again before their time is over, and when a token names an unknown one; the
    latter at most once a minute, whoever asks, so that nobody can make us hammer the issuer.
I2  What cannot be fetched or read changes nothing: the last good keys stay, and ``state`` says so.
I3  A fetch is bounded in time and size, follows no redirect, uses no proxy of the environment, and
    goes over HTTPS, or over HTTP to this machine.
"""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

import attrs
import httpx
import structlog
import trio

from jobengine.auth.jwk import SET_BYTES_MAX, JwksInvalidError, VerifyingKey, read_jwks

__all__ = ["JwksSource", "JwksState"]

_FETCH_S: Final = 5.0
_UNKNOWN_INTERVAL_S: Final = 60.0
_RETRY_S: Final = (5.0, 60.0)
_EARLY: Final = 0.8
"""The part of their time after which keys are fetched again."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_log = structlog.get_logger("jobengine.auth")


@attrs.define
class JwksState:
    """``failing_since_mono``: since when fetches fail, None when the last one succeeded."""

    fetched_mono: float | None = None
    failing_since_mono: float | None = None
    why: str = ""
    fetches_total: int = 0
    failures_total: int = 0


class JwksSource:
    """The keys of one issuer. Belongs to one thread.

    Raises `ValueError` for a URL that is neither HTTPS nor of this machine, or holds a password.
    """

    def __init__(
        self, place: str, *, ttl_s: float, transport: httpx.AsyncBaseTransport | None = None
    ):
        self.keys: Sequence[VerifyingKey] = ()
        self.state = JwksState()
        self.changed: Callable[[], None] = lambda: None
        """Called when there are other keys than before."""
        self._ttl_s = ttl_s
        self._transport = transport
        self._asked_mono = float("-inf")
        self._fetching: trio.Event | None = None
        self._url = _url(place) if "://" in place else None
        self._path = None if self._url is not None else trio.Path(Path(place))
        self.place = place.partition("?")[0]

    async def run(self) -> None:
        """Keep the keys fresh, until cancelled."""
        pause_s, pause_s_max = _RETRY_S
        while True:
            await self.refresh()
            if self.state.failing_since_mono is None:
                pause_s = _RETRY_S[0]
                await trio.sleep(self._ttl_s * _EARLY)
            else:
                await trio.sleep(min(pause_s, self._ttl_s))
                pause_s = min(2 * pause_s, pause_s_max)

    async def refresh_for_unknown_key(self) -> None:
        """Fetch because of a key that is not here, unless that was done within the minute.

        Returns when a fetch that was under way has ended, whoever began it.
        """
        if self._fetching is None:
            now = trio.current_time()
            if now - self._asked_mono < _UNKNOWN_INTERVAL_S:
                return
            self._asked_mono = now
        # Whoever asked may lose patience; the minute's only fetch goes on for the others.
        with trio.CancelScope(shield=True):
            await self.refresh()

    async def refresh(self) -> None:
        """Fetch now, or wait for the fetch that is under way. Never raises for what it finds."""
        if self._fetching is not None:
            await self._fetching.wait()
            return
        self._fetching = ended = trio.Event()
        try:
            await self._refresh()
        finally:
            self._fetching = None
            ended.set()

    async def _refresh(self) -> None:
        state = self.state
        state.fetches_total += 1
        why = f"no answer within {_FETCH_S:g} s"
        keys: Sequence[VerifyingKey] = ()
        with trio.move_on_after(_FETCH_S):
            try:
                keys, why = read_jwks(await self._fetch()), ""
            except JwksInvalidError as error:
                why = str(error)
            except httpx.HTTPError as error:
                why = type(error).__name__
            except OSError as error:
                why = error.strerror or type(error).__name__
        if not keys:
            self._failed(why)
            return
        if state.failing_since_mono is not None:
            _log.info("jwks_available_again", place=self.place)
        state.fetched_mono = trio.current_time()
        state.failing_since_mono, state.why = None, ""
        if _numbers(keys) != _numbers(self.keys):
            self.keys = keys
            self.changed()

    def _failed(self, why: str) -> None:
        state = self.state
        state.failures_total += 1
        state.why = why
        if state.failing_since_mono is None:
            state.failing_since_mono = trio.current_time()
            _log.warning("jwks_unavailable", place=self.place, why=why, keys_kept=len(self.keys))

    async def _fetch(self) -> bytes:
        if self._path is not None:
            async with await self._path.open("rb") as file:
                return bytes(await file.read(SET_BYTES_MAX + 1))
        assert self._url is not None
        found = bytearray()
        async with (
            httpx.AsyncClient(
                trust_env=False, timeout=_FETCH_S, transport=self._transport
            ) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != 200:
                raise JwksInvalidError(f"the answer has the status {answer.status_code}")
            async with aclosing(answer.aiter_bytes(16_384)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    found += chunk
                    if len(found) > SET_BYTES_MAX:
                        raise JwksInvalidError(f"more than {SET_BYTES_MAX} bytes")
        return bytes(found)


def _numbers(keys: Sequence[VerifyingKey]) -> list[tuple[str, str, object]]:
    return [(key.key_id, key.algorithm, key.key) for key in keys]


def _url(place: str) -> httpx.URL:
    try:
        url = httpx.URL(place)
    except httpx.InvalidURL:
        raise ValueError("not a URL") from None
    if url.userinfo:
        raise ValueError("a JWKS URL must not hold a password")
    if url.scheme != "https" and not (url.scheme == "http" and url.host in _LOOPBACK):
        raise ValueError("a JWKS URL must be https://, or http:// of this machine")
    return url
