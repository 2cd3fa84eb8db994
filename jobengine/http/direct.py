"""Answers the rows that are asked most often as plain ASGI, in front of the web framework.

What a framework does for a request (its objects, its contexts, a task for the body and one for the
view) costs more than everything that these rows need. They are read from the same table and pass
the same `Admission`; which way a row takes changes its cost and nothing that a client can see.

I1  A request is answered here when its method and its path, as it was sent, are those of a row that
    is `direct`. Whatever else there is goes on to the framework: other spellings of the same path,
    other methods, preflights.
I2  As `app`: every answer carries the standing headers, the limits, the load and what CORS says;
    the body is read to its end or to `DRAINED_MAX` times its limit before it is refused.

Not here: rows that wait for long, and so have to notice that their client has gone (`app`).
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import structlog
import trio

from jobengine.auth.tokens import Identity
from jobengine.core.request_limit import Verdict
from jobengine.http.admission import Admission, ReadHeader, trace_id_of
from jobengine.http.answer import Answer
from jobengine.http.errors import answer_to, framework_refusal, internal_answer
from jobengine.http.front import Front, FrontLimits
from jobengine.http.limits import headers_of, headers_of_load, refusal_of
from jobengine.http.route import Route
from jobengine.http.security import standing_headers
from jobengine.http.single_headers import refuse_repeated

__all__ = ["DRAINED_MAX", "direct_first"]

DRAINED_MAX: Final = 4
"""Times the limit of a body that are read before it is refused, so that a client that is still
sending reads the refusal instead of a broken connection."""

AsgiApp = Callable[..., Awaitable[Any]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = structlog.get_logger("jobengine.http")


def direct_first(front: Front, rows: Sequence[Route], framework: AsgiApp) -> AsgiApp:
    """An application that answers the direct ones of these rows itself and hands on the rest."""
    views = {
        (row.method, (row.base + row.path).encode()): _View(front, row)
        for row in rows
        if row.direct
    }

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        view = None
        if scope["type"] == "http":
            view = views.get((scope["method"], scope["raw_path"]))
        await (framework if view is None else view)(scope, receive, send)

    return app


class _GoneError(Exception):
    """The client went before its body was complete."""


class _UnreadError(Exception):
    """The body is too large (413), or does not come (408)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _View:
    """One row."""

    def __init__(self, front: Front, row: Route) -> None:
        self._front = front
        self._row = row
        self._path = row.base + row.path
        self._admission = Admission(front, row)
        self._standing = _encoded(standing_headers(tls=front.tls))

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        given: dict[str, str] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.decode("latin-1"), value.decode("latin-1"))

        def header(name: str) -> str | None:
            return given.get(name.lower())

        verdicts: list[Verdict] = []
        try:
            answer = await self._answer(scope, given, header, receive, verdicts)
        except _GoneError:
            return
        told = self._front.cors.headers(header)
        if verdicts:
            told |= headers_of(verdicts[0])
            if self._row.creates_work:
                told |= headers_of_load(self._front.gateway.load)
        headers = [
            *self._standing,
            *_encoded(answer.headers | told),
            (b"content-type", answer.media_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(
        self,
        scope: dict[str, Any],
        given: dict[str, str],
        header: ReadHeader,
        receive: Receive,
        verdicts: list[Verdict],
    ) -> Answer:
        trace_id = trace_id_of(header)
        try:
            if len(given) < len(scope["headers"]):
                refuse_repeated(name.decode("latin-1") for name, _ in scope["headers"])
            call = await self._admission.admit(
                header,
                {},
                self._path,
                scope["query_string"],
                partial(_read_body, self._front.limits, header("Content-Length"), receive),
                trace_id,
                partial(self._charge, verdicts),
            )
            answer = await self._row.handler(call)
            # A stream needs somebody to notice that its reader has gone: no row for this way.
            assert isinstance(answer, Answer)
        except _GoneError:
            raise
        except _UnreadError as unread:
            return framework_refusal(unread.status, trace_id, {})
        except Exception as error:  # noqa: BLE001 - whatever it is has one answer
            return self._failed(error, trace_id)
        return answer

    def _charge(self, verdicts: list[Verdict], identity: Identity, tenant_id: str) -> None:
        mono = self._front.gateway.clock.moment().mono
        verdict = self._front.gate.take(identity.token_id or identity.subject, tenant_id, mono)
        verdicts.append(verdict)
        if not verdict.granted:
            raise refusal_of(verdict, "requests")

    def _failed(self, error: Exception, trace_id: str) -> Answer:
        answer = answer_to(error, trace_id)
        if answer is None:
            _log.error("http_request_failed", trace_id=trace_id, path=self._path, exc_info=error)
            return internal_answer(trace_id)
        return answer


async def _read_body(limits: FrontLimits, declared: str | None, receive: Receive) -> bytes:
    """The whole body. Raises `_UnreadError` and `_GoneError`."""
    drained_max = limits.body_bytes_max * DRAINED_MAX
    if declared is not None and int(declared) > drained_max:
        raise _UnreadError(413)
    parts: list[bytes] = []
    received, more = 0, True
    with trio.move_on_after(limits.body_s) as scope:
        while more and received <= drained_max:
            message = await receive()
            if message["type"] != "http.request":
                raise _GoneError
            more = message["more_body"]
            received += len(message["body"])
            if received <= limits.body_bytes_max:
                parts.append(message["body"])
            else:
                parts.clear()
    if received > limits.body_bytes_max:
        raise _UnreadError(413)
    if scope.cancelled_caught:
        raise _UnreadError(408)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
