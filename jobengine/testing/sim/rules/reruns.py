"""What runs again.

R36 A rerun is made, once, of a run that has ended: of what did not complete there, of the node that
    was asked for, and of all behind these. The rest is kept.

A map that runs again expands again, so its instances are not among what runs again.

Not here: what becomes of a rerun, which is a run as any (`runs`).
"""

from collections.abc import Mapping

from jobengine.testing.sim.audited import Entry, hold
from jobengine.testing.sim.rules.run_model import JOIN, RunModel, Wanted, is_instance

__all__ = ["begin_rerun"]


def begin_rerun(
    run: RunModel,
    entry: Entry,
    runs: Mapping[str, RunModel],
    states: Mapping[str, str],
    wanted: Wanted,
) -> None:
    """R36; tells a rerun what it is to be."""
    told = f"#{entry['seq']}: run {run.run_id}"
    request = wanted.reruns.get(run.data["runToken"])
    hold(request is not None, "R36", f"{told} runs again what nobody asked for")
    assert request is not None
    earlier = runs.get(run.data["replayOf"])
    same = earlier is not None and earlier.run_id == request["runId"]
    hold(same, "R36", f"{told} runs another run again than {request['runId']}")
    assert earlier is not None
    hold(earlier.ended is not None, "R36", f"{told} repeats what has not ended")
    behind = _behind(earlier)
    again = _again(earlier, behind, states, request.get("key"))
    gone = {
        key for key in (*earlier.nodes, *earlier.kept) if is_instance(key) and _map_of(key) in again
    }
    run.rules, run.kinds, run.behind = dict(earlier.rules), dict(earlier.kinds), behind
    run.kept = {*earlier.nodes, *earlier.kept} - again - gone
    run.asked_for = again - gone
    kept = run.data.get("kept", 0)
    hold(kept == len(run.kept), "R36", f"{told} keeps {kept} nodes, and {len(run.kept)} are right")


def _behind(earlier: RunModel) -> dict[str, set[str]]:
    """Which nodes depend on each. What was kept has no job, and is known from the run before."""
    keys = {job_id: key for key, job_id in earlier.nodes.items()}
    behind = {key: set(children) for key, children in earlier.behind.items()}
    for key, above in earlier.above.items():
        for job_id in above:
            if job_id in keys:
                behind.setdefault(keys[job_id], set()).add(key)
    for key in (*earlier.nodes, *earlier.kept):
        if is_instance(key):
            behind.setdefault(key, set()).add(_map_of(key) + JOIN)
    return behind


def _again(
    earlier: RunModel,
    behind: Mapping[str, set[str]],
    states: Mapping[str, str],
    first: str | None,
) -> set[str]:
    """What did not complete, what was asked for, and all behind these."""
    there = {*earlier.nodes, *earlier.kept}
    reached = [key for key, job_id in earlier.nodes.items() if states[job_id] != "completed"]
    reached += [first] if first is not None else []
    again = set(reached)
    for key in reached:
        for child in behind.get(key, ()):
            if child in there and child not in again:
                again.add(child)
                reached.append(child)
    return again


def _map_of(instance: str) -> str:
    return instance.rpartition("[")[0]
