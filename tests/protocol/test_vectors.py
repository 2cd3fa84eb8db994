"""The conformance vectors against the reference engine, and the runner against broken ones."""

from typing import Any

import pytest

from tests.protocol.reference import ReferenceEngine
from tests.protocol.runner import VectorFailedError, load, matches, run_vector, substitute

VECTORS = load()


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_the_reference_engine_meets_every_vector(vector: dict[str, Any]) -> None:
    await run_vector(vector, ReferenceEngine().connect)


async def test_an_engine_that_grants_beyond_credit_is_caught() -> None:
    engine = ReferenceEngine()
    grant = engine._grant

    def generous() -> list[Any]:
        engine.credit += 1
        return grant()

    engine._grant = generous  # type: ignore[method-assign]
    [vector] = [vector for vector in VECTORS if vector["name"] == "credit-bounds-leases"]
    with pytest.raises(VectorFailedError, match="step 6"):
        await run_vector(vector, engine.connect)


async def test_an_engine_that_forgets_what_it_committed_is_caught() -> None:
    engine = ReferenceEngine()
    [vector] = [vector for vector in VECTORS if vector["name"] == "resume-report"]
    engine.ended = _Forgetful()
    with pytest.raises(VectorFailedError, match="LEASE_LOST"):
        await run_vector(vector, engine.connect, step_s_max=0.1)


class _Forgetful(dict[str, tuple[int, str]]):
    def __setitem__(self, key: str, value: tuple[int, str]) -> None:
        pass


def test_names_bind_once_and_compare_after() -> None:
    bound: dict[str, Any] = {}
    assert matches({"leaseId": "$lease"}, {"leaseId": "l1", "more": 1}, bound)
    assert bound == {"$lease": "l1"}
    assert not matches({"leaseId": "$lease"}, {"leaseId": "l2"}, bound)
    assert substitute({"$lease": ["$lease", "$.path", 1]}, bound) == {"l1": ["l1", "$.path", 1]}


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("<integer>", 1, True),
        ("<integer>", True, False),
        ("<string>", 1, False),
        (1, True, False),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {}, False),
    ],
)
def test_patterns_match_by_type_and_members(pattern: object, value: object, expected: bool) -> None:
    assert matches(pattern, value, {}) is expected
