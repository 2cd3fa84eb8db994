"""Which version is affected, which cannot be judged, and what is not covered."""

import pytest
from packaging.specifiers import SpecifierSet

from jobengine.demo import matching
from jobengine.demo.advisories import Advisory
from jobengine.demo.sbom import Component

PYPI = frozenset({"pypi"})


def advisory(
    *ranges: str,
    source: str = "ghsa",
    advisory_id: str = "GHSA-1",
    cve: str | None = "CVE-2026-0001",
    severity: str | None = "high",
    unreadable: tuple[str, ...] = (),
) -> Advisory:
    return Advisory(
        source=source,
        advisory_id=advisory_id,
        aliases=(cve,) if cve else (),
        ecosystem="pypi",
        package="thing",
        affected=tuple(SpecifierSet(text) for text in ranges),
        unreadable=unreadable,
        severity=severity,
        summary=f"said by {source}",
    )


def component(version: str, ecosystem: str = "pypi", name: str = "thing") -> Component:
    return Component(
        purl=f"pkg:{ecosystem}/{name}@{version}",
        ecosystem=ecosystem,
        name=name,
        version=version,
        locations=("here",),
    )


@pytest.mark.parametrize(
    ("version", "ranges", "affected"),
    [
        ("1.9", ["<2.0"], True),
        ("2.0", ["<2.0"], False),
        ("2.0.0", ["<=2.0"], True),
        ("2.0rc1", ["<2.0"], False),
        ("2.0rc1", [">=1.0,<2.1"], True),
        ("2.0a1", [">=2.0a1,<2.0.3"], True),
        ("1.10", [">=1.9,<1.11"], True),
        ("1!1.0", ["<2.0"], False),
        ("2.0.post1", ["<=2.0"], False),
        ("2.0+local", ["==2.0"], True),
        ("2.5", ["<1.0", ">=2.4,<2.6"], True),
        ("2.5", [], False),
    ],
)
def test_a_version_is_affected_by_pep_440(
    version: str, ranges: list[str], *, affected: bool
) -> None:
    assert matching.judge(version, advisory(*ranges)) == ("affected" if affected else None)


def test_what_pep_440_cannot_read_is_undetermined_unless_a_readable_range_decides() -> None:
    assert matching.judge("1.0", advisory("<0.5", unreadable=("<r52",))) == "undetermined"
    assert matching.judge("0.4", advisory("<0.5", unreadable=("<r52",))) == "affected"
    assert matching.judge("2004c-final", advisory("<0.5")) == "undetermined"


def test_two_sources_on_one_cve_are_one_finding() -> None:
    advisories = [
        advisory("<2.0"),
        advisory("<1.8", source="pyup", advisory_id="pyup.io-7", severity=None),
        advisory("<2.0", advisory_id="GHSA-2", cve=None, severity="low"),
    ]
    (outcome,) = matching.match_all([component("1.5")], advisories, PYPI)
    both, alone = outcome.findings
    assert both.vulnerability == "CVE-2026-0001"
    assert both.sources == ("ghsa", "pyup")
    assert both.advisory_ids == ("GHSA-1", "pyup.io-7")
    assert both.ranges == ("<1.8", "<2.0")
    assert (both.severity, both.summary) == ("high", "said by ghsa")
    assert (alone.vulnerability, alone.severity) == ("GHSA-2", "low")


def test_a_source_that_does_not_call_the_version_affected_is_not_named() -> None:
    advisories = [advisory("<2.0"), advisory("<1.0", source="pyup", advisory_id="pyup.io-7")]
    (outcome,) = matching.match_all([component("1.5")], advisories, PYPI)
    assert [finding.sources for finding in outcome.findings] == [("ghsa",)]


def test_an_ecosystem_without_a_data_set_is_not_covered_even_under_an_equal_name() -> None:
    (outcome,) = matching.match_all([component("1.5", "deb")], [advisory("<2.0")], PYPI)
    assert (outcome.covered, outcome.findings) == (False, ())


def test_every_component_is_in_the_outcome_once_in_order() -> None:
    components = [component("3"), component("1", name="zebra"), component("1", "deb")]
    outcomes = matching.match_all(components, [advisory("<2.0")], PYPI)
    assert [outcome.purl for outcome in outcomes] == sorted(c.purl for c in components)
