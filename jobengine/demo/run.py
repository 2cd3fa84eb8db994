"""The driver of the demo: a real engine, real workers, a source that refuses and a worker that
dies.

It starts the engine, an upstream on loopback and three workers, submits the first jobs over REST,
kills one worker with SIGKILL while it holds a lease, waits for the report, proves that nothing was
lost (`audit`) and prints a summary.

Invariants:
    I1  Whatever happens, all processes started here have ended when `run_demo` returns.
    I2  It ends: after `DEADLINE_S` it fails, saying which jobs are not done and what holds them.

Not here: what the jobs do (`pipeline`), and whether a run was sound (`audit`).
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TextIO

import attrs
import httpx
from rich.console import Console

from jobengine.demo import advisories, processes, sbom, stub_upstream
from jobengine.demo.api import Api, Job
from jobengine.demo.audit import Observed, audit
from jobengine.demo.plan import MATCH, REPORT, RUN_LABEL, Plan, first_jobs
from jobengine.demo.progress import Progress, stages
from jobengine.demo.report import from_json
from jobengine.demo.summary import summarise
from jobengine.demo.workspace import Workspace

DEADLINE_S = 120.0
POLL_S = 0.2
WORKERS = 3
SHARDS = 8
PACE_S = 2.0
"""How long one shard of components is stretched; without it there is no time to kill anyone."""
THROTTLED_SOURCE = "pyup"
THROTTLE_S = 3.0
RETRY_AFTER_S = 1
FINAL = frozenset({"completed", "cancelled"})
WORKER_TARGET = "jobengine.demo.worker:worker"


class DemoFailed(RuntimeError):
    """The run did not come to its end; the text is for people."""


@attrs.frozen
class Killed:
    """The worker that was killed and the jobs it was working on then."""

    name: str
    pid: int
    job_ids: Sequence[str]


@attrs.frozen
class Underway:
    """A demo under way: what the steps of the driver share."""

    plan: Plan
    api: Api
    workspace: Workspace
    upstream: stub_upstream.Upstream
    engine: processes.Process
    workers: Sequence[processes.Process]

    def jobs(self) -> Sequence[Job]:
        """The run's jobs, in the order of creation."""
        return self.api.jobs({RUN_LABEL: self.plan.run})


def run_demo(*, data_dir: Path, output: TextIO) -> int:
    """Run the demo once; answers the exit code, 0 only if nothing was lost.

    The engine's data, the logs and the report are left in `data_dir`. Interrupted (SIGINT or
    SIGTERM), it ends all processes and raises `KeyboardInterrupt`.
    """
    console = Console(file=output)
    began = datetime.now(UTC)
    plan = Plan(
        run=f"demo-{began:%Y%m%dT%H%M%S}",
        created_at=int(began.timestamp()) * 1_000_000,
        shards=SHARDS,
        sources=tuple(sorted(advisories.DATA_SETS)),
    )
    try:
        with _terminate_as_interrupt():
            return _run(plan, data_dir.resolve(), console)
    except (DemoFailed, processes.ProcessFailed, httpx.HTTPError) as error:
        console.print(f"demo failed: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1


def _run(plan: Plan, data_dir: Path, console: Console) -> int:
    began = time.monotonic()
    workspace = Workspace(data_dir / "runs" / plan.run)
    with ExitStack() as stack:
        demo, console_url = _start(stack, plan, data_dir, workspace)
        progress = stack.enter_context(Progress(console, f"run {plan.run}"))
        progress.say(f"engine is up: {console_url}")
        for job in first_jobs(plan, demo.upstream.url):
            demo.api.submit(job)
        killed = _watch(demo, progress, began + DEADLINE_S)
        observed = _observe(demo, killed)
    problems = audit(observed)
    summarise(
        console,
        observed,
        killed=killed.name,
        throttled_source=THROTTLED_SOURCE,
        took_s=time.monotonic() - began,
        root=workspace.root,
    )
    for problem in problems:
        console.print(f"LOST: {problem}", markup=False, highlight=False, soft_wrap=True)
    return 1 if problems else 0


def _start(
    stack: ExitStack, plan: Plan, data_dir: Path, workspace: Workspace
) -> tuple[Underway, str]:
    logs = workspace.root / "logs"
    upstream = stub_upstream.Upstream(
        shards={
            source: advisories.raw_shards(advisories.DATA_SETS[source], plan.shards)
            for source in plan.sources
        },
        throttled_source=THROTTLED_SOURCE,
        throttle_s=THROTTLE_S,
        retry_after_s=RETRY_AFTER_S,
    )
    stack.enter_context(stub_upstream.serve(upstream))
    engine, address = stack.enter_context(processes.engine(data_dir / "engine", logs))
    environ = {
        "JOBENGINE_DEMO_WORKSPACE": str(workspace.root),
        "JOBENGINE_DEMO_PACE_S": str(PACE_S),
    }
    workers = [
        stack.enter_context(
            processes.worker(f"worker-{number}", WORKER_TARGET, address, environ, logs)
        )
        for number in range(1, WORKERS + 1)
    ]
    api = Api(address.http, token=address.token, tenant=address.tenant)
    stack.callback(api.close)
    return Underway(plan, api, workspace, upstream, engine, workers), address.console


def _watch(demo: Underway, progress: Progress, deadline: float) -> Killed:
    """Until the report is written: show, and kill one worker as soon as it matches components."""
    killed: Killed | None = None
    while time.monotonic() < deadline:
        _check_processes(demo, killed)
        jobs = demo.jobs()
        progress.update(stages(demo.plan, jobs))
        if killed is None:
            killed = _kill_a_holder(demo, jobs)
            if killed is not None:
                progress.say(f"killed {killed.name} (pid {killed.pid}) while it matched components")
        if _finished(jobs):
            if killed is None:
                raise DemoFailed("the matching was over before a worker could be killed")
            return killed
        _check_dead_letters(demo, jobs)
        time.sleep(POLL_S)
    raise DemoFailed(_overdue(demo))


def _finished(jobs: Sequence[Job]) -> bool:
    """The report is written and nothing is left to do, such as an attempt taken over late."""
    return all(job.state in FINAL for job in jobs) and any(job.job_type == REPORT for job in jobs)


def _kill_a_holder(demo: Underway, jobs: Sequence[Job]) -> Killed | None:
    """Kill a worker that is matching components; None when there is none to be had now.

    It is frozen first, so that what the engine then sees it running is what it dies with.
    """
    running = {job.job_id: job.attempt for job in jobs if job.state == "running"}
    by_pid = {worker.pid: worker for worker in demo.workers}
    for witness in demo.workspace.witnesses():
        if witness.job_type == MATCH and running.get(witness.job_id) == witness.attempt:
            victim = by_pid.get(witness.pid)
            if victim is not None:
                victim.freeze()
                held = _held_by(demo, victim.pid)
                if not held:
                    victim.thaw()
                    continue
                victim.kill()
                return Killed(victim.name, victim.pid, held)
    return None


def _held_by(demo: Underway, pid: int) -> Sequence[str]:
    """Jobs that the engine sees running in an attempt which this process began."""
    running = {job.job_id: job.attempt for job in demo.jobs() if job.state == "running"}
    return [
        witness.job_id
        for witness in demo.workspace.witnesses()
        if witness.pid == pid and running.get(witness.job_id) == witness.attempt
    ]


def _check_processes(demo: Underway, killed: Killed | None) -> None:
    for process in (demo.engine, *demo.workers):
        if not process.running and (killed is None or process.pid != killed.pid):
            raise process.failure(f"ended with {process.popen.returncode}")


def _check_dead_letters(demo: Underway, jobs: Sequence[Job]) -> None:
    if not any(job.state == "failed" for job in jobs):
        return
    errors = {job.job_id: job.error for job in jobs}
    for letter in demo.api.dead_letters():
        if letter.job_id in errors:
            error = errors[letter.job_id]
            why = "no reason given" if error is None else f"{error.class_}: {error.message}"
            raise DemoFailed(f"{letter.job_type} {letter.job_id} is a dead letter ({why})")


def _overdue(demo: Underway) -> str:
    lines = [f"not done after {DEADLINE_S:.0f} s:"]
    for job in demo.jobs():
        if job.state not in FINAL:
            gates = demo.api.explain(job.job_id).gates
            held = "; ".join(f"{gate.gate} {gate.message}".strip() for gate in gates)
            lines.append(f"  {job.job_type} {job.job_id}: {job.state} {held}".rstrip())
    return "\n".join(lines)


def _observe(demo: Underway, killed: Killed) -> Observed:
    jobs = demo.jobs()
    return Observed(
        plan=demo.plan,
        jobs=jobs,
        histories={job.job_id: demo.api.history(job.job_id) for job in jobs},
        dead_letters=demo.api.dead_letters(),
        witnesses=list(demo.workspace.witnesses()),
        refusals=demo.upstream.refused.total(),
        killed_pid=killed.pid,
        killed_jobs=killed.job_ids,
        components=sbom.read((demo.workspace.root / "sbom.cdx.json").read_bytes()),
        report=from_json((demo.workspace.root / "report.json").read_bytes()),
    )


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM raises `KeyboardInterrupt`, so that the processes end with us. Main thread only."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
