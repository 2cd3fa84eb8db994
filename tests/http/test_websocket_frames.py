"""The frame reader: what it makes of valid frames in any pieces, and of everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Pong, TextMessage
from wsproto.frame_protocol import FrameProtocol

from jobengine.http.websocket_frames import (
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
KEY = b"\x01\x02\x03\x04"


def frame(first: int, payload: bytes = b"", *, key: bytes = KEY) -> bytes:
    """A masked frame with this first byte."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    masked = bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))
    return bytes((first,)) + length + key + masked


def read(*pieces: bytes, limit: int = LIMIT) -> list[Event]:
    reader = FrameReader(limit)
    return [event for piece in pieces for event in reader.feed(piece)]


messages = st.one_of(st.text(max_size=300), st.binary(max_size=300), st.just("x" * 70_000))


@given(st.lists(st.tuples(messages, st.integers(0, 3)), max_size=6), st.data())
def test_whatever_another_implementation_sends_is_read_in_any_pieces(
    said: list[tuple[str | bytes, int]], data: st.DataObject
) -> None:
    client = FrameProtocol(client=True, extensions=[])
    sent = bytearray()
    wanted: list[Event] = []
    for message, cuts in said:
        for n in range(cuts):
            part = message[n : n + 1]
            sent += client.send_data(part, fin=False)
            sent += client.ping(b"%d" % n)
            wanted.append(Ping(b"%d" % n))
        sent += client.send_data(message[cuts:], fin=True)
        wanted.append(message)
    sent += client.close(1001, "bye")
    wanted.append(CloseFrame(1001, "bye"))
    at = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [bytes(sent[a:b]) for a, b in zip([0, *at], [*at, len(sent)], strict=True)]
    assert read(*pieces) == wanted


def test_a_message_is_read_byte_by_byte() -> None:
    sent = frame(0x81, "grün".encode()) + frame(0x8A, b"pong") + frame(0x82, b"\xff" * 130)
    assert read(*(bytes((byte,)) for byte in sent)) == ["grün", b"\xff" * 130]


@given(st.binary(max_size=200))
def test_noise_never_raises_and_what_follows_the_end_is_ignored(noise: bytes) -> None:
    reader = FrameReader(LIMIT)
    events = reader.feed(noise)
    for event in events[:-1]:
        assert not isinstance(event, Violation | CloseFrame)
    if events and isinstance(events[-1], Violation | CloseFrame):
        assert reader.feed(frame(0x81, b"more")) == []
        assert reader.missing == 0


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x05hello", 1002),
        (frame(0xC1, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x8B, b"x"), 1002),
        (frame(0x09, b"x"), 1002),
        (frame(0x89, b"x" * 126), 1002),
        (frame(0x88, b"x" * 70_000), 1002),
        (b"\x81\xfe\x00\x7d" + KEY + b"x" * 125, 1002),
        (b"\x81\xff" + (65_535).to_bytes(8, "big") + KEY, 1002),
        (frame(0x80, b"x"), 1002),
        (frame(0x01, b"x") + frame(0x81, b"y"), 1002),
        (frame(0x01, b"x") + frame(0x02, b"y"), 1002),
        (frame(0x88, b"\x03"), 1002),
        (frame(0x88, (1005).to_bytes(2, "big")), 1002),
        (frame(0x88, (1006).to_bytes(2, "big")), 1002),
        (frame(0x88, (999).to_bytes(2, "big")), 1002),
        (frame(0x88, (2_000).to_bytes(2, "big")), 1002),
        (frame(0x88, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        (frame(0x81, b"\xff\xfe"), 1007),
        (frame(0x81, b"\xed\xa0\x80"), 1007),
        (frame(0x01, b"\xc3") + frame(0x80, b"x"), 1007),
        (frame(0x82, b"x" * (LIMIT + 1)), 1009),
        (frame(0x02, b"x" * LIMIT) + frame(0x80, b"x"), 1009),
    ],
)
def test_what_breaks_the_protocol_ends_the_reading_with_its_code(sent: bytes, code: int) -> None:
    before = frame(0x82, b"before")
    first, *rest = read(before + sent)
    assert first == b"before"
    [violation] = rest
    assert isinstance(violation, Violation)
    assert violation.code == code


def test_a_message_that_will_be_too_large_is_refused_by_its_header() -> None:
    reader = FrameReader(LIMIT)
    [violation] = reader.feed(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + KEY)
    assert isinstance(violation, Violation)
    assert violation.code == 1009


def test_a_character_may_be_divided_between_fragments() -> None:
    assert read(frame(0x01, b"\xc3"), frame(0x89, b"p"), frame(0x80, b"\xbc")) == [Ping(b"p"), "ü"]


def test_the_reader_tells_what_is_missing_of_a_frame() -> None:
    reader = FrameReader(LIMIT)
    whole = frame(0x82, b"x" * 50_000)
    assert reader.missing == 0
    reader.feed(whole[:1000])
    assert reader.missing == len(whole) - 1000
    assert reader.feed(whole[1000:]) == [b"x" * 50_000]
    assert reader.missing == 0


def test_a_close_without_a_code_is_told_as_1005_and_answered_without_one() -> None:
    assert read(frame(0x88)) == [CloseFrame(1005, "")]
    assert close_frame(1005) == b"\x88\x00"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_another_implementation_reads_what_is_written(size: int) -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(text_frame("x" * size))
    events = list(client.events())
    assert all(isinstance(event, TextMessage) for event in events)
    assert "".join(event.data for event in events if isinstance(event, TextMessage)) == "x" * size


def test_a_long_reason_is_cut_between_characters() -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(pong_frame(b"p") + close_frame(1008, "ü" * 100))
    pong, close = client.events()
    assert isinstance(pong, Pong)
    assert pong.payload == b"p"
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason) == (1008, "ü" * 61)
