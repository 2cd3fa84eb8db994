"""The report: every component's outcome as JSON, and the findings for people as Markdown.

Both are functions of their arguments, so writing the report again gives the same bytes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from jobengine.demo.advisories import SEVERITIES, DataSet
from jobengine.demo.matching import Finding, Outcome


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A data set as it was used. `unreadable` counts ranges that are not PEP 440."""

    source: str
    title: str
    package: str
    version: str
    licence: str
    ecosystem: str
    advisories: int
    unreadable: int


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`outcomes` are ordered by package URL; `sbom` is the digest of the bill of materials."""

    run: str
    created_at: str
    sbom: str
    sources: tuple[SourceFacts, ...]
    components: dict[str, int]
    not_covered: dict[str, int]
    findings: int
    undetermined: int
    outcomes: tuple[Outcome, ...]


def source_facts(data_set: DataSet, *, advisories: int, unreadable: int) -> SourceFacts:
    """What the report says about a data set."""
    return SourceFacts(
        source=data_set.source,
        title=data_set.title,
        package=data_set.distribution,
        version=data_set.version,
        licence=data_set.licence,
        ecosystem=data_set.ecosystem,
        advisories=advisories,
        unreadable=unreadable,
    )


def summarise(
    *,
    run: str,
    created_at: int,
    sbom: str,
    sources: Sequence[SourceFacts],
    outcomes: Iterable[Outcome],
) -> Report:
    """The report. `created_at` is in microseconds UTC."""
    ordered = tuple(sorted(outcomes, key=lambda outcome: outcome.purl))
    uncovered = (outcome.ecosystem for outcome in ordered if not outcome.covered)
    findings = [finding for outcome in ordered for finding in outcome.findings]
    return Report(
        run=run,
        created_at=datetime.fromtimestamp(created_at // 1_000_000, UTC).isoformat(),
        sbom=sbom,
        sources=tuple(sources),
        components=dict(sorted(Counter(outcome.ecosystem for outcome in ordered).items())),
        not_covered=dict(sorted(Counter(uncovered).items())),
        findings=sum(finding.verdict == "affected" for finding in findings),
        undetermined=sum(finding.verdict == "undetermined" for finding in findings),
        outcomes=ordered,
    )


def to_json(report: Report) -> bytes:
    """The whole report; `from_json` is the inverse."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def from_json(data: bytes) -> Report:
    """Raises `msgspec.ValidationError` on anything that is not a report."""
    return msgspec.json.decode(data, type=Report)


def to_markdown(report: Report) -> str:
    """The report for people: what was looked at, what was found, what could not be judged."""
    parts = [
        "# Advisories for the packages of this machine",
        f"Run `{report.run}`, {report.created_at}. SBOM `sha256:{report.sbom}`.",
        "## Data sets",
        _table(
            ("source", "data set", "package", "licence", "advisories", "unreadable ranges"),
            (
                (
                    facts.source,
                    facts.title,
                    f"{facts.package} {facts.version}",
                    facts.licence,
                    str(facts.advisories),
                    str(facts.unreadable),
                )
                for facts in report.sources
            ),
        ),
        "## Components",
        _table(
            ("ecosystem", "components", "covered by a data set"),
            (
                (ecosystem, str(count), str(count - report.not_covered.get(ecosystem, 0)))
                for ecosystem, count in report.components.items()
            ),
        ),
    ]
    if report.not_covered:
        names = ", ".join(report.not_covered)
        parts.append(f"Nothing is said about {names}: no data set here has advisories for it.")
    affected = _by_severity(report, "affected")
    parts += [f"## Findings: {len(affected)}", _findings(affected)]
    if undetermined := _by_severity(report, "undetermined"):
        parts += [f"## Undetermined: {len(undetermined)}", _findings(undetermined)]
    return "\n\n".join(parts) + "\n"


def _by_severity(report: Report, verdict: str) -> list[Finding]:
    def rank(finding: Finding) -> tuple[int, str, str]:
        known = finding.severity in SEVERITIES
        level = SEVERITIES.index(finding.severity or "") if known else len(SEVERITIES)
        return level, finding.purl, finding.vulnerability

    findings = (finding for outcome in report.outcomes for finding in outcome.findings)
    return sorted((found for found in findings if found.verdict == verdict), key=rank)


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "None."
    return _table(
        ("severity", "component", "vulnerability", "affected versions", "sources", "summary"),
        (
            (
                finding.severity or "unknown",
                f"`{finding.purl}`",
                finding.vulnerability,
                " or ".join(f"`{part}`" for part in finding.ranges),
                ", ".join(finding.sources),
                finding.summary,
            )
            for finding in findings
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return escaped if "`" in text else escaped.replace("<", "&lt;")
