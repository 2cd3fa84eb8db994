"""A translator that remembers gives what the translation without memory gives."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.canonical import canonical, digest
from jobengine.domain.errors import RefusedError
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
    try:
        return translate()
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
