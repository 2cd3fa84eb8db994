"""Published advisories: sharding, reading, encoding, on the real data sets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from jobengine.demo import advisories
from jobengine.demo.advisories import DATA_SETS


@pytest.mark.parametrize("source", sorted(DATA_SETS))
def test_every_published_entry_is_in_exactly_one_shard(source: str) -> None:
    (whole,) = advisories.raw_shards(DATA_SETS[source], 1)
    parts = [json.loads(shard) for shard in advisories.raw_shards(DATA_SETS[source], 8)]
    packages = [package for part in parts for package in part]
    assert len(packages) == len(set(packages)) > 1000
    assert {name: listed for part in parts for name, listed in part.items()} == json.loads(whole)
    assert all(len(part) > 50 for part in parts)


@pytest.mark.parametrize("source", sorted(DATA_SETS))
def test_no_published_range_is_lost_and_encoding_is_reversible(source: str) -> None:
    (whole,) = advisories.raw_shards(DATA_SETS[source], 1)
    records = advisories.normalise(source, whole)
    published = {
        (package.lower(), text)
        for package, listed in json.loads(whole).items()
        for entry in listed
        for text in entry.get("specs", [entry["v"]])
    }
    ranges = sum(len(record.affected) + len(record.unreadable) for record in records)
    assert len(records) > 2500
    assert ranges >= 0.5 * len(published)
    assert 0 < sum(len(record.unreadable) for record in records) < 30
    assert advisories.decode(advisories.encode(records)) == records
    assert [(r.package, r.advisory_id) for r in records] == sorted(
        {(r.package, r.advisory_id) for r in records}
    )


def test_the_well_known_setuptools_advisory_is_read_as_published() -> None:
    shard = advisories.raw_shards(DATA_SETS["ghsa"], 8)[advisories.shard_of("setuptools", 8)]
    (record,) = [
        record
        for record in advisories.normalise("ghsa", shard)
        if record.package == "setuptools" and record.identity == "CVE-2024-6345"
    ]
    assert record.advisory_id == "GHSA-cx63-2mw6-8hw5"
    assert record.affected == (SpecifierSet("<70.0.0"),)
    assert record.severity == "high"


def test_several_ranges_of_one_advisory_become_one_record_with_the_worst_severity() -> None:
    common = {"id": "GHSA-1", "cve": "CVE-2026-0001", "advisory": "two\n lines"}
    raw = json.dumps(
        {
            "Some_Package": [
                {**common, "severity": "LOW", "v": "<1.2"},
                {**common, "severity": "HIGH", "v": ">=2.0,<2.3"},
                {**common, "severity": "LOW", "v": "<7.2.0-12.1"},
            ]
        }
    ).encode()
    (record,) = advisories.normalise("ghsa", raw)
    assert record.package == "some-package"
    assert record.affected == (SpecifierSet("<1.2"), SpecifierSet(">=2.0,<2.3"))
    assert record.unreadable == ("<7.2.0-12.1",)
    assert (record.severity, record.summary) == ("high", "two lines")


@pytest.mark.parametrize("raw", [b"[]", b'{"p": [{"id": "x"}]}', b'{"p": 3}', b"no json"])
def test_bytes_that_are_no_shard_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        advisories.normalise("ghsa", raw)


@given(st.sampled_from(["Zope.Interface", "zope_interface", "ZOPE-interface"]), st.integers(1, 64))
def test_names_that_are_equal_under_pep_503_share_a_shard(name: str, shards: int) -> None:
    assert advisories.shard_of(name, shards) == advisories.shard_of("zope-interface", shards)
    assert 0 <= advisories.shard_of(name, shards) < shards
