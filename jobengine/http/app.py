"""Makes the rows of the route table answer; the one file that knows the web framework.

I1  Every response, whoever made it, carries `X-JobEngine-Version`, and every error the envelope.
I2  What nobody foresaw is logged once, under the trace id that the client gets, and shows nothing
    of the inside.
I3  Every response states what a browser may do with it (`security`), and every one to a verified
    token how near its limit that is.
I4  A body is read to its end or to four times its limit before it is refused, so that a client that
    is still sending reads the refusal instead of a broken connection.

Not here: what a row demands (`admission`), what the answer looks like (`rendering`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

import structlog
from quart import Response, g, has_request_context, request, websocket
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio
from quart_trio.wrappers.request import TrioBody, TrioRequest
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from jobengine import __version__
from jobengine.actors.gateway import UnavailableError
from jobengine.auth.tokens import Identity
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.admission import Admission, trace_id_of
from jobengine.http.answer import Answer, StreamAnswer
from jobengine.http.errors import error_answer, framework_refusal, unavailable_answer
from jobengine.http.front import Front
from jobengine.http.limits import headers_of, refusal_of
from jobengine.http.route import OpenRoute, Route
from jobengine.http.routes.wellknown import wellknown_routes
from jobengine.http.security import SECURITY_HEADERS, Cors
from jobengine.http.single_headers import refuse_repeated
from jobengine.http.table import OPEN_ROUTES, ROUTES
from jobengine.store.errors import StoreUnavailable

__all__ = ["create_app"]

_DRAINED_MAX = 4

_log = structlog.get_logger("jobengine.http")

View = Callable[..., Awaitable[Response]]


def create_app(
    front: Front,
    routes: Sequence[Route] = ROUTES,
    open_routes: Sequence[OpenRoute] = OPEN_ROUTES,
) -> QuartTrio:
    """An ASGI application that answers these rows, and describes them."""
    app = QuartTrio(__name__, static_folder=None)
    app.request_class = _Request
    app.config["MAX_CONTENT_LENGTH"] = front.limits.body_bytes_max
    app.config["BODY_TIMEOUT"] = front.limits.body_s
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = True
    app.url_map.converters["name"] = _NameConverter
    described_at = front.gateway.clock.moment().at
    for open_row in (*open_routes, *wellknown_routes(routes, open_routes, described_at)):
        _add(app, open_row.method, open_row.path, open_row.name, _open_view(front, open_row))
    for row in routes:
        _add(app, row.method, row.base + row.path, row.name, _view(front, row))
    app.before_websocket(_refuse_repeated)
    app.register_error_handler(Exception, _on_error)
    if front.cors.origins:
        app.before_request(_preflight(front.cors))
    app.after_request(_told_of(front.cors))
    return app


class _NameConverter(BaseConverter):
    """One path segment without a colon, which begins a verb (`/jobs/{jobId}:cancel`)."""

    regex = "[^/:]+"


class _Body(TrioBody):
    """Counts what arrives; keeps no more than the limit, and says so at the end (I4)."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        self._bytes_max = max_content_length or 0
        drained_max = self._bytes_max * _DRAINED_MAX
        super().__init__(expected_content_length, drained_max)
        self._drained_max = drained_max
        self._received = 0

    def append(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= self._bytes_max:
            self._data.extend(data)
            return
        self._data.clear()
        if self._received > self._drained_max:
            self.set_complete()

    def set_complete(self) -> None:
        if self._received > self._bytes_max:
            self._must_raise = RequestEntityTooLarge()
        super().set_complete()


class _Request(TrioRequest):
    body_class = _Body


class _StreamBody(ResponseBody):
    def __init__(self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> None:
        self._opened = opened

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return await self._opened.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(exc_type, exc_value, tb)


def _add(app: QuartTrio, method: str, path: str, name: str, view: View) -> None:
    rule = path.replace("{", "<name:").replace("}", ">")
    app.add_url_rule(
        rule, endpoint=name, view_func=view, methods=[method], provide_automatic_options=False
    )


def _open_view(front: Front, row: OpenRoute) -> View:
    async def view() -> Response:
        return _response(await row.handler(front))

    return view


def _view(front: Front, row: Route) -> View:
    admission = Admission(front, row)

    async def view(**path: str) -> Response:
        refuse_repeated(request.headers.keys())
        call = await admission.admit(
            request.headers.get,
            path,
            request.path,
            request.query_string,
            _read_body,
            trace_id_of(request.headers.get),
            partial(_charge, front),
        )
        answer = await row.handler(call)
        if isinstance(answer, StreamAnswer) and request.method == "HEAD":
            answer = Answer(b"", headers=answer.headers, media_type=answer.media_type)
        return _response(answer)

    return view


def _charge(front: Front, identity: Identity, tenant_id: str) -> None:
    mono = front.gateway.clock.moment().mono
    g.verdict = front.gate.take(identity.token_id or identity.subject, tenant_id, mono)
    if not g.verdict.granted:
        raise refusal_of(g.verdict, "requests")


def _preflight(cors: Cors) -> Callable[[], Awaitable[Response | None]]:
    async def answer() -> Response | None:
        granted = cors.preflight(request.headers.get) if request.method == "OPTIONS" else None
        return None if granted is None else _response(Answer(b"", 204, headers=granted))

    return answer


def _told_of(cors: Cors) -> Callable[[Response], Awaitable[Response]]:
    """What depends on the request: limits, and who may read the answer."""

    async def told(response: Response) -> Response:
        verdict = g.get("verdict")
        if verdict is not None:
            response.headers.update(headers_of(verdict))
        response.headers.update(cors.headers(request.headers.get))
        return response

    return told


async def _refuse_repeated() -> None:
    refuse_repeated(websocket.headers.keys())


async def _read_body() -> bytes:
    data = await request.get_data(cache=False)
    assert isinstance(data, bytes)
    return data


def _response(answer: Answer | StreamAnswer) -> Response:
    headers = {**SECURITY_HEADERS, "X-JobEngine-Version": __version__, **answer.headers}
    if isinstance(answer, Answer):
        return Response(answer.body, answer.status, headers, content_type=answer.media_type)
    response = Response(_StreamBody(answer.open()), 200, headers, content_type=answer.media_type)
    response.timeout = None
    return response


async def _on_error(error: Exception) -> Response:
    asked = request if has_request_context() else websocket
    trace_id = trace_id_of(asked.headers.get)
    match error:
        case RefusedError():
            return _response(error_answer(error.refusal, trace_id))
        case UnavailableError():
            return _response(unavailable_answer(error, trace_id))
        case StoreUnavailable():
            refusal = Refusal(
                ErrorCode.STORE_UNAVAILABLE, "the database does not answer; retry later"
            )
            return _response(error_answer(refusal, trace_id))
        case HTTPException() if error.code is not None and error.code < 500:
            kept = {name: value for name, value in error.get_headers() if name == "Allow"}
            return _response(framework_refusal(error.code, trace_id, kept))
    _log.error("http_request_failed", trace_id=trace_id, path=asked.path, exc_info=error)
    refusal = Refusal(
        ErrorCode.INTERNAL, "the request failed inside the engine; its log has this traceId"
    )
    return _response(error_answer(refusal, trace_id))
