"""The client's frame reader and writer: against another implementation, in any pieces, and against
what a server must not send."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Pong, TextMessage
from wsproto.frame_protocol import FrameProtocol

from jobengine.sdk.websocket_frames import (
    CLOSED_WITHOUT_CODE,
    CloseFrame,
    Event,
    FrameReader,
    Ping,
    Violation,
    close_frame,
    pong_frame,
    text_frame,
)

LIMIT = 100_000

messages = st.one_of(st.text(max_size=300), st.binary(max_size=300), st.just("x" * 70_000))


def read(*pieces: bytes, limit: int = LIMIT) -> list[Event]:
    reader = FrameReader(limit)
    return [event for piece in pieces for event in reader.feed(piece)]


@settings(max_examples=50)
@given(st.lists(st.tuples(messages, st.integers(0, 3)), max_size=6), st.data())
def test_whatever_another_implementation_sends_is_read_in_any_pieces(
    said: list[tuple[str | bytes, int]], data: st.DataObject
) -> None:
    server = FrameProtocol(client=False, extensions=[])
    sent = bytearray()
    wanted: list[Event] = []
    for message, cuts in said:
        for n in range(cuts):
            part = message[n : n + 1]
            sent += server.send_data(part, fin=False)
            sent += server.ping(b"%d" % n)
            wanted.append(Ping(b"%d" % n))
        sent += server.send_data(message[cuts:], fin=True)
        wanted.append(message)
    sent += server.close(1000, "enough")
    wanted.append(CloseFrame(1000, "enough"))
    cuts_at = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    edges = [0, *cuts_at, len(sent)]
    pieces = [bytes(sent[a:b]) for a, b in pairwise(edges)]
    assert read(*pieces) == wanted


@settings(max_examples=50)
@given(st.lists(st.one_of(st.text(max_size=300), st.just("x" * 70_000)), max_size=4))
def test_what_is_written_another_implementation_reads(texts: list[str]) -> None:
    server = Connection(ConnectionType.SERVER)
    for text in texts:
        server.receive_data(text_frame(text))
    server.receive_data(pong_frame(b"p"))
    server.receive_data(close_frame(1002, "é" * 100))
    heard: list[str] = []
    part = ""
    for event in server.events():
        match event:
            case TextMessage():
                part += event.data
                if event.message_finished:
                    heard.append(part)
                    part = ""
            case Pong():
                assert event.payload == b"p"
            case CloseConnection():
                assert (event.code, event.reason) == (1002, "é" * 61)
    assert heard == texts


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\xc1\x00", 1002),  # a reserved bit
        (b"\x83\x00", 1002),  # a reserved opcode
        (b"\x81\x81abcdx", 1002),  # masked
        (b"\x89\x7e\x00\x7e" + bytes(126), 1002),  # a long ping
        (b"\x09\x00", 1002),  # a ping in fragments
        (b"\x80\x00", 1002),  # the end of nothing
        (b"\x01\x01a\x81\x01b", 1002),  # a message within a message
        (b"\x88\x01\x03", 1002),  # half a close code
        (b"\x81\x01\xff", 1007),
        (b"\x01\x01\xc3\x80\x01a", 1007),
        (b"\x82\x7f" + (LIMIT + 1).to_bytes(8, "big"), 1009),
    ],
)
def test_a_server_that_breaks_the_protocol_is_told_how_and_not_read_any_more(
    sent: bytes, code: int
) -> None:
    *before, last = read(b"\x81\x02ok", sent, b"\x81\x02no")
    assert before == ["ok"]
    assert isinstance(last, Violation)
    assert last.code == code


def test_fragments_over_the_limit_together_are_refused() -> None:
    [violation] = read(b"\x01\x03abc", b"\x80\x03def", limit=5)
    assert isinstance(violation, Violation)
    assert violation.code == 1009


def test_a_close_without_a_code_is_read_and_written() -> None:
    assert read(b"\x88\x00") == [CloseFrame(CLOSED_WITHOUT_CODE, "")]
    assert len(close_frame(CLOSED_WITHOUT_CODE)) == 6


@given(st.binary(max_size=200))
def test_noise_never_raises(noise: bytes) -> None:
    read(noise, noise)
