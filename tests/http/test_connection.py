"""HTTP/1.1 over a real socket: what is said to good requests, bad ones, and to none at all."""

import contextlib
from typing import Any

import msgspec
import pytest
import trio

from tests.http.conftest import Rest
from tests.http.test_server import GET, UPGRADE, closed_by_server, hello, serving

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, in as many messages as it came in."""
    messages = [await receive()]
    while messages[-1]["more_body"]:
        messages.append(await receive())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for message in messages:
        await send({**message, "type": "http.response.body"})


async def tell(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was told of the request."""
    told = f"{scope['method']} {scope['path']} {scope['raw_path']!r} {scope['query_string']!r}"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def refusal_in(said: bytes, status: int, code: str) -> dict[str, str]:
    """The headers of a refusal, after checking that it is the one envelope with all its headers."""
    head, _, body = said.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    assert line.startswith(f"HTTP/1.1 {status} "), said
    headers = dict(each.split(": ", 1) for each in lines)
    assert int(headers["content-length"]) == len(body)
    error = msgspec.json.decode(body)["error"]
    assert sorted(error) == ["code", "message", "traceId"]
    assert error["code"] == code
    assert len(error["traceId"]) == 32
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    assert {"date", "x-jobengine-version", "x-content-type-options"} <= set(headers)
    assert "strict-transport-security" not in headers
    return headers


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "REQUEST_MALFORMED"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, "REQUEST_MALFORMED"),
        (POST + b"Expect: miracles\r\n\r\n", 417, "EXPECTATION_FAILED"),
        (GET[:-2] + b"X: " + b"x" * 9_000, 431, "HEADERS_TOO_LARGE"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 501, "NOT_IMPLEMENTED"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED"),
    ],
)
async def test_what_is_no_request_is_told_so_in_the_envelope(
    shared: Rest, data: bytes, status: int, code: str
) -> None:
    refusal_in(await shared.raw(data), status, code)


async def test_a_body_that_is_no_body_is_refused_in_the_envelope() -> None:
    broken = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n"
    async with serving(echo) as served, await served.connect(broken) as stream:
        refusal_in(await closed_by_server(stream), 400, "REQUEST_MALFORMED")


async def test_a_handshake_that_cannot_be_answered_is_refused_in_the_envelope(rest: Rest) -> None:
    outdated = await rest.raw(UPGRADE.replace(b"Version: 13", b"Version: 8"))
    headers = refusal_in(outdated, 400, "REQUEST_MALFORMED")
    assert headers["sec-websocket-version"] == "13"
    refusal_in(await rest.raw(UPGRADE + b"x"), 400, "REQUEST_MALFORMED")


@pytest.mark.parametrize("twice", [b"", b"Connection: keep-alive\r\n", b"Upgrade: h2c\r\n"])
async def test_a_handshake_where_no_websocket_is_gets_its_answer_and_ends_its_connection(
    rest: Rest, twice: bytes
) -> None:
    said = await rest.raw(UPGRADE.replace(b"Upgrade: web", twice + b"Upgrade: web"))
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in said
    missing = await rest.raw(UPGRADE.replace(b"/livez", b"/nothing"))
    assert missing.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nconnection: close\r\n" in missing


async def test_trailers_without_end_are_refused_in_the_envelope() -> None:
    async with serving(echo, head_bytes_max=4_096) as served:
        asked = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: "
        async with await served.connect(asked) as stream:

            async def send() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while True:
                        await stream.send_all(b"x" * 1_000)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                said = await closed_by_server(stream)
                nursery.cancel_scope.cancel()
        refusal_in(said, 431, "HEADERS_TOO_LARGE")


async def test_headers_that_do_not_come_are_refused_and_a_quiet_connection_is_closed() -> None:
    async with serving(hello, head_s=0.05, idle_s=60.0) as served:
        async with await served.connect(GET[:-4]) as stream:
            refusal_in(await closed_by_server(stream), 408, "REQUEST_TIMEOUT")
        async with await served.connect(GET) as stream:
            assert b"hello" in await stream.receive_some()
            await stream.send_all(GET[:5])
            refusal_in(await closed_by_server(stream), 408, "REQUEST_TIMEOUT")
    async with serving(hello, idle_s=0.05) as served, await served.connect(b"") as stream:
        assert await closed_by_server(stream) == b""


async def test_good_requests_before_a_bad_one_are_answered_first() -> None:
    async with serving(hello) as served, await served.connect(GET + GET + b"oops\r\n") as stream:
        said = await closed_by_server(stream)
    first, second, bad = said.split(b"HTTP/1.1 ")[1:]
    assert first.endswith(b"hello")
    assert second.endswith(b"hello")
    refusal_in(b"HTTP/1.1 " + bad, 501, "NOT_IMPLEMENTED")


async def test_bodies_come_as_they_were_sent_and_the_connection_goes_on() -> None:
    sized = POST + b"Content-Length: 3\r\n\r\nabc"
    chunks = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
    async with serving(echo) as served, await served.connect(sized) as stream:
        assert (await stream.receive_some()).endswith(b"content-length: 3\r\n\r\nabc")
        for byte in chunks:
            await stream.send_all(bytes([byte]))
        said = b""
        while not said.endswith(b"0\r\n\r\n"):
            said += await stream.receive_some()
        assert b"transfer-encoding: chunked" in said
        await stream.send_all(CLOSE)
        assert b"connection: close" in await closed_by_server(stream)


async def test_continue_is_said_when_the_body_is_asked_for_and_only_then() -> None:
    asks = POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving(echo) as served:
        async with await served.connect(asks) as stream:
            assert await stream.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await stream.send_all(b"abc")
            assert (await stream.receive_some()).endswith(b"abc")
        async with await served.connect(asks + b"abc") as stream:
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 OK")
    async with serving(hello) as served, await served.connect(asks) as stream:
        said = await closed_by_server(stream)
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in said


async def test_a_refusal_is_read_also_by_a_client_that_is_still_sending() -> None:
    async with serving(hello) as served:
        for _ in range(5):
            stream = await served.connect(POST + b"Content-Length: 900000\r\n\r\n")
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(_send_quietly, stream, b"x" * 900_000)
                assert (await closed_by_server(stream)).endswith(b"hello")
                nursery.cancel_scope.cancel()


async def _send_quietly(stream: trio.SocketStream, data: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(data)


async def test_a_client_of_http_1_0_and_one_that_asks_for_the_head_are_understood() -> None:
    async with serving(echo) as served:
        old = await served.connect(b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\na")
        async with old:
            said = await closed_by_server(old)
            assert said.endswith(b"\r\n\r\na")
            assert b"chunked" not in said
    both = GET.replace(b"GET", b"HEAD") + CLOSE
    async with serving(tell) as served, await served.connect(both) as stream:
        first, second = (await closed_by_server(stream)).split(b"HTTP/1.1 200 OK")[1:]
        assert b"content-length: 15" in first
        assert first.endswith(b"\r\n\r\n")
        assert second.endswith(b"GET / b'/' b''")


async def test_a_path_is_told_as_sent_and_decoded() -> None:
    line = b"GET http://x/a%2Fb%20c?d=%20 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with serving(tell) as served, await served.connect(line) as stream:
        said = await closed_by_server(stream)
        assert said.endswith(b"GET /a/b c b'/a%2Fb%20c' b'd=%20'")


async def test_an_offer_of_another_protocol_is_passed_over_with_its_body() -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
    async with serving(echo) as served:
        asked = POST + offer + b"Content-Length: 3\r\n\r\nabc" + CLOSE
        async with await served.connect(asked) as stream:
            said = await closed_by_server(stream)
            assert said.count(b"HTTP/1.1 200 OK") == 2
            assert b"\r\n\r\nabcHTTP" in said


async def test_a_failing_application_is_500_in_the_envelope_or_a_cut_response() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if scope["path"] == "/silent":
            return
        if scope["path"] == "/split":
            headers = [(b"location", b"/a\r\nset-cookie: b")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        raise LookupError("the inside")

    async with serving(fails) as served:
        for path in (b"/", b"/silent", b"/split"):
            async with await served.connect(GET.replace(b"/ ", path + b" ")) as stream:
                said = await closed_by_server(stream)
                refusal_in(said, 500, "INTERNAL")
                assert b"inside engine" not in said
                assert b"set-cookie" not in said
        async with await served.connect(GET.replace(b"/ ", b"/late ")) as stream:
            assert (await closed_by_server(stream)).endswith(b"5\r\nbegun\r\n")


async def test_a_client_that_goes_is_told_to_the_application_with_what_it_had_sent() -> None:
    heard: list[Any] = []
    ended = trio.Event()

    async def listens(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([await receive(), await receive()])
        ended.set()

    async with serving(listens) as served:
        stream = await served.connect(POST + b"Content-Length: 2\r\n\r\nab" + GET)
        await stream.aclose()
        with trio.fail_after(15):
            await ended.wait()
    assert heard[0] == {"type": "http.request", "body": b"ab", "more_body": False}


async def test_a_connection_serves_its_number_of_requests() -> None:
    two = serving(hello, requests_per_connection_max=2)
    async with two as served, await served.connect(GET * 3) as stream:
        said = await closed_by_server(stream)
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.count(b"connection: close") == 1
