"""Makes the rows of the route table answer; the one file that knows the web framework.

I1  Every response, whoever made it, carries `X-JobEngine-Version`, and every error the envelope.
I2  What nobody foresaw is logged once, under the trace id that the client gets, and shows nothing
    of the inside.
I3  Every response states what a browser may do with it (`security`), and every one to a verified
    token how near its limit that is, and the load where new work is asked for.

Not here: what a row demands (`admission`), how a body arrives (`bodies`), what the answer looks
like (`rendering`), rows that are answered before the framework (`direct`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

import structlog
from quart import Response, g, request
from quart.routing import QuartRule
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from jobengine.auth.tokens import Identity
from jobengine.http.admission import Admission, SignedAdmission, trace_id_of
from jobengine.http.answer import Answer, AnyAnswer, StreamAnswer
from jobengine.http.bodies import Body, BodyConnection, BodyRequest
from jobengine.http.callbacks import CallbackPlace
from jobengine.http.errors import answer_to, framework_refusal, internal_answer
from jobengine.http.front import Front
from jobengine.http.limits import headers_of, headers_of_load, refusal_of
from jobengine.http.representation import is_unmodified
from jobengine.http.route import OpenRoute, Route, SignedRoute
from jobengine.http.routes.wellknown import wellknown_routes
from jobengine.http.security import Cors, standing_headers
from jobengine.http.single_headers import refuse_repeated
from jobengine.http.table import OPEN_ROUTES, ROUTES, SIGNED_ROUTES

__all__ = ["create_app"]

_log = structlog.get_logger("jobengine.http")

View = Callable[..., Awaitable[Response]]
Respond = Callable[[AnyAnswer], Response]


def create_app(
    front: Front,
    routes: Sequence[Route] = ROUTES,
    open_routes: Sequence[OpenRoute] = OPEN_ROUTES,
    signed_routes: Sequence[SignedRoute] = SIGNED_ROUTES,
) -> QuartTrio:
    """An ASGI application that answers these rows, and describes them."""
    app = QuartTrio(__name__, static_folder=None)
    app.url_rule_class = _Rule
    app.request_class = BodyRequest
    app.asgi_http_class = BodyConnection
    app.config["MAX_CONTENT_LENGTH"] = front.limits.body_bytes_max
    app.config["BODY_TIMEOUT"] = front.limits.body_s
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = True
    app.url_map.converters["name"] = _NameConverter
    app.url_map.converters["coloned"] = _ColonedConverter
    respond = partial(_response, standing_headers(tls=front.tls))
    described_at = front.gateway.clock.moment().at
    described = wellknown_routes(routes, open_routes, signed_routes, described_at)
    for open_row in (*open_routes, *described):
        _add(
            app, open_row.method, open_row.path, open_row.name, _open_view(front, open_row, respond)
        )
    for signed_row in signed_routes:
        view = _signed_view(front, signed_row, respond)
        _add(app, signed_row.method, signed_row.base + signed_row.path, signed_row.name, view)
    for row in routes:
        _add(app, row.method, row.base + row.path, row.name, _view(front, row, respond))
    app.register_error_handler(Exception, _on_error(respond))
    if front.cors.origins:
        app.before_request(_preflight(front.cors, respond))
    app.after_request(_told_of(front))
    return app


class _Rule(QuartRule):
    """No URL is made from it. What would make one is code that werkzeug compiles for every rule,
    which is most of what an application costs to make."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _no_url


def _no_url(*_: object, **__: object) -> tuple[str, str]:
    raise AssertionError("no URL is made from a rule; see _Rule")


class _NameConverter(BaseConverter):
    """One path segment without a colon, which begins a verb (`/jobs/{jobId}:cancel`)."""

    regex = "[^/:]+"


class _ColonedConverter(BaseConverter):
    """One path segment whose value may have colons of its own (`sha256:…`); the last one in the
    path begins a verb, where there is one."""

    regex = "[^/]+"


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
    rule = path.replace("{digest}", "<coloned:digest>").replace("{queue}", "<coloned:queue>")
    rule = rule.replace("{place}", "<path:place>")
    rule = rule.replace("{", "<name:").replace("}", ">")
    app.add_url_rule(
        rule, endpoint=name, view_func=view, methods=[method], provide_automatic_options=False
    )


def _open_view(front: Front, row: OpenRoute, respond: Respond) -> View:
    async def view(**path: str) -> Response:
        return respond(_unless_known(await row.handler(front, **path)))

    return view


def _unless_known(answer: Answer) -> Answer:
    """Without its body where the client has that already (RFC 9110 §13.1.2)."""
    tag, known = answer.headers.get("ETag"), request.headers.get("If-None-Match")
    if tag is None or known is None or not is_unmodified({"If-None-Match": known}, tag.strip('"')):
        return answer
    return Answer(b"", 304, headers=answer.headers, media_type=answer.media_type)


def _view(front: Front, row: Route, respond: Respond) -> View:
    admission = Admission(front, row)

    async def view(**path: str) -> Response:
        g.creates_work = row.creates_work
        refuse_repeated(request.headers.keys())
        call = await admission.admit(
            request.headers.get,
            path,
            request.path,
            request.query_string,
            _read_body,
            trace_id_of(request.headers.get),
            partial(_charge, front),
            partial(_read_chunk, front.limits.body_s),
        )
        return respond(await row.handler(call))

    return view


def _signed_view(front: Front, row: SignedRoute, respond: Respond) -> View:
    admission = SignedAdmission(front, row)

    async def view(token: str) -> Response:
        g.creates_work = False
        refuse_repeated(request.headers.keys())
        call = await admission.admit(
            request.headers.get, token, _read_body, partial(_charge_place, front)
        )
        return respond(await row.handler(call))

    return view


def _charge(front: Front, identity: Identity, tenant_id: str) -> None:
    _count(front, identity.token_id or identity.subject, tenant_id)


def _charge_place(front: Front, place: CallbackPlace) -> None:
    _count(front, f"{place.run_id}/{place.key}", place.tenant_id)


def _count(front: Front, bearer: str, tenant_id: str) -> None:
    g.verdict = front.gate.take(bearer, tenant_id, front.gateway.clock.moment().mono)
    if not g.verdict.granted:
        raise refusal_of(g.verdict, "requests")


def _preflight(cors: Cors, respond: Respond) -> Callable[[], Awaitable[Response | None]]:
    async def answer() -> Response | None:
        granted = cors.preflight(request.headers.get) if request.method == "OPTIONS" else None
        return None if granted is None else respond(Answer(b"", 204, headers=granted))

    return answer


def _told_of(front: Front) -> Callable[[Response], Awaitable[Response]]:
    """What depends on the request: limits, load, and who may read the answer."""

    async def told(response: Response) -> Response:
        verdict = g.get("verdict")
        if verdict is not None:
            response.headers.update(headers_of(verdict))
            if g.creates_work:
                response.headers.update(headers_of_load(front.gateway.load))
        response.headers.update(front.cors.headers(request.headers.get))
        return response

    return told


async def _read_chunk(within_s: float, size: int) -> bytes:
    body = request.body
    assert isinstance(body, Body)
    return await body.chunk(size, within_s)


async def _read_body() -> bytes:
    data = await request.get_data(cache=False)
    assert isinstance(data, bytes)
    return data


def _response(standing: dict[str, str], answer: AnyAnswer) -> Response:
    headers = {**standing, **answer.headers}
    if isinstance(answer, Answer):
        return Response(answer.body, answer.status, headers, content_type=answer.media_type)
    # What a stream would say takes opening it; its headers do not, its length among them. Of a live
    # one nothing but the headers is ever asked for here.
    body: bytes | _StreamBody = b""
    if isinstance(answer, StreamAnswer) and request.method != "HEAD":
        body = _StreamBody(answer.open())
    response = Response(body, answer.status, headers, content_type=answer.media_type)
    response.headers.update(answer.headers)
    response.timeout = None
    return response


def _on_error(respond: Respond) -> Callable[[Exception], Awaitable[Response]]:
    async def answer(error: Exception) -> Response:
        trace_id = trace_id_of(request.headers.get)
        foreseen = answer_to(error, trace_id)
        if foreseen is not None:
            return respond(foreseen)
        if isinstance(error, HTTPException) and error.code is not None and error.code < 500:
            kept = {name: value for name, value in error.get_headers() if name == "Allow"}
            return respond(framework_refusal(error.code, trace_id, kept))
        _log.error("http_request_failed", trace_id=trace_id, path=request.path, exc_info=error)
        return respond(internal_answer(trace_id))

    return answer
