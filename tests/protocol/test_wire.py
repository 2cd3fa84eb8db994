"""The wire types: what is read, what is refused, and the published description."""

import json
import tracemalloc
from collections.abc import Callable
from importlib import resources

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.wire import asyncapi
from jobengine.wire.engine_messages import ENGINE_TYPES
from jobengine.wire.frames import (
    FRAME_MESSAGES_MAX,
    Malformed,
    decode_engine_frame,
    decode_worker_frame,
    encode_frame,
    encode_frames,
    worker_frame_pieces,
)
from jobengine.wire.job_texts import bulk_texts
from jobengine.wire.jobs import BULK_ITEMS_MAX, JobRequest, decode_job_requests
from jobengine.wire.refusal import Refusal
from jobengine.wire.worker_messages import WORKER_TYPES, Complete, Drain, Heartbeat, WorkerMessage


def test_the_published_description_is_what_the_types_say() -> None:
    published = resources.files("jobengine.wire").joinpath("asyncapi.json").read_text()
    assert published == asyncapi.generate()


def test_every_reference_of_the_description_resolves() -> None:
    document = json.loads(asyncapi.generate())

    def check(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(target := value.get("$ref"), str):
                found = document
                for part in target.removeprefix("#/").split("/"):
                    found = found[part]
            for item in value.values():
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)

    check(document)
    assert len(document["channels"]["worker"]["messages"]) == len(WORKER_TYPES + ENGINE_TYPES)


def test_a_good_frame_reads_as_its_messages_in_order() -> None:
    messages: list[WorkerMessage] = [
        Heartbeat(ref=1),
        Complete(lease_id="l", token=2, ref="c"),
        Drain(),
    ]
    read = decode_worker_frame(encode_frame(messages))
    assert [type(message) for message in read] == [Heartbeat, Complete, Drain]
    assert decode_worker_frame('{"op":"drain"}') == [Drain()]


@pytest.mark.parametrize(
    ("frame", "code", "path", "ref"),
    [
        ("{", "BAD_JSON", "$", None),
        (b"\xff", "BAD_JSON", "$", None),
        ("[" * 100_000, "BAD_JSON", "$", None),
        ('"drain"', "INVALID_FIELD", "$", None),
        ("{}", "INVALID_FIELD", "$.op", None),
        ('{"op":"fly","ref":7}', "UNKNOWN_OP", "$.op", 7),
        ('{"op":"drain","colour":1,"ref":"r"}', "INVALID_FIELD", "$.colour", "r"),
        ('[{"op":"credit","slots":-1}]', "INVALID_FIELD", "$[0].slots", None),
        ('{"op":"hello","workerId":"w","capacity":1}', "INVALID_FIELD", "$", None),
        (
            '{"op":"complete","leaseId":"l","token":1,"followUps":[{"jobType":"a\\n"}]}',
            "INVALID_FIELD",
            "$.followUps[0].jobType",
            None,
        ),
    ],
)
def test_what_cannot_be_read_is_named(
    frame: str | bytes, code: str, path: str, ref: str | int | None
) -> None:
    [refused] = decode_worker_frame(frame)
    assert isinstance(refused, Malformed)
    assert (refused.code, refused.path, refused.ref) == (code, path, ref)


def test_a_bad_message_does_not_spoil_its_neighbours() -> None:
    first, bad, last = decode_worker_frame('[{"op":"drain"},{"op":"drain","x":1},{"op":"drain"}]')
    assert first == last == Drain()
    assert isinstance(bad, Malformed)


def peak_bytes(read: Callable[[], object]) -> int:
    """How much was made at once, in bytes."""
    read()
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("item", ['{"op":"drain"}', "{}", "1"])
def test_a_frame_of_too_many_messages_is_refused_before_they_are_made(item: str) -> None:
    most = "[" + ",".join([item] * FRAME_MESSAGES_MAX) + "]"
    assert len(decode_worker_frame(most)) == FRAME_MESSAGES_MAX
    more = "[" + ",".join([item] * (8 * FRAME_MESSAGES_MAX)) + "]"
    [refused] = decode_worker_frame(more)
    assert isinstance(refused, Malformed)
    assert (refused.code, refused.path) == ("PAYLOAD_TOO_LARGE", "$")
    assert peak_bytes(lambda: decode_worker_frame(more)) < 2 * len(most) + (1 << 20)


@pytest.mark.parametrize(
    ("field", "item"), [("followUps", '{"jobType":"a"}'), ("artifacts", "{}"), ("queues", '"q"')]
)
def test_a_list_of_a_message_that_is_too_long_is_refused_before_it_is_made(
    field: str, item: str
) -> None:
    op = '"hello","workerId":"w","capacity":1' if field == "queues" else '"complete","token":1'
    frame = f'{{"op":{op},"ref":7,"{field}":[{",".join([item] * 40_000)}]}}'
    [refused] = decode_worker_frame(frame)
    assert isinstance(refused, Malformed)
    assert (refused.code, refused.path, refused.ref) == ("INVALID_FIELD", f"$.{field}", 7)
    assert "1000" in refused.message
    assert peak_bytes(lambda: decode_worker_frame(frame)) < 1 << 18


@given(
    st.lists(st.sampled_from(['{"op":"drain"}', '{"op":"drain","x":1}', "{}"]), min_size=1),
    st.integers(1, 30),
)
def test_a_large_frame_says_in_pieces_what_its_messages_say_alone(
    items: list[str], times: int
) -> None:
    wide = [item.replace("{", "{" + " " * 1_000, 1) for item in items * times]
    pieces = list(worker_frame_pieces("[" + ",".join(wide) + "]"))
    read = [message for piece in pieces for message in piece]
    alone = [decode_worker_frame(item)[0] for item in wide]
    assert [type(message) for message in read] == [type(message) for message in alone]
    for place, message in enumerate(read):
        if isinstance(message, Malformed):
            assert message.path.startswith(f"$[{place}].")
    assert len(pieces) >= len("".join(wide)) // (128 << 10)


def test_frames_are_divided_where_they_would_have_too_many_messages() -> None:
    frames = encode_frames([Drain()] * (FRAME_MESSAGES_MAX + 1))
    read = [decode_worker_frame(frame) for frame in frames]
    assert sum(map(len, read)) == FRAME_MESSAGES_MAX + 1
    assert max(map(len, read)) <= FRAME_MESSAGES_MAX


@pytest.mark.parametrize("ndjson", [False, True])
def test_a_bulk_of_too_many_items_is_refused_before_they_are_made(ndjson: bool) -> None:
    many = ["1"] * (50 * BULK_ITEMS_MAX)
    body = ("\n".join(many) if ndjson else f" [{','.join(many)}]").encode()
    refused = bulk_texts(body, ndjson=ndjson)
    assert isinstance(refused, Refusal)
    assert refused.code == "TOO_MANY_ITEMS"
    assert peak_bytes(lambda: bulk_texts(body, ndjson=ndjson)) < 4 << 20


@pytest.mark.parametrize("body", [b'{"a":[%b]}', b'"%b"', b"[%b", b"[%b]]"])
def test_a_body_that_is_no_list_is_refused_as_that_however_long(body: bytes) -> None:
    refused = bulk_texts(body % b",".join([b"1"] * 9_999), ndjson=False)
    longer = bulk_texts(body % b",".join([b"1"] * 30_000), ndjson=False)
    assert isinstance(refused, Refusal)
    assert isinstance(longer, Refusal)
    assert refused.code != "TOO_MANY_ITEMS"
    assert longer.code in (refused.code, "TOO_MANY_ITEMS" if body.startswith(b"[") else "")


@settings(max_examples=50)
@given(st.text() | st.binary())
def test_no_frame_makes_a_reader_raise(frame: str | bytes) -> None:
    decode_worker_frame(frame)
    decode_engine_frame(frame)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(200, 2000))
def test_frames_are_divided_in_order_under_their_limit(sizes: list[int], bytes_max: int) -> None:
    messages = [
        Complete(lease_id=str(n), token=n, result=msgspec.Raw(b'"' + b"x" * size + b'"'))
        for n, size in enumerate(sizes)
    ]
    frames = encode_frames(messages, bytes_max)
    read = [message for frame in frames for message in decode_worker_frame(frame)]
    assert [message.token for message in read] == list(range(len(sizes)))  # type: ignore[union-attr]
    assert all(len(frame) <= bytes_max or len(decode_worker_frame(frame)) == 1 for frame in frames)


def test_a_bulk_body_is_judged_item_by_item() -> None:
    body = b'{"jobType":"a"}\n\n{"jobType":"b","priority":10}\n{"jobType":"c"'
    texts = bulk_texts(body, ndjson=True)
    assert isinstance(texts, list)
    items = decode_job_requests(texts)
    assert isinstance(items[0], JobRequest)
    assert [item.code for item in items[1:] if isinstance(item, Refusal)] == [
        "INVALID_FIELD",
        "BAD_JSON",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"uniqueScope": "window", "uniqueKey": "k"},
        {"windowSeconds": 5},
        {"concurrencyKey": "k"},
        {"notBefore": "2026-11-21T12:00:00"},
        {"notBefore": "2026-11-21T12:00:00Z", "expiresAt": "2026-11-21T11:00:00Z"},
        {"labels": {f"l{n}": "" for n in range(33)}},
        {"jobType": "a b"},
        {"maxRetries": 101},
        {"leaseSeconds": 0},
    ],
)
def test_a_request_that_contradicts_the_contract_is_refused(changes: dict) -> None:
    body = msgspec.json.encode([{"jobType": "a", **changes}])
    texts = bulk_texts(body, ndjson=False)
    assert isinstance(texts, list)
    [refused] = decode_job_requests(texts)
    assert isinstance(refused, Refusal)
    assert refused.code == "INVALID_FIELD"
