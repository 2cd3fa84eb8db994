"""Matching components against advisories, exactly.

A component is *affected* by an advisory when one of its ranges contains the version, by PEP 440:
`<2.0` does not contain a pre-release of 2.0; otherwise pre-releases compare like any version. Where
a range or the installed version is not PEP 440, and no readable range already decides it, the
verdict is *undetermined*: reported, not guessed.

A component whose ecosystem no data set covers is *not covered*, which is not the same as clean.

Invariants:
    I1  The outcome holds every component given, once, in the order of its package URL.
    I2  One finding per component and vulnerability: what several sources say about one CVE is one.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from packaging.version import InvalidVersion, Version

from jobengine.demo.advisories import Advisory, worst
from jobengine.demo.sbom import Component

Verdict = Literal["affected", "undetermined"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A vulnerability of one component. `advisory_ids` and `sources` are sorted."""

    purl: str
    vulnerability: str
    verdict: Verdict
    advisory_ids: tuple[str, ...]
    sources: tuple[str, ...]
    severity: str | None
    ranges: tuple[str, ...]
    summary: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What matching found for one component."""

    purl: str
    ecosystem: str
    name: str
    version: str
    covered: bool
    findings: tuple[Finding, ...]


Index = Mapping[str, tuple[Advisory, ...]]
"""Advisories by package name."""


def index(advisories: Iterable[Advisory]) -> Index:
    """Advisories grouped by package; within one, in the order given."""
    grouped: dict[str, list[Advisory]] = {}
    for advisory in advisories:
        grouped.setdefault(advisory.package, []).append(advisory)
    return {package: tuple(listed) for package, listed in grouped.items()}


def match(component: Component, advisories: Index, ecosystems: frozenset[str]) -> Outcome:
    """The outcome for one component. `ecosystems` are those the data sets cover."""
    covered = component.ecosystem in ecosystems
    hits: dict[str, list[tuple[Verdict, Advisory]]] = {}
    for advisory in advisories.get(component.name, ()) if covered else ():
        if advisory.ecosystem != component.ecosystem:
            continue
        verdict = judge(component.version, advisory)
        if verdict is not None:
            hits.setdefault(advisory.identity, []).append((verdict, advisory))
    return Outcome(
        purl=component.purl,
        ecosystem=component.ecosystem,
        name=component.name,
        version=component.version,
        covered=covered,
        findings=tuple(_finding(component, key, hits[key]) for key in sorted(hits)),
    )


def match_all(
    components: Iterable[Component], advisories: Iterable[Advisory], ecosystems: frozenset[str]
) -> tuple[Outcome, ...]:
    """All outcomes, ordered by package URL (I1)."""
    grouped = index(advisories)
    ordered = sorted(components, key=lambda component: component.purl)
    return tuple(match(component, grouped, ecosystems) for component in ordered)


def judge(version: str, advisory: Advisory) -> Verdict | None:
    """Whether the version is affected; None when it is known not to be."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return "undetermined"
    if any(affected.contains(parsed, prereleases=True) for affected in advisory.affected):
        return "affected"
    return "undetermined" if advisory.unreadable else None


def _finding(
    component: Component, vulnerability: str, hits: list[tuple[Verdict, Advisory]]
) -> Finding:
    verdict: Verdict = (
        "affected" if any(found == "affected" for found, _ in hits) else "undetermined"
    )
    deciding = [advisory for found, advisory in hits if found == verdict]
    by_text = max(deciding, key=lambda advisory: (advisory.severity is not None, advisory.source))
    ranges = {
        ",".join(sorted(str(part) for part in affected))
        for advisory in deciding
        for affected in advisory.affected
    }
    return Finding(
        purl=component.purl,
        vulnerability=vulnerability,
        verdict=verdict,
        advisory_ids=tuple(sorted({advisory.advisory_id for advisory in deciding})),
        sources=tuple(sorted({advisory.source for advisory in deciding})),
        severity=worst(advisory.severity for advisory in deciding),
        ranges=tuple(sorted(ranges.union(*(advisory.unreadable for advisory in deciding)))),
        summary=by_text.summary,
    )
