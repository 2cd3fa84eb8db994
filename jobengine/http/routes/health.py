"""Is the process alive, may it be given work, and its metrics: for probes, without a token."""

from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from jobengine.actors.gateway import Gateway
from jobengine.domain.errors import ErrorCode
from jobengine.http.answer import Answer
from jobengine.http.front import Check, Front, Readiness
from jobengine.http.route import OpenRoute
from jobengine.http.views import Live, ReadyView
from jobengine.store.errors import StoreError
from jobengine.wire.jobs import ErrorBody

__all__ = ["ROUTES", "readiness_of"]

_HEALTH_S: Final = 2.0
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
_encode: Final = msgspec.json.Encoder().encode


def readiness_of(gateway: Gateway) -> Readiness:
    """Readiness of an engine: its database answers, the schema is current, commits go through; and
    how busy it is.

    A database that does not answer within two seconds counts as away.
    """

    async def checks() -> Sequence[Check]:
        return [*await _store_checks(gateway), _ledger_check(gateway), _load_check(gateway)]

    return checks


async def _store_checks(gateway: Gateway) -> Sequence[Check]:
    health = None
    detail = f"no answer within {_HEALTH_S:g} s"
    with trio.move_on_after(_HEALTH_S):
        try:
            health = await gateway.store.health()
        except StoreError as error:
            detail = str(error)
    if health is not None and not health.server_version:
        detail = health.detail
        health = None
    if health is None:
        return [
            Check(name="database", ready=False, detail=detail),
            Check(name="migrations", ready=False, detail="unknown: the database does not answer"),
        ]
    schema = health.detail or f"schema version {health.schema_version}"
    return [
        Check(name="database", ready=True, detail=health.server_version),
        Check(name="migrations", ready=health.ready, detail=schema),
    ]


def _ledger_check(gateway: Gateway) -> Check:
    ledger = gateway.ledger
    if ledger.away_since_mono is None:
        return Check(
            name="ledger", ready=True, detail=f"last commit took {ledger.last_commit_s:.3f} s"
        )
    behind_s = gateway.clock.moment().mono - ledger.away_since_mono
    detail = f"commits wait since {behind_s:.1f} s: {ledger.why}"
    return Check(name="ledger", ready=False, detail=detail)


def _load_check(gateway: Gateway) -> Check:
    """A level is told, and ready it is at each: reports, heartbeats and reads go on."""
    load = gateway.load
    causes = [f"{one.name} {one.observed}, {one.level} at {one.limit}" for one in load.causes]
    detail = f"{load.level}: {'; '.join(causes)}" if causes else load.level
    return Check(name="load", ready=True, detail=detail)


async def livez(_: Front) -> Answer:
    return Answer(_encode(Live(state="alive")))


async def readyz(front: Front) -> Answer:
    checks = list(await front.readiness())
    failing = [check for check in checks if not check.ready]
    if not failing and not front.stopping.is_set():
        return Answer(_encode(ReadyView(ready=True, checks=checks)))
    why = "; ".join(f"{check.name}: {check.detail}" for check in failing) or "stopping"
    error = ErrorBody(
        code=str(ErrorCode.STORE_UNAVAILABLE if failing else ErrorCode.OVERLOADED),
        message=f"not ready: {why}",
        details=[{"path": check.name, "message": check.detail} for check in failing],
    )
    body = _encode(ReadyView(ready=False, checks=checks, error=error))
    return Answer(body, 503, headers={"Retry-After": "1"})


async def metrics(front: Front) -> Answer:
    return Answer(await front.render_metrics(), media_type=_METRICS)


ROUTES: Final = (
    OpenRoute(
        path="/livez",
        name="livez",
        summary="Whether the process answers",
        handler=livez,
        answers={200: Live},
    ),
    OpenRoute(
        path="/readyz",
        name="readyz",
        summary="Whether the engine can take work: database, migrations, ledger",
        handler=readyz,
        answers={200: ReadyView, 503: ReadyView},
    ),
    OpenRoute(
        path="/metrics",
        name="metrics",
        summary="Prometheus metrics",
        handler=metrics,
        answers={200: None},
        media_type=_METRICS,
    ),
)
