"""The doors of a node, put together: HTTP and the workers' listener, in front of one engine.

I1  Who is inside the block may announce the addresses: both doors take connections.
I2  Nesting is the order of stopping. HTTP listens no more and readiness says so; workers are told
    to finish or release what they hold; requests in flight end; the workers' listener closes. The
    engine and its store, which surround the block, are there until the end.

Not here: where keys and addresses come from (the command line), what is served (`app`,
`worker_door`).
"""

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import attrs
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.metrics_core import Metric

from jobengine.actors.lease_calls import LeaseCalls
from jobengine.actors.session import SessionPorts
from jobengine.auth.tokens import Tokens
from jobengine.auth.vault import Vault
from jobengine.core.session import SessionLimits
from jobengine.engine import Engine
from jobengine.http.app import create_app
from jobengine.http.callbacks import Callbacks
from jobengine.http.direct import DirectFirst
from jobengine.http.front import Check, Front, FrontLimits, Readiness
from jobengine.http.identities import Identities, Trust
from jobengine.http.limits import RequestGate, rate_limits_of
from jobengine.http.metrics import metrics_of
from jobengine.http.outgoing import OutgoingPolicy
from jobengine.http.routes.health import readiness_of
from jobengine.http.security import Cors, redactor_of
from jobengine.http.server import ServerLimits, listen, serve
from jobengine.http.table import ROUTES
from jobengine.http.tls import Tls, TlsFiles
from jobengine.http.worker_admission import token_admission
from jobengine.http.worker_calls import WorkerCalls, worker_routes
from jobengine.http.worker_door import DoorLimits, WorkerDoor
from jobengine.http.worker_frames import WorkerFrames
from jobengine.http.worker_leases import lease_frame
from jobengine.http.worker_limits import limited_admission
from jobengine.http.worker_path import WorkerPath
from jobengine.http.worker_reading import WorkerReader

__all__ = ["Doors", "Endpoint", "open_doors"]

_SILENT_HEARTBEATS: Final = 4
"""A worker that holds nothing beats every third time; one beat later it counts as gone."""

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a peer dials instead

_log = structlog.get_logger("jobengine.doors")


class Endpoint(NamedTuple):
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int


@attrs.frozen(kw_only=True)
class Doors:
    """Where the doors are reached from this machine, without a path."""

    http_url: str
    worker_url: str
    reload_tls: Callable[[], None]
    """Reads the certificates again; raises `TlsUnusableError`, and those in use stay."""


@asynccontextmanager
async def open_doors(
    engine: Engine,
    key: Ed25519PrivateKey,
    *,
    http: Endpoint,
    worker: Endpoint,
    drain_s: float,
    trust: Trust | None = None,
    cors: Cors | None = None,
    tls: TlsFiles | None = None,
    callbacks: Callbacks | None = None,
    vault: Vault | None = None,
    outgoing: OutgoingPolicy | None = None,
    conditions: Callable[[], Iterable[Check]] = tuple,
    metrics: Callable[[], Iterable[Metric]] = tuple,
) -> AsyncIterator[Doors]:
    """Serve the engine for the length of the block. `key` signs and checks tokens, and `callbacks`,
    whose addresses the engine gives to templates. `vault` seals the secrets of webhooks, which last
    as long as the doors without it, and `outgoing` says where webhooks may lead. `conditions` and
    `metrics` are told beside the engine's own, of what else the node runs.

    Left normally, workers get `drain_s` and requests the server's `graceful_s` to end; cancelled or
    left by an error, connections are cut. Where workers have to show a certificate they come in by
    their own port alone. Raises `TlsUnusableError`, and in an exception group
    `AddressUnavailableError` and `ListenFailedError` when an address cannot be had.
    """
    tokens = Tokens(key)
    identities = Identities(tokens, engine.store, engine.clock, trust)
    limits, redactor = rate_limits_of(engine.settings), redactor_of(engine.settings)
    certificates = None if tls is None else Tls(tls, engine.clock)
    admit = limited_admission(token_admission(identities), limits.connections, engine.clock)
    reader = WorkerReader(engine.gateway.new_job_ids, redactor)
    ports = _session_ports(engine, reader)
    door = WorkerDoor(
        ports,
        admit,
        report_fault=_report_fault,
        limits=DoorLimits(frames=limits.frames),
        tls=certificates,
    )
    front = Front(
        gateway=engine.gateway,
        tokens=tokens,
        readiness=_readiness(engine, identities, conditions),
        render_metrics=metrics_of(engine, door.statistics, identities.metrics, metrics),
        identities=identities,
        redactor=redactor,
        limits=FrontLimits(
            artifact_bytes_max=engine.settings.artifact_bytes_max,
            tenant_artifact_bytes_max=engine.settings.tenant_artifact_bytes_max,
            stream_buffer_events_max=engine.settings.stream_buffer_events_max,
            tenant_webhooks_max=engine.settings.tenant_webhooks_max,
        ),
        gate=RequestGate(limits),
        cors=cors or Cors(),
        tls=tls is not None,
        callbacks=callbacks or Callbacks(tokens.ring),
        vault=vault or Vault(secrets.token_bytes(32)),
        outgoing=outgoing or OutgoingPolicy(),
    )
    leases = LeaseCalls(engine.registry, lease_frame, answer_s_max=engine.settings.ask_timeout_s)
    rows, worker_path = ROUTES, None
    if certificates is None or not certificates.asks_workers:
        rows = (*ROUTES, *worker_routes(WorkerCalls(leases, reader)))
        worker_path = WorkerPath(ports, admit, limits.frames, tls=front.tls)
    served = DirectFirst(front, ROUTES, create_app(front, rows), worker_path)
    async with trio.open_nursery() as workers:
        await workers.start(identities.run)
        worker_port = await workers.start(door.serve, *worker)
        async with trio.open_nursery() as requests:
            bound = await requests.start(
                partial(
                    serve,
                    served,
                    listen(*http),
                    ServerLimits(),
                    stopping=front.stopping,
                    tls=certificates,
                )
            )
            http_url = _url("http" if tls is None else "https", http.host, bound.port)
            front.callbacks.serve_at(http_url, tokens.ring)
            yield Doors(
                http_url=http_url,
                worker_url=_url("ws" if tls is None else "wss", worker.host, worker_port),
                reload_tls=_nothing_to_reload if certificates is None else certificates.reload,
            )
            front.stopping.set()
            await engine.registry.stop(drain_s)
        workers.cancel_scope.cancel()


def _session_ports(engine: Engine, reader: WorkerReader) -> SessionPorts:
    settings = engine.settings
    return SessionPorts(
        registry=engine.registry,
        gateway=engine.gateway,
        clock=engine.clock,
        codec=WorkerFrames(reader, settings.node_id, heartbeat_s=settings.heartbeat_s),
        limits=SessionLimits(
            hello_s_max=settings.hello_within_s,
            silent_s_max=_SILENT_HEARTBEATS * settings.heartbeat_s,
        ),
        failed=_report_fault,
    )


def _nothing_to_reload() -> None:
    pass


def _readiness(
    engine: Engine, identities: Identities, conditions: Callable[[], Iterable[Check]]
) -> Readiness:
    """What `readiness_of` checks, whether the actors keep up with what is asked of them, whether
    keys are there, and how what runs beside the engine does."""
    of_gateway = readiness_of(engine.gateway)

    async def checks() -> Sequence[Check]:
        keys = [
            Check(name=name, ready=ready, detail=detail)
            for name, ready, detail in identities.conditions()
        ]
        return [*await of_gateway(), _backlog_check(engine), *keys, *conditions()]

    return checks


def _backlog_check(engine: Engine) -> Check:
    waits = [(box.statistics().oldest_s, box.name) for box in engine.mailboxes]
    oldest_s, actor = max(waits)
    return Check(
        name="backlog",
        ready=oldest_s < engine.settings.ask_timeout_s,
        detail=f"the oldest message of {actor} waits {oldest_s:.3f} s",
    )


def _report_fault(error: BaseException) -> None:
    _log.error("worker_connection_failed", exc_info=error)


def _url(scheme: str, host: str, port: int) -> str:
    host = _WILDCARDS.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
