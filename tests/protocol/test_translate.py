"""A translator that remembers gives what the translation without memory gives."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.canonical import canonical, digest
from jobengine.domain.errors import Refusal, RefusedError
from jobengine.domain.job import Definition
from jobengine.domain.records import NewJob
from jobengine.domain.redaction import Redactor
from jobengine.wire.jobs import JobRequest, decode_job_request
from jobengine.wire.translate import JobTranslator, new_job

_JOB_ID = "01890a5d-ac96-774b-bcce-b302099a80{:02d}"

# Names and values that look like the fields whose places are cut out of a definition's JSON.
_texts = st.sampled_from(
    ["plain", "", 'a "quoted" b', 'correlationId":"', '"payloadDigest":"', "é\\", "payloadDigest"]
)
_label_names = st.sampled_from(["team", "correlationId", "payloadDigest", "payload", "jobType"])
_kinds = st.fixed_dictionaries(
    {"jobType": st.sampled_from(["a", "b"])},
    optional={
        "labels": st.dictionaries(_label_names, _texts, max_size=3),
        "correlationId": _texts.filter(bool),
        "concurrencyKey": _texts.filter(bool),
        "uniqueKey": _texts.filter(bool),
        "projectId": _texts.filter(bool),
        "runId": _texts.filter(bool),
        "priority": st.integers(0, 9),
        "dependsOn": st.lists(_texts.filter(bool), max_size=2),
        "backoff": st.just({"kind": "fixed", "baseSeconds": 2.5}),
        "notBefore": st.just("2031-05-05T10:00:00Z"),
        "timeoutSeconds": st.integers(1, 100),
    },
)
_payloads = st.sampled_from(
    [{}, {"n": 1}, {"b": 1, "a": [1.5, None]}, {"password": "geheim"}, ["x"], {"é": "é"}]
)


def read(job: dict[str, Any]) -> JobRequest:
    if "concurrencyKey" in job:
        job = {**job, "concurrencyLimit": 3}
    request = decode_job_request(json.dumps(job))
    assert isinstance(request, JobRequest)
    return request


def outcome_of(translate: Any) -> NewJob | object:
    """The job but for its likeness, or why there is none."""
    try:
        made = translate()
        return msgspec.structs.replace(made, like=None) if isinstance(made, NewJob) else made
    except RefusedError as error:
        return error.refusal


@given(
    st.lists(_kinds, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), _payloads), min_size=1, max_size=12),
    st.sampled_from(["", "from the request", '"payloadDigest":"']),
    st.booleans(),
)
def test_what_is_remembered_of_a_request_changes_no_byte_of_the_job(
    kinds: list[dict[str, Any]],
    jobs: list[tuple[int, Any]],
    correlation_id: str,
    payloads: bool,
) -> None:
    redactor = Redactor(payloads=payloads)
    translator = JobTranslator(correlation_id=correlation_id, redactor=redactor)
    for number, (kind, payload) in enumerate(jobs):
        job = {**kinds[kind % len(kinds)], "payload": payload}
        job_id = _JOB_ID.format(number)
        remembered = outcome_of(
            lambda job=job, job_id=job_id: translator.new_job(read(job), job_id)
        )
        expected = outcome_of(
            lambda job=job, job_id=job_id: new_job(
                read(job), job_id, correlation_id=correlation_id, redactor=redactor
            )
        )
        assert remembered == expected


_odd_texts = st.sampled_from(
    [
        '{"jobType":"a"}',
        '{"jobType":"a","payload":7,"payload":{"n":1}}',
        '{"jobType":"a","payload":{"n":1}, "priority":3}',
        '{"jobType":"a","payload":{"n":2}, "priority":3}',
        '{"jobType":"a","payload":"x","labels":{"payload":"x"}}',
        '{"jobType":"a","labels":{"payload":"x"},"payload":"x"}',
        '{"jobType":"a","labels":{"payload":"x"},"payload":"y"}',
        '{"jobType":"a","labels":{"payload":"y"},"payload":"y"}',
        '{"jobType":"a","p\\u0061yload":{"n":1}}',
        '{"jobType":"a","payload" : {"payload":1} }',
        '{"jobType":"a","payload" : {"payload":2},"priority":1 }',
        '{"jobType":"a","payload":{"n":1},"priority":11}',
        '{"jobType":"a","payload":1,"priority":3}',
        '{"jobType":"a","payload":{"n":"\\u0000"}}',
        '{"jobType":"a","payload":["in the place of a payload"]}',
        '{"jobType":"a","payload":  {"b":1, "a":2.5}  }',
        '{"jobType":"a","payload":{}}',
        '{"payload":{"n":1},"jobType":"a","unknown":1}',
        '{"payload":{"n":1},"jobType":"a"}',
        '{"payload":{"n":1}',
        '{"jobType":"a","payload":1}}',
        '{"jobType":"a","payload":1,"hold":false,"payload":2}',
        "[]",
        "",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(_kinds, _payloads, st.booleans()) | _odd_texts, min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=14),
    st.lists(_payloads, min_size=14, max_size=14),
    st.booleans(),
)
def test_many_texts_come_to_what_each_comes_to_by_itself(
    kinds: list[tuple[dict[str, Any], Any, bool] | str],
    turns: list[int],
    payloads: list[Any],
    searched: bool,
) -> None:
    redactor = Redactor(payloads=searched)
    translator = JobTranslator(redactor=redactor)
    texts = []
    for turn, payload in zip(turns, payloads, strict=False):
        kind = kinds[turn % len(kinds)]
        if not isinstance(kind, str):
            job, _, spaced = kind
            separators = (", ", " : ") if spaced else (",", ":")
            kind = json.dumps({**job, "payload": payload}, separators=separators)
        texts.append(kind.encode())
    ids = [_JOB_ID.format(number) for number in range(len(texts))]
    together = translator.new_jobs(texts, ids)
    assert len(together) == len(texts)
    for made, text, job_id in zip(together, texts, ids, strict=True):
        request = decode_job_request(text)
        if not isinstance(request, JobRequest):
            assert isinstance(made, Refusal)
            assert (made.code, made.message) == (request.code, request.message)
            continue
        alone = outcome_of(lambda: new_job(request, job_id, redactor=redactor))  # noqa: B023
        assert outcome_of(lambda: made) == alone  # noqa: B023


def test_texts_that_differ_in_their_payloads_alone_are_not_decoded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = list[bytes]()

    def decode(text: bytes) -> Any:
        decoded.append(text)
        return decode_job_request(text)

    monkeypatch.setattr("jobengine.wire.translate.decode_job_request", decode)
    texts = [b'{"jobType":"%c","payload":{"n":%d}}' % (kind, n) for n in range(9) for kind in b"ab"]
    jobs = JobTranslator().new_jobs(texts, [_JOB_ID.format(n) for n in range(18)])
    assert decoded == texts[:4]
    assert [job.payload for job in jobs if isinstance(job, NewJob)] == [
        b'{"n":%d}' % n for n in range(9) for _ in range(2)
    ]


def test_of_a_payload_that_is_said_twice_the_last_counts_whatever_came_before() -> None:
    texts = [
        b'{"jobType":"a","payload":%d,"payload":%d}' % pair
        for pair in [(1, 1), (1, 1), (5, 1), (2, 2), (1, 7)]
    ]
    jobs = JobTranslator().new_jobs(texts, [_JOB_ID.format(number) for number in range(5)])
    assert [job.payload for job in jobs if isinstance(job, NewJob)] == [
        b"1",
        b"1",
        b"1",
        b"2",
        b"7",
    ]


def test_a_label_called_payload_is_no_payload() -> None:
    texts = [
        b'{"jobType":"a","labels":{"payload":"x"},"payload":"x"}',
        b'{"jobType":"a","labels":{"payload":"x"},"payload":"x"}',
        b'{"jobType":"a","labels":{"payload":"z"},"payload":"x"}',
    ]
    jobs = JobTranslator().new_jobs(texts, [_JOB_ID.format(number) for number in range(3)])
    assert [job.payload for job in jobs if isinstance(job, NewJob)] == [b'"x"'] * 3


def test_alike_are_jobs_that_differ_in_nothing_but_their_payloads_and_ids() -> None:
    translator = JobTranslator()
    texts = [
        b'{"jobType":"a","payload":1}',
        b'{"jobType":"a","payload":2}',
        b'{"payload":3,"jobType":"a"}',
        b'{"jobType":"a","payload":4}',
        b'{"jobType":"a","payload":5,"priority":6}',
        b'{"jobType":"a","payload":6,"hold":true}',
    ]
    jobs = translator.new_jobs(texts, [_JOB_ID.format(number) for number in range(6)])
    likes = [job.like for job in jobs if isinstance(job, NewJob)]
    assert None not in likes
    assert len({id(like) for like in likes}) == 3
    assert likes[0] is likes[1] is likes[2] is likes[3]
    assert [like.plain for like in likes if like] == [True] * 5 + [False]


def test_each_of_many_like_jobs_has_its_own_id_and_digest() -> None:
    translator = JobTranslator()
    for number in range(3):
        new = translator.new_job(
            read({"jobType": "a", "labels": {"z": "1", "b": "2"}, "payload": {"n": number}}),
            _JOB_ID.format(number),
        )
        stored = msgspec.json.decode(new.definition_json, type=Definition)
        assert stored == new.definition
        assert stored.correlation_id == new.job_id == _JOB_ID.format(number)
        assert stored.payload_digest == digest(new.payload)
        assert new.definition_json == canonical(new.definition_json)


def test_a_payload_is_judged_also_when_the_rest_of_the_request_is_known() -> None:
    translator = JobTranslator()
    translator.new_job(read({"jobType": "a", "payload": {"n": 1}}), _JOB_ID.format(1))
    for number in range(2):
        with pytest.raises(RefusedError, match="payload"):
            translator.new_job(
                read({"jobType": "a", "payload": {"n": "\0"}}), _JOB_ID.format(number)
            )
    good = translator.new_job(read({"jobType": "a", "payload": {"n": 2}}), _JOB_ID.format(2))
    assert good.payload == b'{"n":2}'


def test_more_kinds_of_jobs_than_are_remembered_are_translated_too() -> None:
    translator = JobTranslator()
    for turn in range(2):
        for number in range(20):
            request = read({"jobType": f"t{number}", "payload": {"turn": turn}})
            new = translator.new_job(request, _JOB_ID.format(number))
            assert new.definition.job_type == f"t{number}"
            assert new.payload == b'{"turn":%d}' % turn


def test_a_job_type_of_the_engines_own_is_refused_naming_its_field() -> None:
    with pytest.raises(RefusedError) as caught:
        new_job(read({"jobType": "orch.approval"}), _JOB_ID.format(1))
    assert caught.value.refusal.details == {"path": "jobType"}
    assert "choose another" in caught.value.refusal.message
    assert new_job(read({"jobType": "orchard"}), _JOB_ID.format(1)).definition.queue == "orchard"
