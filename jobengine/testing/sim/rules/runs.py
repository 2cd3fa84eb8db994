"""Runs.

R25 A node is let go only when its rule is met by what the ledger has of its dependencies, and is
    given up for them only when it never will be.
R26 A run ends, once, when all of its nodes have ended and not before; its state follows from
    theirs, and its counts are theirs.
R27 The nodes of a run are those that were asked for, each once, and children of maps; a growth is
    there as a whole or not at all, and if it was accepted it is. Each token has one run.
R37 A node that stands for a run ends after that run and as it did; one that waits for an answer
    ends as somebody answered.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from jobengine.testing.sim.audited import FINAL, AuditedLedger, Entry, hold
from jobengine.testing.sim.rules.evidence import Evidence
from jobengine.testing.sim.rules.reruns import begin_rerun
from jobengine.testing.sim.rules.run_model import JOIN, RunModel, Wanted

__all__ = ["judge_runs"]

_ENDS: Final = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
}


def judge_runs(evidence: Evidence) -> None:
    for ledger in evidence.ledgers.values():
        _Runs(ledger, Wanted.of(evidence.journal, ledger.tenant_id)).judge()


class _Runs:
    """The runs of one ledger, entry by entry."""

    def __init__(self, ledger: AuditedLedger, wanted: Wanted) -> None:
        self._ledger = ledger
        self._wanted = wanted
        self._runs: dict[str, RunModel] = {}
        self._sub_runs: dict[tuple[str, str], RunModel] = {}
        self._tokens: set[str] = set()
        self._states: dict[str, str] = {}

    def judge(self) -> None:
        for entry in self._ledger.entries:
            data, kind = entry.get("data"), entry["kind"]
            if kind == "run.created":
                self._begin(entry, entry["data"])
            elif kind.startswith("run.") and "job" not in entry and isinstance(data, dict):
                run = self._runs[data["runId"]]
                run.cancel_asked |= kind == "run.cancel_requested"
                if kind in _ENDS:
                    self._end(run, entry)
            elif entry.get("job"):
                self._step(entry)
        for run in self._runs.values():
            hold(run.ended is not None, "R26", f"run {run.run_id} has not ended")
            self._judge_nodes(run)

    def _begin(self, entry: Entry, data: dict[str, Any]) -> None:
        run_id, token = data["runId"], data["runToken"]
        hold(run_id not in self._runs, "R27", f"#{entry['seq']}: run {run_id} is created twice")
        hold(token not in self._tokens, "R27", f"#{entry['seq']}: {token} has a run already")
        self._tokens.add(token)
        run = RunModel(run_id, data)
        nodes = self._wanted.runs.get(token) or self._wanted.dags.get(data.get("dagId", ""))
        if nodes is not None:
            run.learn(nodes)
            run.asked_for = {node["key"] for node in nodes}
            run.asked_for |= {node["key"] + JOIN for node in nodes if node.get("kind") == "map"}
        if "replayOf" in data:
            begin_rerun(run, entry, self._runs, self._states, self._wanted)
        if "parentRun" in data:
            self._sub_runs[data["parentRun"], data["parentKey"]] = run
        for growth in self._growths(run_id):
            run.learn(growth.nodes)
        self._runs[run_id] = run

    def _growths(self, run_id: str) -> list[Any]:
        return list(self._wanted.growths.get(run_id, {}).values())

    def _judge_nodes(self, run: RunModel) -> None:
        """R27."""
        expected = run.asked_for
        for growth in self._growths(run.run_id):
            there = growth.keys & run.nodes.keys()
            whole = there == growth.keys or (not there and not growth.accepted)
            hold(whole, "R27", f"run {run.run_id} grew by {sorted(there)} of {sorted(growth.keys)}")
            if there and expected is not None:
                maps = {each["key"] + JOIN for each in growth.nodes if each.get("kind") == "map"}
                expected = expected | there | maps
        if expected is not None:
            made = {key for key in run.nodes if not _is_expanded(key, run)}
            wrong = sorted(made ^ {key for key in expected if not _is_expanded(key, run)})
            hold(not wrong, "R27", f"run {run.run_id} has other nodes than asked for: {wrong}")

    def _step(self, entry: Entry) -> None:
        job_id, after = entry["job"], entry.get("to")
        definition = self._ledger.jobs[job_id].definition
        run, states = self._runs.get(definition.get("runId", "")), self._states
        if run is None:
            return
        key = definition["nodeKey"]
        told = f"#{entry['seq']}: node {key} of run {run.run_id}"
        if entry["kind"] == "job.created":
            hold(key not in run.nodes and key not in run.kept, "R27", f"{told} is there already")
            run.add(self._ledger, key, job_id, self._growths(run.run_id))
        elif entry.get("from") == "pending":
            hold(run.ended is None, "R26", f"{told} moves behind the run's end")
            if after == "scheduled":
                verdict = run.may_join(key, states) or run.verdict(key, states)
                hold(verdict == "fire", "R25", f"{told} starts; its rule says {verdict}")
            elif entry.get("reason") == "upstream_failed":
                run.given_up[key] = told
        elif after in ("completed", "failed"):
            self._judge_workerless(run, key, str(after), told)
        if after is not None:
            states[job_id] = after

    def _judge_workerless(self, run: RunModel, key: str, after: str, told: str) -> None:
        """Why a node came to this end that no worker has."""
        if key.endswith(JOIN):
            verdict = run.verdict(key, self._states)
            right = (verdict == "fire") == (after == "completed")
            hold(right, "R25", f"{told} is {after}: {verdict}")
            return
        kind = run.kinds.get(key)
        if kind in ("approval", "callback"):
            answers = self._wanted.answers.get((run.run_id, key), set())
            wanted = (after == "completed") in answers
            hold(wanted, "R37", f"{told} is {after}, which nobody answered")
        elif kind == "sub_run":
            stands_for = self._sub_runs.get((run.run_id, key))
            state = None if stands_for is None else stands_for.state
            hold(state == after, "R37", f"{told} is {after}, and its run {state or 'has no end'}")

    def _end(self, run: RunModel, entry: Entry) -> None:
        states, data, state = self._states, entry["data"], _ENDS[entry["kind"]]
        told = f"#{entry['seq']}: run {run.run_id}"
        hold(run.ended is None, "R26", f"{told} ends twice")
        run.ended, run.state = entry, state
        ends: Counter[str] = Counter(states[job_id] for job_id in run.nodes.values())
        ends["completed"] += len(run.kept)
        open_now = [key for key, job_id in run.nodes.items() if states[job_id] not in FINAL]
        hold(not open_now, "R26", f"{told} ends before its nodes {open_now}")
        for key, words in run.given_up.items():
            verdict = run.verdict(key, states)
            hold(verdict == "never", "R25", f"{words} is given up; its rule says {verdict}")
        for each in ("completed", "failed", "cancelled"):
            same = data[each] == ends[each]
            hold(same, "R26", f"{told} counts {data[each]} {each}, and {ends[each]} are")
        _judge_state(run, ends, told)


def _judge_state(run: RunModel, ends: Mapping[str, int], told: str) -> None:
    may_be = {
        "completed": not ends["failed"] and not run.cancel_asked,
        "failed": bool(ends["failed"]),
        "cancelled": run.cancel_asked or bool(ends["cancelled"]),
    }
    hold(may_be[run.state], "R26", f"{told} ends {run.state} after {dict(ends)}")


def _is_expanded(key: str, run: RunModel) -> bool:
    """An instance of a map of this very run, which nobody asked for by name."""
    opener, bracket, number = key.rpartition("[")
    return bool(bracket) and number != "]" and opener in run.nodes
