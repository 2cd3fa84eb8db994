"""Facts: an answer repeated from what was stored equals the answer given at first."""

import msgspec

from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import Backoff, Definition, Job, State
from jobengine.http.rendering import bulk_answer, encode, job_view
from jobengine.messages.answers import (
    decode_operate_facts,
    decode_submit_facts,
    facts_of_operate,
    facts_of_submit,
    job_facts,
    submit_facts,
)
from jobengine.messages.lease_shard import JobOutcome

PAYLOAD = b'{"a":1e+21,"b":[null,1.5,"\xc3\xbc"]}'


def full_job() -> Job:
    definition = Definition(
        backoff=Backoff(base_us=2_500_000, kind="linear"),
        job_type="scan",
        queue="fast",
        payload_digest=digest(PAYLOAD),
        project_id="alpha",
        labels={"team": "rot ü"},
        depends_on=("x",),
        timeout_us=5_000_000,
        unique_key="u",
        unique_scope="window",
        unique_window_us=60_000_000,
        not_before=1_000,
        expires_at=2_000,
        replay_of="r",
        run_id="run",
        source_id="nvd",
        correlation_id="c",
        traceparent="t",
    )
    return Job(
        job_id="j",
        tenant_id="demo",
        definition=definition,
        definition_json=msgspec.json.encode(definition, order="sorted"),
        payload=PAYLOAD,
        created_at=1_767_225_600_000_000,
        state=State.FAILED,
        reason="error",
        attempt=2,
        failures=2,
        crashes=1,
        scheduled_at=1,
        started_at=2,
        finished_at=3,
        cancel_requested_at=4,
        result=b'{"ok":1}',
        error=b'{"class":"Boom","httpStatus":503,"message":"no","retryable":false}',
        progress=b'{"message":"half","percent":50}',
    )


def test_stored_facts_render_as_the_job_did() -> None:
    job = full_job()
    expected = encode(job_view(job))
    assert encode(job_view(job_facts(job))) == expected
    assert encode(job_view(decode_operate_facts(facts_of_operate(job)).job)) == expected
    submitted = facts_of_submit([JobOutcome(outcome="created", job_id="j")], [job])
    stored = decode_submit_facts(submitted).job
    assert stored is not None
    assert encode(job_view(stored)) == expected


def test_facts_do_not_follow_the_job() -> None:
    job = full_job()
    facts = job_facts(job)
    job.state, job.attempt = State.SCHEDULED, 3
    assert (facts.state, facts.attempt) == ("failed", 2)


def test_stored_outcomes_render_as_the_first_ones_did() -> None:
    outcomes = [
        JobOutcome(outcome="created", job_id="a"),
        JobOutcome(outcome="existing", job_id="b"),
        JobOutcome(
            outcome="rejected",
            refusal=Refusal(ErrorCode.INVALID_FIELD, "dependsOn: no job x", {"path": "dependsOn"}),
        ),
    ]
    first = submit_facts(outcomes, [None, None, None])
    stored = decode_submit_facts(facts_of_submit(outcomes, [None, None, None]))
    assert first.job is None
    again = bulk_answer(stored.outcomes, replayed=False)
    assert again == bulk_answer(first.outcomes, replayed=False)
    assert b'"details":[{"path":"dependsOn"}]' in again.body
