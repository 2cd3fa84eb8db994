"""The driver of the demo: a real engine, real workers, a source that refuses and a worker that
dies.

It starts the engine, an upstream on loopback and three workers, begins one run over REST, follows
it by its event stream, kills one worker with SIGKILL while it holds a lease, waits until the run
has ended, proves that nothing was lost (`audit`) and prints a summary.

Invariants:
    I1  Whatever happens, all processes started here have ended when `run_demo` returns.
    I2  It ends: after `DEADLINE_S` it fails, saying which nodes are not done and what holds them.

Not here: what the jobs do (`pipeline`), and whether a run was sound (`audit`).
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO

import attrs
import httpx
from rich.console import Console

from jobengine.demo import advisories, processes, sbom, stub_upstream
from jobengine.demo.api import Api, Dag, Node
from jobengine.demo.audit import Observed, audit
from jobengine.demo.feed import Feed
from jobengine.demo.plan import MATCH, Plan, run_request
from jobengine.demo.progress import Progress, stages
from jobengine.demo.report import from_json
from jobengine.demo.summary import summarise
from jobengine.demo.workspace import Workspace

DEADLINE_S = 120.0
LOOK_S = 0.2
"""How long at least between two looks at the graph."""
QUIET_S = 1.0
"""How long without an event until it is looked at anyway."""
WORKERS = 3
SHARDS = 8
PACE_S = 2.0
"""How long one shard of components is stretched; without it there is no time to kill anyone."""
THROTTLED_SOURCE = "pyup"
THROTTLE_S = 3.0
RETRY_AFTER_S = 1
ENDED = frozenset({"completed", "failed", "cancelled"})
DONE = frozenset({"completed", "cancelled"})
WORKER_TARGET = "jobengine.demo.worker:worker"


class DemoFailedError(RuntimeError):
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
    run_id: str
    api: Api
    feed: Feed
    workspace: Workspace
    upstream: stub_upstream.Upstream
    engine: processes.Process
    workers: Sequence[processes.Process]

    def dag(self) -> Dag:
        """The run's graph as it is now."""
        return self.api.dag(self.run_id)


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
    except (DemoFailedError, processes.ProcessFailedError, httpx.HTTPError) as error:
        console.print(f"demo failed: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1


def _run(plan: Plan, data_dir: Path, console: Console) -> int:
    began = time.monotonic()
    workspace = Workspace(data_dir / "runs" / plan.run)
    with ExitStack() as stack:
        demo, console_url = _start(stack, plan, data_dir, workspace)
        progress = stack.enter_context(Progress(console, f"run {plan.run}"))
        progress.say(f"engine is up: {console_url}")
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
        engine_data=data_dir / "engine",
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
    feed = stack.enter_context(Feed())  # left after the engine, which ends its stream
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
    run_id = api.create_run(run_request(plan, upstream.url)).run_id
    feed.follow(partial(api.events, run_id))
    demo = Underway(plan, run_id, api, feed, workspace, upstream, engine, workers)
    return demo, address.console


def _watch(demo: Underway, progress: Progress, deadline: float) -> Killed:
    """Until the run has ended: show, and kill one worker as soon as it matches components."""
    killed: Killed | None = None
    while time.monotonic() < deadline:
        _check_processes(demo, killed)
        dag = demo.dag()
        progress.update(stages(demo.plan, dag.nodes))
        if killed is None:
            killed = _kill_a_holder(demo, dag.nodes)
            if killed is not None:
                progress.say(f"killed {killed.name} (pid {killed.pid}) while it matched components")
        if dag.state in ENDED:
            if dag.state != "completed":
                raise DemoFailedError(_why(demo, dag))
            if killed is None:
                raise DemoFailedError("the matching was over before a worker could be killed")
            return killed
        time.sleep(LOOK_S)
        demo.feed.wait(QUIET_S)
    raise DemoFailedError(_overdue(demo))


def _kill_a_holder(demo: Underway, nodes: Sequence[Node]) -> Killed | None:
    """Kill a worker that is matching components; None when there is none to be had now.

    It is frozen first, so that what the engine then sees it running is what it dies with.
    """
    running = {node.job_id: node.attempt for node in nodes if node.state == "running"}
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
    running = {node.job_id: node.attempt for node in demo.dag().nodes if node.state == "running"}
    return [
        witness.job_id
        for witness in demo.workspace.witnesses()
        if witness.pid == pid and running.get(witness.job_id) == witness.attempt
    ]


def _check_processes(demo: Underway, killed: Killed | None) -> None:
    for process in (demo.engine, *demo.workers):
        if not process.running and (killed is None or process.pid != killed.pid):
            raise process.failure(f"ended with {process.popen.returncode}")


def _why(demo: Underway, dag: Dag) -> str:
    lines = [f"the run is {dag.state}:"]
    for node in dag.nodes:
        if node.state == "failed":
            error = demo.api.job(node.job_id).error
            why = "no reason given" if error is None else f"{error.class_}: {error.message}"
            lines.append(f"  {node.key} failed in attempt {node.attempt} ({why})")
    return "\n".join(lines)


def _overdue(demo: Underway) -> str:
    lines = [f"not done after {DEADLINE_S:.0f} s:"]
    for node in demo.dag().nodes:
        if node.state not in DONE:
            gates = demo.api.explain(node.job_id).gates
            held = "; ".join(f"{gate.gate} {gate.message}".strip() for gate in gates)
            lines.append(f"  {node.key}: {node.state} {held}".rstrip())
    return "\n".join(lines)


def _observe(demo: Underway, killed: Killed) -> Observed:
    dag = demo.dag()
    return Observed(
        plan=demo.plan,
        run=demo.api.run(demo.run_id),
        dag=dag,
        histories={node.job_id: demo.api.history(node.job_id) for node in dag.nodes},
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
