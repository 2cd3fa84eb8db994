"""One node from start to stop: database, engine, doors, signals.

I1  Nesting is the order of stopping: doors, bus, engine, database (`http/doors.py`, `engine`).
I2  The first SIGINT or SIGTERM stops in order, the second at once, the third as the system does.
    While the node is still starting, the first one already stops at once.
I3  SIGHUP reads the certificates again; what is wrong with them is logged, and the old ones stay.
I4  A fault of operation ends in one line with its remedy; a fault of programming keeps its
    traceback.
"""

import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import attrs
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.actors.runtime.supervisor import SupervisionFailedError
from jobengine.auth.keys import KeyFileError, KeyRing, load_or_create_key
from jobengine.auth.vault import VaultError, load_or_create_vault
from jobengine.bus import Bus, BusUnusableError, metrics_of_bus, open_bus
from jobengine.cli.configuration import Configuration, NodeOptions, endpoint_of
from jobengine.cli.failure import CommandFailedError, ExitCode, leaves
from jobengine.cli.logs import log_to_stderr
from jobengine.cli.trust import trust_of
from jobengine.engine import (
    DatabaseFactMismatchError,
    DatabaseInUseError,
    EmbeddedServerError,
    MigrationFailedError,
    RolesRefusedError,
    SchemaMismatchError,
    open_database,
    open_engine,
)
from jobengine.http.callbacks import Callbacks, public_url_of
from jobengine.http.doors import Doors, Endpoint, open_doors
from jobengine.http.front import Check
from jobengine.http.outgoing import policy_of
from jobengine.http.security import Cors, origins_of, redactor_of
from jobengine.http.server import AddressUnavailableError
from jobengine.http.tls import TlsFiles, TlsUnusableError
from jobengine.http.webhook_delivery import open_delivery
from jobengine.http.worker_door import ListenFailedError
from jobengine.store.errors import ProgrammerError, StoreUnavailableError
from jobengine.store.port import Store

__all__ = ["explained", "load_key", "make_data_dir", "run_node"]

_COLLECTOR_THRESHOLDS: Final = (50_000, 20, 20)
_PAUSE_S: Final = (0.5, 5.0)
_EXPLAIN_THEMSELVES: Final = (
    AddressUnavailableError,
    BusUnusableError,
    DatabaseFactMismatchError,
    DatabaseInUseError,
    EmbeddedServerError,
    KeyFileError,
    ListenFailedError,
    MigrationFailedError,
    RolesRefusedError,
    SchemaMismatchError,
    TlsUnusableError,
    VaultError,
)

_log = structlog.get_logger("jobengine.node")


def run_node(
    configuration: Configuration,
    key: Ed25519PrivateKey,
    announce: Callable[[Doors], None],
    *,
    wait_database_s: float,
    any_login: bool,
) -> ExitCode:
    """Run a node until a signal stops it; `announce` is called once, when it serves.

    Without `any_login`, a login that row-level security does not bind is refused.

    Main thread only. Raises `CommandFailedError` for what an operator can mend.
    """
    log_to_stderr(configuration.options.log_level, redactor_of(configuration.settings))
    for name, meant in configuration.unknown.items():
        _log.warning("environment_ignored", name=name, did_you_mean=meant)
    _tune_collector()
    node = _Node(configuration, key, announce, wait_database_s, any_login)
    try:
        return trio.run(node.run)
    except Exception as error:
        failure = explained(error)
        if failure is None:
            raise
        raise failure from None


def _tune_collector() -> None:
    """Look for cycles rarely, and never in what a node keeps for its whole life.

    A job makes some thirty objects and no cycles: with the default thresholds the collector walked
    them all again and again, for a third of the engine's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


def explained(error: BaseException) -> CommandFailedError | None:
    """What an operator should read of an error (or a group) that a node or database ended with."""
    for leaf in leaves(error):
        match leaf:
            case CommandFailedError():
                return leaf
            case StoreUnavailableError():
                return CommandFailedError(
                    f"the database does not answer ({leaf}): start it, or correct --database-url"
                )
            case SupervisionFailedError():
                return CommandFailedError(f"the engine gave up: {leaf}; its log says why")
            case _ if isinstance(leaf, _EXPLAIN_THEMSELVES):
                return CommandFailedError(str(leaf))
    return None


def make_data_dir(configuration: Configuration) -> None:
    """Make the data directory where there is none, such that the database's account can enter."""
    path = configuration.data_dir
    if path.is_dir():
        return
    try:
        path.mkdir(parents=True)
        path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise CommandFailedError(
            f"{path} cannot be made a data directory ({error.strerror}): name another with --data"
        ) from None


def load_key(configuration: Configuration, *, create: bool) -> Ed25519PrivateKey:
    """The key of a node; without `create` it must be there."""
    path = configuration.key_file
    if not create and not path.exists():
        raise CommandFailedError(
            f"there is no key file {path}: make one with "
            f"`jobengine token new-key --key-file {path}`, or name another with --key-file"
        )
    try:
        return load_or_create_key(path)
    except KeyFileError as error:
        raise CommandFailedError(str(error)) from None


@attrs.define
class _Node:
    configuration: Configuration
    key: Ed25519PrivateKey
    announce: Callable[[Doors], None]
    wait_database_s: float
    any_login: bool
    _stop: trio.Event = attrs.field(init=False, factory=trio.Event)
    _serving: bool = attrs.field(init=False, default=False)
    _cut: bool = attrs.field(init=False, default=False)
    _doors: Doors | None = attrs.field(init=False, default=None)

    async def run(self) -> ExitCode:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._obey_signals, nursery.cancel_scope)
            await self._serve()
            nursery.cancel_scope.cancel()
        return ExitCode.ERROR if self._cut else ExitCode.OK

    async def _serve(self) -> None:
        settings, options = self.configuration.settings, self.configuration.options
        ring, public_url = KeyRing(self.key), options.public_url
        callbacks = Callbacks(lambda: ring, public_url and public_url_of(public_url))
        vault = load_or_create_vault(self.configuration.vault_file)
        outgoing = policy_of(options.webhook_allow or "")
        async with (
            self._open_store() as store,
            open_delivery(
                outgoing,
                vault,
                lambda: ring,
                timeout_s=settings.webhook_timeout_s,
                deliveries_max=settings.webhook_deliveries_max,
            ) as delivery,
            open_engine(
                store, settings, sign_callback=callbacks.address, post_event=delivery.post
            ) as engine,
            open_bus(engine, redactor_of(settings)) as bus,
            open_doors(
                engine,
                self.key,
                http=Endpoint(*endpoint_of(options.http)),
                worker=Endpoint(*endpoint_of(options.worker)),
                drain_s=options.drain_s,
                trust=trust_of(self.configuration),
                cors=Cors(origins_of(options.cors_origins or "")),
                tls=_tls_files(options),
                callbacks=callbacks,
                vault=vault,
                outgoing=outgoing,
                conditions=partial(_conditions, bus),
                metrics=metrics_of_bus(bus),
            ) as doors,
        ):
            self._doors = doors
            self._serving = True
            self.announce(doors)
            _log.info("serving", http=doors.http_url, worker=doors.worker_url)
            await self._stop.wait()
            _log.info("stopping", drain_s=options.drain_s)

    @asynccontextmanager
    async def _open_store(self) -> AsyncIterator[Store]:
        """The store, waiting for a database that is away or taken, as long as was asked for."""
        until = trio.current_time() + self.wait_database_s
        pause_s, pause_s_max = _PAUSE_S
        async with AsyncExitStack() as stack:
            store: Store | None = None
            while store is None:
                try:
                    store = await stack.enter_async_context(self._database())
                except (StoreUnavailableError, DatabaseInUseError) as error:
                    left_s = until - trio.current_time()
                    if left_s <= 0:
                        raise
                    _log.warning(
                        "database_not_ready", reason=str(error), waiting_s=round(left_s, 1)
                    )
                    await trio.sleep(min(pause_s, left_s))
                    pause_s = min(2 * pause_s, pause_s_max)
                except ProgrammerError as error:
                    raise CommandFailedError(f"this database cannot be used: {error}") from error
            yield store

    def _database(self) -> AbstractAsyncContextManager[Store]:
        settings, conninfo = self.configuration.settings, self.configuration.options.database_url
        return open_database(settings, conninfo=conninfo, any_login=self.any_login)

    async def _obey_signals(
        self, all_of_it: trio.CancelScope, *, task_status: trio.TaskStatus[None]
    ) -> None:
        # Without certificates SIGHUP stays what it is: the end of a node whose terminal is gone.
        hangup = [signal.SIGHUP] if self.configuration.options.tls_cert else []
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *hangup) as received:
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    self._reload_tls()
                    continue
                self._cut = self._stop.is_set()
                if self._cut or not self._serving:
                    all_of_it.cancel()
                self._stop.set()

    def _reload_tls(self) -> None:
        if self._doors is None:
            return
        try:
            self._doors.reload_tls()
        except TlsUnusableError as error:
            _log.error("certificate_not_reloaded", reason=str(error))
        else:
            _log.info("certificate_reloaded")


def _conditions(bus: Bus | None) -> list[Check]:
    """A node is ready without its bus: what waits for it is in the store."""
    return [] if bus is None else [Check(name="bus", ready=True, detail=bus.condition)]


def _tls_files(options: NodeOptions) -> TlsFiles | None:
    """Raises `CommandFailedError` when one file is named without the other it needs."""
    certificate, key = options.tls_cert, options.tls_key
    if (certificate is None) != (key is None):
        given, missing = ("tls-cert", "tls-key") if key is None else ("tls-key", "tls-cert")
        raise CommandFailedError(f"--{given} needs --{missing} beside it", ExitCode.USAGE)
    if certificate is None or key is None:
        if options.tls_client_ca is not None:
            raise CommandFailedError(
                "--tls-client-ca needs --tls-cert and --tls-key beside it", ExitCode.USAGE
            )
        return None
    return TlsFiles(certificate=certificate, key=key, client_ca=options.tls_client_ca)
