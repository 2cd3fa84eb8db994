"""Names: of leases, of shards."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.ids import lease_id, lease_parts, shard_of

JOB = "01890a5d-ac96-774b-bcce-b302099a8057"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 999_999_999))
def test_a_lease_id_names_its_job_and_attempt(attempt: int) -> None:
    assert lease_parts(lease_id(JOB, attempt)) == (JOB, attempt)


@pytest.mark.parametrize(
    "text", ["", ".", JOB, f"{JOB}.", f"{JOB}.x", f"{JOB}.-1", f"{JOB}.²", f"{JOB}.٣", "a.1",
             f"{JOB}.1.2", f"{JOB}.{'9' * 10}", f".{JOB}"]
)  # fmt: skip
def test_what_is_no_lease_id_names_nothing(text: str) -> None:
    assert lease_parts(text) is None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(1, 1024))
def test_a_tenant_lives_on_one_shard(tenant_id: str, shards: int) -> None:
    assert 0 <= shard_of(tenant_id, shards) < shards


def test_where_a_tenant_lives_never_changes() -> None:
    """Stored rows carry the number of their shard."""
    assert [shard_of(name, 16) for name in ("acme", "globex", "tenant-1")] == [14, 10, 15]


def test_tenants_spread_over_all_shards() -> None:
    counts = [0] * 16
    for number in range(16_000):
        counts[shard_of(f"tenant-{number}", 16)] += 1
    assert min(counts) > 800
