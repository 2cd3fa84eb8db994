"""The closing lines of a demo run: what was done, what was survived, what was found."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from jobengine.demo import advisories
from jobengine.demo.audit import Observed
from jobengine.demo.progress import stage_table, stages
from jobengine.demo.report import Report


def summarise(
    console: Console,
    observed: Observed,
    *,
    killed: str,
    throttled_source: str,
    took_s: float,
    root: Path,
) -> None:
    """Print it. `killed` names the worker; `root` is where the report and the SBOM are."""
    counted = stages(observed.plan, observed.jobs)
    console.print(stage_table(counted, f"run {observed.plan.run}"))
    jobs, attempts = sum(s.completed for s in counted), sum(s.attempts for s in counted)
    expired = sum(
        step.to == "failed" and step.reason == "lease_expired"
        for history in observed.histories.values()
        for step in history
    )
    rows: Mapping[str, str] = {
        "jobs": f"{jobs} completed in {attempts} attempts, {attempts - jobs} of them retries",
        "rate limit": f"{observed.refusals} answers 429 from {throttled_source}, all retried",
        "killed": f"{killed} by SIGKILL; leases that expired and were taken over: {expired}",
        "components": _components(observed.report),
        "findings": _findings(observed.report),
        "seconds": f"{took_s:.1f}",
        "report": str(root / "report.md"),
        "SBOM": str(root / "sbom.cdx.json"),
    }
    for name, text in rows.items():
        console.print(f"{name:<11} {text}", soft_wrap=True, markup=False, highlight=False)


def _components(report: Report) -> str:
    parts = (
        f"{count} {ecosystem}"
        + (" (no data set covers them)" if ecosystem in report.not_covered else "")
        for ecosystem, count in report.components.items()
    )
    return f"{len(report.outcomes)} matched once each: {', '.join(parts)}"


def _findings(report: Report) -> str:
    severities = Counter(
        finding.severity or "unknown"
        for outcome in report.outcomes
        for finding in outcome.findings
        if finding.verdict == "affected"
    )
    ranks = (*advisories.SEVERITIES, "unknown")
    parts = ", ".join(f"{severities[rank]} {rank}" for rank in ranks if severities[rank])
    return f"{report.findings} ({parts})" if parts else "0"
