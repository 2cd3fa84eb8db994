"""Answers the rows that are asked most often, and those that are streams, in front of the web
framework, as plain ASGI.

What a framework does for a request (its objects, its contexts, a task for the body and one for the
view) costs more than everything that these rows need, and would stay for as long as a stream lasts.
They are read from the same table and pass the same `Admission`; which way a row takes changes its
cost and nothing that a client can see.

I1  A request is answered here when its method and its path, as it was sent, are those of a row that
    is `direct`, or when it is a GET, or a WebSocket handshake, of a row that is a stream. So is the
    handshake of a worker (`worker_path`). Whatever else there is goes on to the framework: other
    spellings of a direct path, other methods, preflights.
I2  As `app`: every answer carries the standing headers, the limits, the load and what CORS says;
    the body is read to its end or to `DRAINED_MAX` times its limit before it is refused.
I3  What refuses a stream is the same answer over HTTP and to a handshake, before the stream begins.
I4  A stream that was taken up and cannot be handed over is left.

Not here: rows that wait for long, and so have to notice that their client has gone (`app`), the
life of a stream (`streams`).
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import structlog
import trio

from jobengine.auth.tokens import Identity
from jobengine.core.request_limit import Verdict
from jobengine.http.admission import Admission, trace_id_of
from jobengine.http.answer import Answer, LiveAnswer, LiveStream, encoded, sent_whole
from jobengine.http.connection import HANDSHAKE
from jobengine.http.errors import answer_to, framework_refusal, internal_answer
from jobengine.http.front import Front, FrontLimits
from jobengine.http.hand_over import HAND_OVER
from jobengine.http.limits import headers_of, headers_of_load, refusal_of
from jobengine.http.route import BASE, Call, Route
from jobengine.http.security import standing_headers
from jobengine.http.single_headers import refuse_repeated
from jobengine.http.streams import EVENT_STREAM
from jobengine.http.streams.handshake import Handshake
from jobengine.http.worker_path import WEBSOCKET_PATH, WorkerPath

__all__ = ["DRAINED_MAX", "DirectFirst"]

DRAINED_MAX: Final = 4
"""Times the limit of a body that are read before it is refused, so that a client that is still
sending reads the refusal instead of a broken connection."""

AsgiApp = Callable[..., Awaitable[Any]]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = structlog.get_logger("jobengine.http")


class DirectFirst:
    """An application that answers some of these rows itself, `workers` where they are let in here,
    and hands on the rest."""

    def __init__(
        self,
        front: Front,
        rows: Sequence[Route],
        framework: AsgiApp,
        workers: WorkerPath | None = None,
    ) -> None:
        self._framework = framework
        self._workers = workers
        self._views = {
            (row.method, (row.base + row.path).encode()): _View(front, row)
            for row in rows
            if row.direct
        }
        self._streams = [
            (_pattern(row), _StreamView(front, row))
            for row in rows
            if row.media_type == EVENT_STREAM
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        view, path = self._view(scope)
        if view is not None:
            await view.answer(scope, path, receive, send)
        elif self._workers is not None and _is_worker(scope):
            await self._workers.answer(scope, send)
        else:
            await self._framework(scope, receive, send)

    def _view(self, scope: Scope) -> "tuple[_View | None, dict[str, str]]":
        view = self._views.get((scope["method"], scope["raw_path"]))
        if view is None and scope["method"] == "GET":
            for pattern, stream in self._streams:
                if match := pattern.fullmatch(scope["path"]):
                    return stream, match.groupdict()
        return view, {}


def _is_worker(scope: Scope) -> bool:
    return HANDSHAKE in scope["extensions"] and scope["path"] == BASE + WEBSOCKET_PATH


def _pattern(row: Route) -> re.Pattern[str]:
    """What the framework's rule for the row matches."""
    parts = re.split(r"\{(\w+)\}", row.base + row.path)
    texts = [re.escape(text) for text in parts]
    texts[1::2] = [f"(?P<{name}>[^/:]+)" for name in parts[1::2]]
    return re.compile("".join(texts))


class _GoneError(Exception):
    """The client went before its body was complete."""


class _UnreadError(Exception):
    """The body is too large (413), or does not come (408)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Begun(NamedTuple):
    """A stream that is taken up and has not been answered yet."""

    live: LiveAnswer
    stream: LiveStream
    handshake: Handshake | None


class _View:
    """One row."""

    def __init__(self, front: Front, row: Route) -> None:
        self._front = front
        self._row = row
        self._admission = Admission(front, row)
        self._standing = encoded(standing_headers(tls=front.tls))

    async def answer(
        self, scope: Scope, path: dict[str, str], receive: Receive, send: Send
    ) -> None:
        """Answer one request; ``path`` has the values in it by name."""
        asked = _Asked(scope, path, receive)
        try:
            answer = await self._answer(asked)
        except _GoneError:
            return
        try:
            await self._send(answer, self._told(asked), send)
        except BaseException:
            if isinstance(answer, _Begun):
                answer.stream.leave()
            raise

    def _told(self, asked: "_Asked") -> dict[str, str]:
        told = self._front.cors.headers(asked.header)
        if asked.verdict is not None:
            told |= headers_of(asked.verdict)
            if self._row.creates_work:
                told |= headers_of_load(self._front.gateway.load)
        return told

    async def _send(self, answer: Answer | _Begun, told: dict[str, str], send: Send) -> None:
        assert isinstance(answer, Answer)
        headers = [*self._standing, *encoded(answer.headers | told)]
        for message in sent_whole(answer, headers):
            await send(message)

    async def _answer(self, asked: "_Asked") -> Answer | _Begun:
        trace_id = trace_id_of(asked.header)
        try:
            asked.refuse_repeated()
            return await self._ask(asked, trace_id)
        except _GoneError:
            raise
        except _UnreadError as unread:
            return framework_refusal(unread.status, trace_id, {})
        except Exception as error:  # noqa: BLE001 - whatever it is has one answer
            return self._failed(error, asked, trace_id)

    async def _ask(self, asked: "_Asked", trace_id: str) -> Answer | _Begun:
        answer = await self._row.handler(await self._admit(asked, trace_id))
        # A body that is made while it is sent needs somebody to notice that its reader has gone.
        assert isinstance(answer, Answer)
        return answer

    async def _admit(self, asked: "_Asked", trace_id: str) -> Call[Any, Any]:
        return await self._admission.admit(
            asked.header,
            asked.path,
            asked.scope["path"],
            asked.scope["query_string"],
            partial(_read_body, self._front.limits, asked.header("Content-Length"), asked.receive),
            trace_id,
            partial(self._charge, asked),
        )

    def _charge(self, asked: "_Asked", identity: Identity, tenant_id: str) -> None:
        mono = self._front.gateway.clock.moment().mono
        verdict = self._front.gate.take(identity.token_id or identity.subject, tenant_id, mono)
        asked.verdict = verdict
        if not verdict.granted:
            raise refusal_of(verdict, "requests")

    def _failed(self, error: Exception, asked: "_Asked", trace_id: str) -> Answer:
        answer = answer_to(error, trace_id)
        if answer is None:
            path = asked.scope["path"]
            _log.error("http_request_failed", trace_id=trace_id, path=path, exc_info=error)
            return internal_answer(trace_id)
        return answer


class _StreamView(_View):
    """One row that is a stream."""

    async def _ask(self, asked: "_Asked", trace_id: str) -> Answer | _Begun:
        handshake = None
        if HANDSHAKE in asked.scope["extensions"]:
            handshake = Handshake(asked.scope["headers"])
            asked.given.update(handshake.credentials)
        call = await self._admit(asked, trace_id)
        if handshake is not None:
            handshake.check()
        live = await self._row.handler(call)
        assert isinstance(live, LiveAnswer)
        return _Begun(live, live.begin(handshake is not None), handshake)

    async def _send(self, answer: Answer | _Begun, told: dict[str, str], send: Send) -> None:
        """Without a checkpoint where a stream has begun (`hand_over`, I1)."""
        if isinstance(answer, Answer):
            await super()._send(answer, told, send)
            return
        live, stream, handshake = answer
        status = live.status if handshake is None else 101
        headers = [*self._standing, *encoded(live.headers | told)]
        if handshake is None:
            headers.append((b"content-type", live.media_type.encode()))
        else:
            headers += handshake.answer_headers()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": HAND_OVER, "serve": stream.serve})


class _Asked:
    """One request: its headers by their lower-case names, and what was said of its limits."""

    def __init__(self, scope: Scope, path: dict[str, str], receive: Receive) -> None:
        self.scope = scope
        self.path = path
        self.receive = receive
        self.verdict: Verdict | None = None
        self.given: dict[str, str] = {}
        for name, value in scope["headers"]:
            self.given.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    def header(self, name: str) -> str | None:
        return self.given.get(name.lower())

    def refuse_repeated(self) -> None:
        headers = self.scope["headers"]
        if len(self.given) < len(headers):
            refuse_repeated(name.decode("latin-1") for name, _ in headers)


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
