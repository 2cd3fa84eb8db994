"""The texts of leases are those that the encoder gives, whatever their jobs hold."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.job import Definition, Job, Likeness
from jobengine.http.worker_leases import LeaseTexts, lease_frame
from jobengine.messages.session import Grant
from jobengine.wire.frames import encode_frames

AT = 1_795_255_200_123_456
_texts = st.sampled_from(
    ["plain", 'a "quoted" b', "\\", "é\u2028", "<the job id>", "<the payload>", "\n", "{}", "0"]
)
_optional = st.none() | _texts
_definitions = st.builds(
    Definition,
    correlation_id=_texts,
    job_type=_texts,
    labels=st.dictionaries(_texts, _texts, max_size=2),
    lease_us=st.sampled_from([1_000_000, 10_000_000, 30_000_000]),
    node_key=_optional,
    payload_digest=st.just("d"),
    project_id=st.just("") | _texts,
    queue=_texts,
    run_id=_optional,
    timeout_us=st.none() | st.just(5_000_000),
    traceparent=_optional,
)
_likes = st.lists(st.builds(Likeness.of, _definitions), min_size=1, max_size=3)
_jobs = st.fixed_dictionaries(
    {
        "which": st.integers(0, 2),
        "known": st.booleans(),
        "job_id": st.sampled_from(["j1", "j2", "01890a5d-ac96-774b-bcce-b302099a8000"])
        | st.sampled_from(["j1", 'q"', "é", "b\\"]),
        "tenant_id": st.sampled_from(["one", "two"]),
        "correlated": st.booleans(),
        "attempt": st.integers(1, 3),
        "failures": st.integers(0, 2),
        "payload": st.sampled_from([b"{}", b'{"n":1}', '"é"'.encode(), b'"<the job id>"']),
        "token": st.sampled_from([1, 7, 8_070_605_040_302_010_908]),
        "until_at": st.sampled_from([AT, AT + 1, AT + 5_000_000]),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    _likes,
    st.lists(st.tuples(st.sampled_from(["r1", 'r"2']), st.lists(_jobs, max_size=6)), max_size=3),
)
def test_a_lease_is_written_as_the_encoder_writes_it(
    likes: list[Likeness], rounds: list[tuple[str, list[dict[str, object]]]]
) -> None:
    texts = LeaseTexts()
    for runner, jobs in rounds:
        grants = [_grant(likes, dict(job)) for job in jobs]
        frames = [lease_frame(grant, runner) for grant in grants]
        assert msgspec.json.encode(texts.messages(grants, runner)) == msgspec.json.encode(frames)
        if grants:
            assert encode_frames(texts.messages(grants, runner), 900) == encode_frames(frames, 900)


def test_like_jobs_whose_leases_differ_otherwise_share_no_text() -> None:
    like = Likeness.of(Definition(job_type="t", queue="q", payload_digest="d"))
    same: dict[str, object] = {"which": 0, "job_id": "j", "payload": b"{}", "known": True}
    others: list[dict[str, object]] = [
        {"tenant_id": "two"},
        {"attempt": 2},
        {"failures": 1},
        {"until_at": AT + 9_000},
    ]
    grants = [_grant([like], same | other) for one in others for other in ({}, one)]
    frames = [lease_frame(grant, "r") for grant in grants]
    assert msgspec.json.encode(LeaseTexts().messages(grants, "r")) == msgspec.json.encode(frames)


def test_more_kinds_of_leases_than_are_kept_are_written_too() -> None:
    texts = LeaseTexts()
    for _ in range(2):
        for number in range(100):
            like = Likeness.of(Definition(job_type=f"t{number}", queue="q", payload_digest="d"))
            grant = _grant([like], {"which": 0, "job_id": "j", "payload": b"{}", "known": True})
            [message] = texts.messages([grant], "r")
            assert msgspec.json.encode(message) == msgspec.json.encode(lease_frame(grant, "r"))


def test_alike_leases_are_not_encoded_one_by_one() -> None:
    like = Likeness.of(Definition(job_type="t", queue="q", payload_digest="d"))
    grants = [
        _grant([like], {"which": 0, "job_id": f"j{n}", "payload": b"{}", "known": True})
        for n in range(3)
    ]
    assert {type(message) for message in LeaseTexts().messages(grants, "r")} == {msgspec.Raw}


def _grant(likes: list[Likeness], of: dict[str, object]) -> Grant:
    which = of["which"]
    assert isinstance(which, int)
    like = likes[which % len(likes)]
    job_id = str(of["job_id"])
    definition = like.definition
    if not of.get("correlated"):
        definition = msgspec.structs.replace(definition, correlation_id=job_id)
    attempt, payload, token = of.get("attempt", 1), of["payload"], of.get("token", 1)
    failures, until_at = of.get("failures", 0), of.get("until_at", AT)
    assert isinstance(attempt, int)
    assert isinstance(payload, bytes)
    assert isinstance(token, int)
    assert isinstance(failures, int)
    assert isinstance(until_at, int)
    job = Job(
        job_id=job_id,
        tenant_id=str(of.get("tenant_id", "one")),
        definition=definition,
        definition_json=b"{}",
        payload=payload,
        created_at=0,
        attempt=attempt,
        failures=failures,
        like=like if of["known"] else None,
    )
    return Grant(job, f"{job_id}.{attempt}", token, until_at)
