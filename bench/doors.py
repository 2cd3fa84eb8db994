"""What the door adds to a request: CPU of authorisation and validation, in one process.

Each case repeats one step of a `POST /jobs` of a hundred bytes, with nothing behind it: no socket,
no commit. `admitted` is all of them together, from headers and body to the job that the shard would
be asked for, with a token that was seen before; `admitted, new token` with one that was not, which
a client meets once for each of its tokens. Both are held against 300 µs.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import msgspec
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target
from bench.load.jobs import job_texts
from jobengine.auth.apikeys import new_api_key
from jobengine.auth.authenticator import Authenticator
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Identity, Tokens
from jobengine.domain.change import ApiKeyRow
from jobengine.domain.redaction import Redactor
from jobengine.http.admission import Admission
from jobengine.http.front import Front
from jobengine.http.limits import RateLimits, RequestGate
from jobengine.http.route import Call, Route
from jobengine.http.routes.submits import ROUTES
from jobengine.testing import memory_engine
from jobengine.wire.jobs import JobRequest
from jobengine.wire.translate import new_job

__all__ = ["run"]

_TENANT: Final = "demo"
_BUDGET_US: Final = 300
_TTL_S: Final = 3_600

Step = Callable[[int], Awaitable[object]]


async def run(options: Options, *, requests: int, payload_bytes: int) -> Report:
    nowhere = Target(
        http_url="", worker_url="", token="", tenant=_TENANT, engine=None, database=None
    )
    settings = {"requests": requests, "payload_bytes": payload_bytes, "budget_us": _BUDGET_US}
    report = report_on(nowhere, "doors", "cpu_us", "µs a request", **settings)
    report.durability = {"storage": "nothing is stored"}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with memory_engine() as engine:
        tokens = Tokens(Ed25519PrivateKey.generate(), remembered_max=requests)
        front = Front(
            gateway=engine.gateway,
            tokens=tokens,
            readiness=_never_asked,
            render_metrics=_no_metrics,
            gate=RequestGate(RateLimits()),
        )
        bodies = [text.encode() for text in _texts(requests, payload_bytes)]
        door = _Door(front, tokens, bodies)
        for _ in range(options.rounds):
            for name, step in door.cases().items():
                # What a new token costs is only seen by one that has been forgotten.
                tokens.take(tokens.ring())
                if "new" not in name:
                    await step(0)
                report.add(name, cpu_us=await _cpu_us(step, requests))
                await trio.lowlevel.checkpoint()
        return report


@attrs.define
class _Door:
    front: Front
    tokens: Tokens
    bodies: list[bytes]
    bearers: list[str] = attrs.field(init=False)
    authenticator: Authenticator = attrs.field(init=False)
    api_key: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        now_at = self._now_at()
        self.bearers = [
            self.tokens.issue(_TENANT, (Scope.SUBMIT,), f"client {number}", _TTL_S, now_at)
            for number in range(len(self.bodies))
        ]
        key = new_api_key()
        self.api_key = key.text
        self.authenticator = Authenticator(self.tokens)
        row = ApiKeyRow(
            tenant_id=_TENANT, prefix=key.prefix, digest=key.digest, scopes=[Scope.SUBMIT]
        )
        self.authenticator.api_keys.take([row])

    def cases(self) -> dict[str, Step]:
        """The steps by their names; each takes the number of the request."""
        return {
            "admitted": self._admitted(lambda _: self.bearers[0]),
            "admitted, new token": self._admitted(lambda number: self.bearers[number]),
            "token seen before": self._bearer(lambda _: self.bearers[0]),
            "token, new": self._bearer(lambda number: self.bearers[number]),
            "API key": self._bearer(lambda _: self.api_key),
            "tenant, scope, headers": self._scope(),
            "request limit": self._limit(),
            "validation of the body": self._validation(),
        }

    def _admitted(self, bearer: Callable[[int], str]) -> Step:
        row = _create_job()
        admission, path, redactor = Admission(self.front, row), row.base + row.path, Redactor()

        async def step(number: int) -> object:
            headers = {
                "authorization": f"Bearer {bearer(number)}",
                "x-stella-tenant": _TENANT,
                "content-type": "application/json",
            }

            async def read_body() -> bytes:
                return self.bodies[number]

            call: Call[Any, JobRequest] = await admission.admit(
                lambda name: headers.get(name.lower()),
                {},
                path,
                b"",
                read_body,
                "",
                self._charge,
            )
            return _translated(call.body, redactor)

        return step

    def _bearer(self, bearer: Callable[[int], str]) -> Step:
        authenticate, now_at = self.authenticator.authenticate, self._now_at()

        async def step(number: int) -> object:
            return await authenticate(bearer(number), now_at)

        return step

    def _scope(self) -> Step:
        """Everything of admission but the bearer's own check, the limit and the body."""
        admission = Admission(self.front, attrs.evolve(_create_job(), body=None))
        headers = {"authorization": f"Bearer {self.bearers[0]}", "x-stella-tenant": _TENANT}

        async def step(number: int) -> object:
            return await admission.admit(
                lambda name: headers.get(name.lower()), {}, "", b"", _no_body, "", _uncharged
            )

        return step

    def _limit(self) -> Step:
        gate, mono = self.front.gate, trio.current_time()

        async def step(number: int) -> object:
            return gate.take("token", _TENANT, mono + number)

        return step

    def _validation(self) -> Step:
        decoder, redactor = msgspec.json.Decoder(JobRequest), Redactor()

        async def step(number: int) -> object:
            return _translated(decoder.decode(self.bodies[number]), redactor)

        return step

    def _charge(self, identity: Identity, tenant_id: str) -> None:
        self.front.gate.take(identity.token_id, tenant_id, self.front.gateway.clock.moment().mono)

    def _now_at(self) -> int:
        return self.front.gateway.clock.moment().at


async def _cpu_us(step: Step, requests: int) -> float:
    began_ns = time.thread_time_ns()
    for number in range(requests):
        await step(number)
    return (time.thread_time_ns() - began_ns) / requests / 1_000


def _translated(request: JobRequest, redactor: Redactor) -> object:
    return new_job(request, "0" * 36, project_id="", redactor=redactor)


def _create_job() -> Route:
    return next(row for row in ROUTES if row.name == "createJob")


def _texts(requests: int, payload_bytes: int) -> list[str]:
    texts = job_texts("bench", payload_bytes, 1)
    return [next(texts) for _ in range(requests)]


def _uncharged(identity: Identity, tenant_id: str) -> None:
    pass


async def _no_body() -> bytes:
    return b""


async def _no_metrics() -> bytes:
    return b""


async def _never_asked() -> list[Any]:
    return []
