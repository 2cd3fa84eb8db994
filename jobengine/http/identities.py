"""Who may ask, kept up to date: keys, API keys, revocations and external issuers of a node.

I1  A bearer is judged from memory. What changes it is read from the store at the start, right after
    a change of our own, and twice a second while one may be on its way; so a revocation counts
    within a second, whatever became of the answer to it. Who changes nothing asks little.
I2  What cannot be read keeps its last good state: the ring of keys, an issuer's keys, the table.

Not here: how a bearer is judged (``auth``), what a request needs (`admission`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import attrs
import structlog
import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from jobengine.actors.runtime.clock import Clock
from jobengine.auth.authenticator import Authenticator
from jobengine.auth.claims import Identity, TokenInvalidError
from jobengine.auth.issuers import ExternalIssuer
from jobengine.auth.keys import KeyFileError, load_key_ring, ring_files
from jobengine.auth.tokens import Tokens
from jobengine.domain.change import ApiKeyRow
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.store.errors import StoreError
from jobengine.store.port import Store

__all__ = ["Identities", "Trust"]

_REFRESH_S: Final = 0.5
_REST_S: Final = 5.0
_ON_ITS_WAY_S: Final = 60.0
"""How long a change may take to be stored after it was asked for, or after the store was away."""

_RING_S: Final = 1.0
_USES_S: Final = 30.0
_ROWS_MAX: Final = 1_000

_log = structlog.get_logger("jobengine.auth")


@attrs.frozen(kw_only=True)
class Trust:
    """Whose signatures count beside the key of a node: that of its key file as it changes, with the
    retired ones beside it, and of external issuers."""

    key_file: Path | None = None
    issuers: Sequence[ExternalIssuer] = ()


class Identities:
    """Reads the ring of ``trust.key_file`` at once; raises `KeyFileError`."""

    def __init__(
        self, tokens: Tokens, store: Store, clock: Clock, trust: Trust | None = None
    ) -> None:
        trust = trust or Trust()
        self._authenticator = Authenticator(tokens, trust.issuers)
        self._store = store
        self._clock = clock
        self._key_file = trust.key_file
        self._ring_seen: Sequence[tuple[int, int, int]] = ()
        if trust.key_file is not None:
            self._ring_seen = ring_files(trust.key_file)
            tokens.take(load_key_ring(trust.key_file))
        self._position = 0
        self._reading = trio.Lock()
        self._expected_until = 0.0
        self._expected = trio.Event()
        self._changed: WeakValueDictionary[str, trio.Event] = WeakValueDictionary()
        """For each tenant that somebody waits for: set when its credentials have changed."""
        self.key_problem = ""

    async def identify(self, bearer: str) -> Identity:
        """Whom a bearer speaks for, now. Raises `RefusedError` (401)."""
        try:
            return await self._authenticator.authenticate(bearer, self._clock.moment().at)
        except TokenInvalidError as error:
            raise _refused(error) from None

    def check_revoked(self, identity: Identity, tenant_id: str) -> None:
        """Raises `RefusedError` (401) for what was revoked for this tenant."""
        try:
            self._authenticator.check_revoked(identity, tenant_id)
        except TokenInvalidError as error:
            raise _refused(error) from None

    def counts(self, tenant_id: str) -> tuple[int, int]:
        """How many API keys of the tenant are not revoked, and how many of its revocations have no
        end."""
        judge = self._authenticator
        return judge.api_keys.live[tenant_id], judge.endless[tenant_id]

    def jwks(self) -> dict[str, object]:
        """The engine's public keys."""
        return self._authenticator.tokens.jwks(self._clock.moment().at)

    async def ended(self, identity: Identity, tenant_id: str) -> str:
        """Return when this bearer counts no more for the tenant, with why: expired or revoked.

        For whoever serves one request for a long time.
        """
        while True:
            changed = self._changed.setdefault(tenant_id, trio.Event())
            try:
                left_s = self._left_s(identity, tenant_id)
            except TokenInvalidError as error:
                return str(error)
            with trio.move_on_after(left_s):
                await changed.wait()

    def expect(self) -> None:
        """A change is on its way to the store."""
        self._expected_until = trio.current_time() + _ON_ITS_WAY_S
        self._expected.set()

    async def refresh(self) -> None:
        """Read what has changed of API keys and revocations. Raises `StoreError`."""
        async with self._reading:
            while rows := await self._store.credentials(self._position, _ROWS_MAX):
                touched = set()
                for position, row in rows:
                    touched.add(row.tenant_id)
                    if isinstance(row, ApiKeyRow):
                        self._authenticator.api_keys.take([row])
                    else:
                        self._authenticator.revoke([row], self._clock.moment())
                    self._position = position
                for tenant_id in touched:
                    if (changed := self._changed.pop(tenant_id, None)) is not None:
                        changed.set()
                if len(rows) < _ROWS_MAX:
                    return

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep everything up to date, until cancelled; started when the table has been read."""
        await self._refresh_patiently()
        async with trio.open_nursery() as nursery:
            for issuer in self._authenticator.issuers:
                nursery.start_soon(issuer.source.run)
            nursery.start_soon(self._follow_store)
            nursery.start_soon(self._note_uses)
            if self._key_file is not None:
                nursery.start_soon(self._follow_ring, self._key_file)
            task_status.started()

    def conditions(self) -> list[tuple[str, bool, str]]:
        """(name, ready, what is to be said) of the keys and of each external issuer.

        An issuer that does not answer is no reason to take a node away that knows its keys.
        """
        found = []
        if self._key_file is not None:
            found.append(("key_file", True, self.key_problem or str(self._key_file)))
        for issuer in self._authenticator.issuers:
            source, state = issuer.source, issuer.source.state
            detail = f"{len(source.keys)} keys of {source.place}"
            if state.failing_since_mono is not None:
                since_s = trio.current_time() - state.failing_since_mono
                detail = f"{detail}; refreshing fails since {since_s:.0f} s: {state.why}"
            found.append((f"jwks {issuer.rules.issuer}", bool(source.keys), detail))
        return found

    def metrics(self) -> Iterator[Metric]:
        """What Prometheus reads of external issuers."""
        label = ["issuer"]
        keys = GaugeMetricFamily("jobengine_jwks_keys", "Keys of an issuer", labels=label)
        failing = GaugeMetricFamily(
            "jobengine_jwks_failing_seconds",
            "Since when an issuer's keys cannot be fetched; 0 when they can",
            labels=label,
        )
        failures = CounterMetricFamily(
            "jobengine_jwks_failures", "Fetches of an issuer's keys that failed", labels=label
        )
        for issuer in self._authenticator.issuers:
            name, state = [issuer.rules.issuer], issuer.source.state
            since = state.failing_since_mono
            keys.add_metric(name, len(issuer.source.keys))
            failing.add_metric(name, 0.0 if since is None else trio.current_time() - since)
            failures.add_metric(name, state.failures_total)
        yield from (keys, failing, failures)

    def _left_s(self, identity: Identity, tenant_id: str) -> float:
        """How much longer a bearer counts, as far as is known now. Raises `TokenInvalidError`."""
        self._authenticator.check_revoked(identity, tenant_id)
        left_s = (identity.expires_at - self._clock.moment().at) / SECOND
        if left_s <= 0:
            raise TokenInvalidError(f"the token expired at {to_rfc3339(identity.expires_at)}")
        return left_s

    async def _refresh_patiently(self) -> None:
        """A database that is away now is read later; until the first time nobody is let in."""
        while True:
            try:
                await self.refresh()
            except StoreError:
                self.expect()
                await trio.sleep(_REFRESH_S)
            else:
                return

    async def _follow_store(self) -> None:
        while True:
            if trio.current_time() < self._expected_until:
                await trio.sleep(_REFRESH_S)
            else:
                self._expected = trio.Event()
                with trio.move_on_after(_REST_S):
                    await self._expected.wait()
            await self._refresh_patiently()
            self._authenticator.forget_revoked(self._clock.moment())

    async def _note_uses(self) -> None:
        kept: dict[tuple[str, str], int] = {}
        while True:
            await trio.sleep(_USES_S)
            kept |= self._authenticator.api_keys.take_used()
            if kept:
                try:
                    await self._store.note_key_uses(kept)
                except StoreError as error:
                    _log.debug("key_uses_not_noted", error=type(error).__name__)
                else:
                    kept = {}

    async def _follow_ring(self, key_file: Path) -> None:
        while True:
            await trio.sleep(_RING_S)
            found = await trio.to_thread.run_sync(ring_files, key_file)
            if found != self._ring_seen:
                self._ring_seen = found
                await self._take_ring(key_file)

    async def _take_ring(self, key_file: Path) -> None:
        try:
            ring = await trio.to_thread.run_sync(load_key_ring, key_file)
        except KeyFileError as error:
            self.key_problem = f"{error}; the keys that were loaded before are in use"
            _log.error("key_file_unusable", why=str(error))
            return
        self.key_problem = ""
        self._authenticator.tokens.take(ring)
        until = [to_rfc3339(old.until_at) for old in ring.retired]
        _log.info("keys_loaded", retired_keys_until=until)


def _refused(error: TokenInvalidError) -> RefusedError:
    return RefusedError(Refusal(ErrorCode.TOKEN_INVALID, str(error), {"path": "Authorization"}))
