"""The wire types: what is read, what is refused, and the published description."""

import json
from importlib import resources

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.wire import asyncapi
from jobengine.wire.engine_messages import ENGINE_TYPES
from jobengine.wire.frames import (
    Malformed,
    decode_engine_frame,
    decode_worker_frame,
    encode_frame,
    encode_frames,
)
from jobengine.wire.job_texts import bulk_texts
from jobengine.wire.jobs import JobRequest, decode_job_requests
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
