"""The closing lines of a demo run: what was done, what was survived, what was found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from jobengine.demo import advisories
from jobengine.demo.api import Dag, Node, Run
from jobengine.demo.audit import Observed
from jobengine.demo.plan import JOIN, MAP
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
    engine_data: Path,
) -> None:
    """Print it. `killed` names the worker; `root` is where the report and the SBOM are."""
    counted = stages(observed.plan, observed.dag.nodes)
    console.print(stage_table(counted, f"run {observed.plan.run}"))
    worked = [stage for stage in counted if stage.job_type not in (MAP, JOIN)]
    jobs, attempts = sum(s.completed for s in worked), sum(s.attempts for s in worked)
    expired = sum(
        step.to == "failed" and step.reason == "lease_expired"
        for history in observed.histories.values()
        for step in history
    )
    rows: Mapping[str, str] = {
        "run": _run(observed.run, observed.dag),
        "critical path": _path(observed.run, observed.dag),
        "jobs": f"{jobs} completed in {attempts} attempts, {attempts - jobs} of them retries",
        "rate limit": f"{observed.refusals} answers 429 from {throttled_source}, all retried",
        "killed": f"{killed} by SIGKILL; leases that expired and were taken over: {expired}",
        "components": _components(observed.report),
        "findings": _findings(observed.report),
        "seconds": f"{took_s:.1f}",
        "report": str(root / "report.md"),
        "SBOM": str(root / "sbom.cdx.json"),
        "look again": (
            f"jobengine up --data {engine_data}, then jobengine run gantt {observed.run.run_id}"
        ),
    }
    for name, text in rows.items():
        console.print(f"{name:<13} {text}", soft_wrap=True, markup=False, highlight=False)


def critical_path(dag: Dag, started_at: datetime) -> Sequence[tuple[Node, float]]:
    """What the end of an ended run waited for: of each node on it, the dependency that ended last.

    Only nodes with a worker; the seconds of each count from the end of the one before, in which it
    queued, was tried and retried, so they add up to the run's.
    """
    ends = {
        node.key: (node.finished_at, place)
        for place, node in enumerate(dag.nodes)
        if node.finished_at is not None
    }
    by_key = {node.key: node for node in dag.nodes}
    before: dict[str, list[str]] = {}
    for source, target in dag.edges:
        before.setdefault(target, []).append(source)
    path, key = list[Node](), max(ends, key=ends.__getitem__, default=None)
    while key is not None:
        path.append(by_key[key])
        ended = [parent for parent in before.get(key, ()) if parent in ends]
        key = max(ended, key=ends.__getitem__, default=None)
    steps, since = [], started_at
    for node in reversed(path):
        if node.kind == "job" and node.finished_at is not None:
            steps.append((node, (node.finished_at - since).total_seconds()))
            since = node.finished_at
    return steps


def _run(run: Run, dag: Dag) -> str:
    states = Counter(node.state for node in dag.nodes)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    took_s = (run.duration_ms or 0) / 1000
    return f"{run.state} in {took_s:.1f} s; {run.nodes} nodes: {counted}"


def _path(run: Run, dag: Dag) -> str:
    if run.started_at is None:
        return "none: it has not started"
    steps = critical_path(dag, run.started_at)
    return " → ".join(f"{node.key} {seconds:.1f} s" for node, seconds in steps)


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
