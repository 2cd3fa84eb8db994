"""The frame codec, read and written as either end: what it makes of valid frames in any pieces,
and of everything else."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Pong, TextMessage
from wsproto.events import Event as Judged
from wsproto.events import Ping as JudgedPing
from wsproto.frame_protocol import FrameProtocol

from jobengine.wire.websocket_frames import (
    CLOSED_WITHOUT_CODE,
    CloseFrame,
    Event,
    FrameReader,
    Peer,
    Ping,
    Violation,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)

LIMIT = 100_000
KEY = b"\x01\x02\x03\x04"
SIZES = [0, 1, 125, 126, 65_535, 65_536]

of_either = pytest.mark.parametrize("peer", list(Peer))


def key_of(peer: Peer) -> bytes | None:
    return KEY if peer is Peer.CLIENT else None


def frame(peer: Peer, first: int, payload: bytes = b"") -> bytes:
    """A frame as this peer sends it, with this first byte."""
    size, mark = len(payload), 0x80 if peer is Peer.CLIENT else 0
    if size < 126:
        length = bytes((mark | size,))
    elif size < 1 << 16:
        length = bytes((mark | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((mark | 127,)) + size.to_bytes(8, "big")
    if peer is Peer.SERVER:
        return bytes((first,)) + length + payload
    masked = bytes(byte ^ KEY[n % 4] for n, byte in enumerate(payload))
    return bytes((first,)) + length + KEY + masked


def read(peer: Peer, *pieces: bytes, limit: int = LIMIT) -> list[Event]:
    reader = FrameReader(limit, peer)
    return [event for piece in pieces for event in reader.feed(piece)]


messages = st.one_of(st.text(max_size=300), st.binary(max_size=300), st.just("x" * 70_000))


@of_either
@settings(max_examples=50)
@given(said=st.lists(st.tuples(messages, st.integers(0, 3)), max_size=6), data=st.data())
def test_whatever_another_implementation_sends_is_read_in_any_pieces(
    peer: Peer, said: list[tuple[str | bytes, int]], data: st.DataObject
) -> None:
    other = FrameProtocol(client=peer is Peer.CLIENT, extensions=[])
    sent = bytearray()
    wanted: list[Event] = []
    for message, cuts in said:
        for n in range(cuts):
            part = message[n : n + 1]
            sent += other.send_data(part, fin=False)
            sent += other.ping(b"%d" % n)
            wanted.append(Ping(b"%d" % n))
        sent += other.send_data(message[cuts:], fin=True)
        wanted.append(message)
    sent += other.close(1001, "bye")
    wanted.append(CloseFrame(1001, "bye"))
    cuts_at = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [bytes(sent[a:b]) for a, b in pairwise([0, *cuts_at, len(sent)])]
    assert read(peer, *pieces) == wanted


@of_either
def test_a_message_is_read_byte_by_byte(peer: Peer) -> None:
    sent = (
        frame(peer, 0x81, "grün".encode())
        + frame(peer, 0x8A, b"pong")
        + frame(peer, 0x82, b"\xff" * 130)
    )
    assert read(peer, *(bytes((byte,)) for byte in sent)) == ["grün", b"\xff" * 130]


@of_either
@given(noise=st.binary(max_size=200))
def test_noise_never_raises_and_what_follows_the_end_is_ignored(peer: Peer, noise: bytes) -> None:
    reader = FrameReader(LIMIT, peer)
    events = reader.feed(noise)
    for event in events[:-1]:
        assert not isinstance(event, Violation | CloseFrame)
    if events and isinstance(events[-1], Violation | CloseFrame):
        assert reader.feed(frame(peer, 0x81, b"more")) == []
        assert reader.missing == 0


BROKEN: dict[str, tuple[list[tuple[int, bytes]], int]] = {
    "a reserved bit": ([(0xC1, b"x")], 1002),
    "a reserved opcode": ([(0x83, b"x")], 1002),
    "a reserved control opcode": ([(0x8B, b"x")], 1002),
    "a ping in fragments": ([(0x09, b"x")], 1002),
    "a long ping": ([(0x89, b"x" * 126)], 1002),
    "a very long close": ([(0x88, b"x" * 70_000)], 1002),
    "the end of nothing": ([(0x80, b"x")], 1002),
    "a message within a message": ([(0x01, b"x"), (0x81, b"y")], 1002),
    "a beginning within a message": ([(0x01, b"x"), (0x02, b"y")], 1002),
    "half a close code": ([(0x88, b"\x03")], 1002),
    "a close code that stands for none": ([(0x88, (1005).to_bytes(2, "big"))], 1002),
    "a close code that stands for a cut": ([(0x88, (1006).to_bytes(2, "big"))], 1002),
    "a close code below all": ([(0x88, (999).to_bytes(2, "big"))], 1002),
    "a close code of nobody": ([(0x88, (2_000).to_bytes(2, "big"))], 1002),
    "a reason that is no text": ([(0x88, (1000).to_bytes(2, "big") + b"\xff")], 1007),
    "no text": ([(0x81, b"\xff\xfe")], 1007),
    "a surrogate": ([(0x81, b"\xed\xa0\x80")], 1007),
    "no text, by its fragments": ([(0x01, b"\xc3"), (0x80, b"x")], 1007),
    "too large": ([(0x82, b"x" * (LIMIT + 1))], 1009),
    "too large, by its fragments": ([(0x02, b"x" * LIMIT), (0x80, b"x")], 1009),
}


def require_violation(peer: Peer, sent: bytes, code: int) -> None:
    after = frame(peer, 0x81, b"after")
    first, *rest = read(peer, frame(peer, 0x82, b"before") + sent + after)
    assert first == b"before"
    [violation] = rest
    assert isinstance(violation, Violation)
    assert violation.code == code


@of_either
@pytest.mark.parametrize("sent", BROKEN)
def test_what_breaks_the_protocol_ends_the_reading_with_its_code(peer: Peer, sent: str) -> None:
    frames, code = BROKEN[sent]
    require_violation(peer, b"".join(frame(peer, *each) for each in frames), code)


@pytest.mark.parametrize(
    ("peer", "sent"),
    [
        (Peer.CLIENT, b"\x81\xfe\x00\x7d" + KEY + b"x" * 125),
        (Peer.CLIENT, b"\x81\xff" + (65_535).to_bytes(8, "big") + KEY),
        (Peer.SERVER, b"\x81\x7e\x00\x7d" + b"x" * 125),
        (Peer.SERVER, b"\x81\x7f" + (65_535).to_bytes(8, "big")),
    ],
)
def test_a_length_is_written_as_short_as_it_can_be(peer: Peer, sent: bytes) -> None:
    require_violation(peer, sent, 1002)


def test_a_client_that_does_not_mask_breaks_the_protocol_and_a_server_that_does() -> None:
    require_violation(Peer.CLIENT, frame(Peer.SERVER, 0x81, b"hello"), 1002)
    require_violation(Peer.SERVER, frame(Peer.CLIENT, 0x81, b"hello"), 1002)


@of_either
def test_a_message_that_will_be_too_large_is_refused_by_its_header(peer: Peer) -> None:
    mark = b"\xff" if peer is Peer.CLIENT else b"\x7f"
    [violation] = read(peer, b"\x82" + mark + (1 << 62).to_bytes(8, "big") + KEY)
    assert isinstance(violation, Violation)
    assert violation.code == 1009


@of_either
def test_a_character_may_be_divided_between_fragments(peer: Peer) -> None:
    pieces = frame(peer, 0x01, b"\xc3"), frame(peer, 0x89, b"p"), frame(peer, 0x80, b"\xbc")
    assert read(peer, *pieces) == [Ping(b"p"), "ü"]


@of_either
def test_the_reader_tells_what_is_missing_of_a_frame(peer: Peer) -> None:
    reader = FrameReader(LIMIT, peer)
    whole = frame(peer, 0x82, b"x" * 50_000)
    assert reader.missing == 0
    reader.feed(whole[:1000])
    assert reader.missing == len(whole) - 1000
    assert reader.feed(whole[1000:]) == [b"x" * 50_000]
    assert reader.missing == 0


@of_either
def test_a_close_without_a_code_is_told_as_1005_and_answered_without_one(peer: Peer) -> None:
    assert read(peer, frame(peer, 0x88)) == [CloseFrame(CLOSED_WITHOUT_CODE, "")]
    assert close_frame(CLOSED_WITHOUT_CODE, key=key_of(peer)) == frame(peer, 0x88)


def judged(peer: Peer, sent: bytes) -> list[Judged]:
    """What another implementation makes of what `peer` sends."""
    client = peer is Peer.CLIENT
    other = Connection(ConnectionType.SERVER if client else ConnectionType.CLIENT)
    other.receive_data(sent)
    return list(other.events())


@of_either
@pytest.mark.parametrize("size", SIZES)
def test_another_implementation_reads_what_is_written(peer: Peer, size: int) -> None:
    events = judged(peer, text_frame("x" * size, key_of(peer)))
    assert all(isinstance(event, TextMessage) for event in events)
    assert "".join(event.data for event in events if isinstance(event, TextMessage)) == "x" * size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", [KEY, bytes(4), b"\xff\x00\xff\x80"])
def test_a_client_masks_byte_for_byte_with_the_key_it_is_given(size: int, key: bytes) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    sent = text_frame(text, key)
    masked, plain = sent[len(sent) - size :], text.encode()
    assert sent[len(sent) - size - 4 : len(sent) - size] == key
    assert masked == bytes(byte ^ key[n % 4] for n, byte in enumerate(plain))
    assert read(Peer.CLIENT, sent) == [text]


@of_either
def test_text_that_is_bytes_already_is_framed_as_it_is(peer: Peer) -> None:
    key = key_of(peer)
    assert text_frame("grün".encode(), key) == text_frame("grün", key)


@of_either
def test_a_long_reason_is_cut_between_characters(peer: Peer) -> None:
    key = key_of(peer)
    sent = ping_frame(b"i", key) + pong_frame(b"o", key) + close_frame(1008, "ü" * 100, key)
    ping, pong, close = judged(peer, sent)
    assert isinstance(ping, JudgedPing)
    assert isinstance(pong, Pong)
    assert (ping.payload, pong.payload) == (b"i", b"o")
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason) == (1008, "ü" * 61)


@of_either
def test_frames_that_make_no_event_are_counted(peer: Peer) -> None:
    reader = FrameReader(LIMIT, peer)
    parts = [(0x01, b""), (0x8A, b"pong"), (0x00, b"a"), (0x89, b"ping"), (0x80, b"b")]
    events = reader.feed(b"".join(frame(peer, *part) for part in parts))
    assert (events, reader.silent) == ([Ping(b"ping"), "ab"], 3)
