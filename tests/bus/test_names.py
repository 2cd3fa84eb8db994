"""Names on a bus: no tenant can get into another's."""

from hypothesis import given
from hypothesis import strategies as st

from jobengine.bus.names import Names, token, untoken


@given(st.text(min_size=1))
def test_a_token_is_plain_and_leads_back_to_its_text_alone(text: str) -> None:
    try:
        text.encode()
    except UnicodeError:
        return
    written = token(text)
    assert not set(written) - set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_%"
    )
    assert untoken(written) == text


@given(st.text(alphabet="aA.%2Ee*>é ", min_size=1, max_size=8))
def test_one_spelling_alone_is_taken_for_a_tenant(written: str) -> None:
    text = untoken(written)
    assert text is None or token(text) == written


def test_subjects_and_keys_hold_the_tenant_as_one_token() -> None:
    names = Names("jobengine")
    assert names.event_subject("acme", "job.created") == "jobengine.events.acme.job.created"
    assert names.event_subject("a.b *>", "x y") == "jobengine.events.a%2Eb%20%2A%3E.x%20y"
    assert names.event_key("a:b") == "jobengine:events:a%3Ab"


def test_a_subject_names_a_tenant_only_in_its_one_spelling() -> None:
    names = Names("jobengine")
    assert names.tenant_of("jobengine.jobs.acme") == "acme"
    assert names.tenant_of("jobengine.jobs.a%2Eb") == "a.b"
    for odd in ("jobengine.jobs.a.b", "jobengine.jobs.%61", "jobengine.jobs.", "other.jobs.acme"):
        assert names.tenant_of(odd) is None, odd
