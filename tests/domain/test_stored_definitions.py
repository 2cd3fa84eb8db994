"""Definitions that are like an earlier one are read as if they were decoded."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.canonical import digest
from jobengine.domain.job import Definition
from jobengine.domain.stored_definitions import StoredDefinitions

encode = msgspec.json.Encoder(order="deterministic").encode

texts = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", 'x","payloadDigest":"', '","correlationId":"y', "plain", "19c"]
)
alike = st.fixed_dictionaries(
    {"job_type": st.sampled_from(["scan", "fetch"]), "queue": st.just("q")},
    optional={
        "labels": st.dictionaries(texts, texts, max_size=2),
        "priority": st.integers(0, 9),
        "source_id": st.sampled_from(["a", "b"]),
        "unique_key": texts.filter(bool),
    },
)


@given(st.lists(st.tuples(alike, texts, st.binary(max_size=3)), max_size=20))
@settings(deadline=None)
def test_what_is_read_is_what_decoding_gives(each: list[tuple[dict[str, Any], str, bytes]]) -> None:
    read = StoredDefinitions().read
    common: dict[int, Definition] = {}
    for fields, correlation_id, payload in each:
        definition = Definition(
            correlation_id=correlation_id, payload_digest=digest(payload), **fields
        )
        found, like = read(encode(definition))
        assert found == definition
        if like is not None:
            bare = msgspec.structs.replace(definition, correlation_id="", payload_digest="")
            assert common.setdefault(id(like), bare) == bare


def test_definitions_that_differ_in_correlation_and_digest_alone_are_alike() -> None:
    read = StoredDefinitions().read
    likes = {
        read(
            encode(
                Definition(
                    correlation_id=f"job-{number}",
                    payload_digest=digest(b"%d" % number),
                    job_type="scan",
                    queue="q",
                    labels={"team": "data"},
                )
            )
        )[1]
        for number in range(20)
    }
    assert len(likes) == 1
    assert None not in likes
