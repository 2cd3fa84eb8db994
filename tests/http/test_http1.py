"""Requests out of bytes: however they are cut, and whatever is wrong with them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.http.http1 import END, Broken, End, Event, Head, RequestReader, response_head

HOST = b"Host: x\r\n"
POST = b"POST /a?b=c HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def read(*parts: bytes, head_bytes_max: int = 4_096) -> list[Event]:
    reader = RequestReader(head_bytes_max)
    for part in parts:
        reader.feed(part)
    return list(reader.events)


def told(events: list[Event]) -> list[object]:
    """Events with each body in one piece."""
    found: list[object] = []
    for event in events:
        if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += event
        else:
            found.append("end" if isinstance(event, End) else event)
    return found


def head_of(data: bytes) -> Head:
    head = read(data)[0]
    assert isinstance(head, Head), head
    return head


def status_of(data: bytes, **limits: int) -> int:
    broken = read(data, **limits)[-1]
    assert isinstance(broken, Broken), broken
    return broken.status


def test_a_head_names_its_parts() -> None:
    head = head_of(POST + b"X-A:  b \t\r\nContent-Length: 3\r\n\r\nabc")
    assert (head.method, head.target, head.version) == ("POST", b"/a?b=c", "1.1")
    assert head.headers == [(b"host", b"x"), (b"x-a", b"b"), (b"content-length", b"3")]
    assert (head.length, head.keeps_alive, head.upgrades) == (3, True, False)


ONE = POST + b"Content-Length: 3\r\n\r\nabc"
TWO = CHUNKED + b"2;x=y\r\nde\r\n1\r\nf\r\n0\r\nTrailer: t\r\n\r\n"
H2C = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\ngh"
THREE = b"\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


@given(st.lists(st.integers(0, len(ONE + TWO + H2C + THREE)), max_size=12))
def test_where_bytes_are_cut_changes_nothing(cuts: list[int]) -> None:
    data = ONE + TWO + H2C + THREE
    at = [0, *sorted(cuts), len(data)]
    parts = [data[begin:end] for begin, end in itertools.pairwise(at)]
    events = told(read(*parts))
    assert [one for one in events if not isinstance(one, Head)] == [
        b"abc", "end", b"def", "end", b"gh", "end", "end"
    ]  # fmt: skip
    heads = [one for one in events if isinstance(one, Head)]
    assert [(one.method, one.version, one.length) for one in heads] == [
        ("POST", "1.1", 3),
        ("POST", "1.1", None),
        ("POST", "1.1", 2),
        ("GET", "1.0", 0),
    ]
    assert all(
        name not in (b"trailer", b"upgrade") for one in heads for name, _ in one.headers[1:3]
    )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 501),
        (b"FOO / HTTP/1.1\r\n\r\n", 501),
        (b"\x16\x03\x01\x02\x00", 501),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: \x00\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"GET ftp://x/ HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        (POST + b"Content-Length: +1\r\n\r\na", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (CHUNKED + b"zz\r\n", 400),
        (CHUNKED + b"1\r\nab\r\n", 400),
        (POST + b"Expect: 200-ok\r\n\r\n", 417),
        (UPGRADE.replace(b"13", b"8"), 400),
        (UPGRADE.replace(b"Key", b"Kee"), 400),
        (UPGRADE + b"x", 400),
        (UPGRADE[:-2] + b"Content-Length: 1\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_nothing_behind_it_is_read(
    data: bytes, status: int
) -> None:
    assert status_of(data + ONE) == status


def test_a_head_is_bounded_whether_it_ends_or_not() -> None:
    long = b"X: " + b"x" * 300
    for data in (
        POST + long,
        POST + long + b"\r\n\r\n",
        b"GET /" + b"x" * 300,
        CHUNKED + b"0\r\n" + long + b"\r\n\r\n",
    ):
        assert status_of(data, head_bytes_max=200) == 431
    drop_by_drop = [bytes([one]) for one in POST + long]
    broken = read(*drop_by_drop, head_bytes_max=200)[-1]
    assert isinstance(broken, Broken)
    assert broken.status == 431


def test_trailers_that_do_not_end_are_bounded_and_bodies_are_not() -> None:
    endless = [CHUNKED, b"0\r\nX: ", *[b"x" * 100] * 3]
    assert isinstance(read(*endless[:-2], head_bytes_max=200)[-1], Head)
    for parts in (endless, [CHUNKED, b"1\r\na\r\n0\r\n", *[b"X: y\r\n"] * 50]):
        broken = read(*parts, head_bytes_max=200)[-1]
        assert isinstance(broken, Broken)
        assert broken.status == 431
    # The sizes of chunks that come by themselves do not add up.
    data = read(CHUNKED, *[b"1\r\n", b"a\r\n"] * 200, b"0\r\n\r\n" + ONE, head_bytes_max=200)
    assert told(data)[1:3] == [b"a" * 200, "end"]
    assert data[-1] is END


def test_a_body_does_not_count_as_a_part_of_the_next_head() -> None:
    body = b"x" * 3_000
    data = POST + b"Content-Length: 3000\r\n\r\n" + body + POST[:10]
    assert told(read(data, head_bytes_max=200))[1:] == [body, "end"]


def test_absolute_targets_lose_their_host() -> None:
    for target, path in (
        (b"http://h/a?b", b"/a?b"),
        (b"HTTP://h", b"/"),
        (b"https://h?b=/c", b"/?b=/c"),
        (b"*", b"*"),
    ):
        assert head_of(b"OPTIONS " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n").target == path


def test_only_a_handshake_upgrades_and_nothing_follows_it() -> None:
    for asked in (UPGRADE, UPGRADE.replace(b"Upgrade:", b"Connection: keep-alive\r\nUpgrade:")):
        [head, end] = read(asked, ONE)
        assert isinstance(head, Head)
        assert (head.upgrades, head.keeps_alive) == (True, False)
        assert end is END


@pytest.mark.parametrize("twice", [b"Version: 13", b"Key: AAAAAAAAAAAAAAAAAAAAAA=="])
def test_a_handshake_gives_its_key_and_its_version_once(twice: bytes) -> None:
    assert status_of(UPGRADE[:-2] + b"Sec-WebSocket-" + twice + b"\r\n\r\n") == 400


def test_a_connection_is_kept_as_its_version_has_it() -> None:
    for line, kept in (
        (b"", True),
        (b"Connection: close\r\n", False),
        (b"Connection: x, Close\r\n", False),
    ):
        assert head_of(b"GET / HTTP/1.1\r\n" + HOST + line + b"\r\n").keeps_alive is kept
    assert not head_of(b"GET / HTTP/1.0\r\n\r\n").keeps_alive
    assert read(b"GET / HTTP/1.0\r\n\r\n")[-1] is END


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: b", b"a\nb", b"a\rb"])
def test_a_response_header_cannot_hold_a_line_break(value: bytes) -> None:
    assert response_head(200, [(b"x", b"y")]) == b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n"
    with pytest.raises(ValueError, match="line break"):
        response_head(200, [(b"x", value)])
