"""Planning a run and advancing it, in one process: no engine, no database, nothing is stored.

A graph has three edges a node, given in an order of chance. Cases, each at both sizes:

- `plan`: from the list of nodes to a graph that was validated, and its order, levels, width and
  critical path; `rss_mib` is what resident memory grew by, the list of nodes not counted.
- `networkx`: the same from the same list, with its own functions. Its `ratio` is the seconds that
  it takes for each second of ours in the same round.
- `start`: a planner takes the run as committed: the graph again, counts, the first releases.
- `advance`: completions/s that go through the planner, one a message, to the end of the run. Every
  command is answered as performed.

Each case runs in a process of its own, since memory that was given back once is seldom given back
to the system.
"""

import json
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import networkx as nx  # type: ignore[import-untyped]
import trio

from bench.harness.cost import rss_mib_of
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target
from jobengine.core.dag_planner import DagPlanner
from jobengine.domain.graph import Graph, build_graph
from jobengine.domain.instant import Moment
from jobengine.domain.job import State
from jobengine.domain.node import Node
from jobengine.domain.plan import plan_of
from jobengine.domain.run import JobIds
from jobengine.messages.planner_commands import FinishRun, Performed, ReleaseJobs
from jobengine.messages.run_facts import JobEnd, JobsEnded, RunStarted

__all__ = ["run"]

_EDGES_A_NODE: Final = 3
_ESTIMATE_US_MAX: Final = 60_000_000
_NOW: Final = Moment(0.0, 1_767_225_600_000_000)


async def run(options: Options, *, sizes: Sequence[int]) -> Report:
    nowhere = Target(http_url="", worker_url="", token="", tenant="", engine=None, database=None)
    settings = {"sizes": list(sizes), "edges_a_node": _EDGES_A_NODE}
    report = report_on(nowhere, "dag", "seconds", "s", **settings)
    report.versions = {**report.versions, "networkx": nx.__version__}
    report.durability = {"storage": "nothing is stored"}
    for number in range(options.rounds):
        for size in sorted(sizes, reverse=True):
            ours = await _apart("plan", size, number)
            report.add(f"plan {size:,}", **ours)
            theirs = await _apart("networkx", size, number)
            ratio = theirs["seconds"] / ours["seconds"]
            report.add(f"networkx {size:,}", **theirs, ratio=ratio)
            started, advanced = await _apart("advance", size, number)
            report.add(f"start {size:,}", **started)
            report.add(f"advance {size:,}", **advanced)
    return report


async def _apart(case: str, size: int, seed: int) -> Any:
    """What the case measures, in a process of its own."""
    command = [sys.executable, "-m", "bench.dag", case, str(size), str(seed)]
    done = await trio.run_process(command, capture_stdout=True)
    return json.loads(done.stdout)


def _nodes(size: int, seed: int) -> tuple[list[Node], list[int]]:
    """Acyclic by a hidden order, listed in another; with estimates in that of the list."""
    chance = random.Random(seed)
    keys = [f"node-{number:06}" for number in range(size)]
    chance.shuffle(keys)
    nodes = []
    for number, key in enumerate(keys):
        count = min(number, _EDGES_A_NODE)
        sources = chance.sample(range(number), count)
        nodes.append(Node(key=key, depends_on=tuple(keys[source] for source in sources)))
    chance.shuffle(nodes)
    return nodes, [chance.randrange(_ESTIMATE_US_MAX) for _ in range(size)]


def _measured(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    before_mib, began_at = rss_mib_of(os.getpid()), time.perf_counter()
    cpu_at = time.thread_time()
    made = work()
    figures = {
        "seconds": time.perf_counter() - began_at,
        "cpu_s": time.thread_time() - cpu_at,
        "rss_mib": rss_mib_of(os.getpid()) - before_mib,
    }
    return figures, made


def _plan(size: int, seed: int) -> Any:
    nodes, estimates = _nodes(size, seed)

    def work() -> Any:
        graph = build_graph(nodes)
        assert isinstance(graph, Graph)
        return graph, plan_of(graph, estimates)

    figures, (graph, plan) = _measured(work)
    return figures | {
        "edges": graph.edge_count,
        "width": plan.width,
        "critical_us": plan.critical_us,
    }


def _networkx(size: int, seed: int) -> Any:
    nodes, estimates = _nodes(size, seed)

    def work() -> Any:
        graph: nx.DiGraph[str] = nx.DiGraph()
        took = dict(zip((node.key for node in nodes), estimates, strict=True))
        graph.add_nodes_from(took)
        graph.add_node("")  # the end, so that the last node's own estimate counts
        for node in nodes:
            graph.add_edge(node.key, "", weight=took[node.key])
            for source in node.depends_on:
                graph.add_edge(source, node.key, weight=took[source])
        assert nx.is_directed_acyclic_graph(graph)
        order = list(nx.lexicographical_topological_sort(graph))
        path = nx.dag_longest_path(graph, topo_order=order)
        critical_us = sum(took[key] for key in path[:-1])
        levels = list(nx.topological_generations(graph))
        return graph, levels, critical_us

    figures, (graph, levels, critical_us) = _measured(work)
    edges = graph.number_of_edges() - size
    return figures | {"edges": edges, "width": max(map(len, levels)), "critical_us": critical_us}


def _advance(size: int, seed: int) -> Any:
    nodes, _ = _nodes(size, seed)
    ids = JobIds("bench", "token", _NOW.at)
    key_of = {ids.of(node.key): node.key for node in nodes}
    planner = DagPlanner()
    told = RunStarted(
        tenant_id="bench", run_id="run", run_token="token", created_at=_NOW.at, nodes=nodes
    )
    started, commands = _measured(lambda: planner.handle(told, _NOW))

    def work() -> int:
        waiting, completed = deque(commands), 0
        while waiting:
            command = waiting.popleft()
            if isinstance(command, ReleaseJobs):
                for job_id in command.job_ids:
                    end = JobEnd(key_of[job_id], State.COMPLETED)
                    waiting.extend(planner.handle(JobsEnded(run_id="run", ends=(end,)), _NOW))
                    completed += 1
            else:
                assert isinstance(command, FinishRun)
            waiting.extend(planner.handle(Performed(stamp=command.stamp), _NOW))
        return completed

    advanced, completed = _measured(work)
    assert completed == size
    assert not planner.live_runs
    return started, advanced | {"completions_per_s": size / advanced["seconds"]}


_CASES: Final = {"plan": _plan, "networkx": _networkx, "advance": _advance}

if __name__ == "__main__":
    print(json.dumps(_CASES[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))))
