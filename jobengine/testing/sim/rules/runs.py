"""Runs.

R25 A node is let go only when its rule is met by what the ledger has of its dependencies, and is
    given up for them only when it never will be.
R26 A run ends, once, when all of its nodes have ended and not before; its state follows from
    theirs, and its counts are theirs.
R27 The nodes of a run are those that were asked for, each once, and children of maps.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from jobengine.testing.sim.audited import FINAL, AuditedLedger, Entry, hold
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_runs"]

_ENDS: Final = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
}
_JOIN: Final = "[]"


@attrs.define(eq=False)
class _Run:
    """A run as the ledger has it. `nodes` are job ids by key, `above` those that each depends on,
    `triggers` the rules; `given_up` has the nodes that are cancelled for what is above them, with
    the words for it."""

    run_id: str
    token: str
    nodes: dict[str, str] = attrs.field(factory=dict)
    above: dict[str, Sequence[str]] = attrs.field(factory=dict)
    triggers: Mapping[str, str] = attrs.field(factory=dict)
    given_up: dict[str, str] = attrs.field(factory=dict)
    cancel_asked: bool = False
    ended: Entry | None = None

    def children(self, join: str) -> list[str]:
        """The jobs of the map that this node joins."""
        stem = join.removesuffix(_JOIN) + "["
        return [
            job_id for key, job_id in self.nodes.items() if key.startswith(stem) and key != join
        ]


def judge_runs(evidence: Evidence) -> None:
    wanted = {
        (asked.tenant_id, asked.about["runToken"]): asked.about["jobs"]
        for asked in evidence.journal.asked
        if asked.verb == "run"
    }
    for ledger in evidence.ledgers.values():
        for run in _replay(ledger, wanted):
            hold(run.ended is not None, "R26", f"run {run.run_id} has not ended")
            nodes = wanted.get((ledger.tenant_id, run.token))
            if nodes is not None:
                asked_for = {node["key"] for node in nodes}
                made = {key for key in run.nodes if not key.endswith("]")}
                hold(made == asked_for, "R27", f"run {run.run_id} has other nodes than asked for")


def _replay(
    ledger: AuditedLedger, wanted: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
) -> list[_Run]:
    runs: dict[str, _Run] = {}
    states: dict[str, str] = {}
    for entry in ledger.entries:
        data, kind = entry.get("data"), entry["kind"]
        if kind == "run.created":
            run_id, token = entry["data"]["runId"], entry["data"]["runToken"]
            hold(run_id not in runs, "R27", f"#{entry['seq']}: run {run_id} is created twice")
            nodes = wanted.get((ledger.tenant_id, token), ())
            triggers = {node["key"]: node["trigger"] for node in nodes if "trigger" in node}
            triggers |= {node["key"] + _JOIN: node["join"] for node in nodes if "join" in node}
            runs[run_id] = _Run(run_id, token, triggers=triggers)
        elif kind.startswith("run.") and "job" not in entry and isinstance(data, dict):
            run = runs[data["runId"]]
            run.cancel_asked |= kind == "run.cancel_requested"
            if kind in _ENDS:
                _judge_end(run, entry, states)
        elif entry.get("job"):
            _step(ledger, runs, states, entry)
    return list(runs.values())


def _step(
    ledger: AuditedLedger, runs: Mapping[str, _Run], states: dict[str, str], entry: Entry
) -> None:
    job_id, after = entry["job"], entry.get("to")
    definition = ledger.jobs[job_id].definition
    run = runs.get(definition.get("runId", ""))
    if run is None:
        return
    key = definition["nodeKey"]
    told = f"#{entry['seq']}: node {key} of run {run.run_id}"
    if entry["kind"] == "job.created":
        hold(key not in run.nodes, "R27", f"{told} is there already")
        run.nodes[key] = job_id
        run.above[key] = definition.get("dependsOn", ())
    elif entry.get("from") == "pending":
        hold(run.ended is None, "R26", f"{told} moves behind the run's end")
        if after == "scheduled":
            verdict = _may_join(run, key, states) or _verdict(run, key, states)
            hold(verdict == "fire", "R25", f"{told} starts; its rule says {verdict}")
        elif entry.get("reason") == "upstream_failed":
            run.given_up[key] = told
    elif key.endswith(_JOIN) and after in ("completed", "failed"):
        verdict = _verdict(run, key, states)
        hold((verdict == "fire") == (after == "completed"), "R25", f"{told} is {after}: {verdict}")
    if after is not None:
        states[job_id] = after


def _may_join(run: _Run, key: str, states: Mapping[str, str]) -> str | None:
    """A join is let go when its map and all children of it have ended, however they did."""
    if not key.endswith(_JOIN):
        return None
    ends = [states[job_id] for job_id in (*run.above[key], *run.children(key))]
    return "fire" if all(state in FINAL for state in ends) else "wait"


def _verdict(run: _Run, key: str, states: Mapping[str, str]) -> str:
    """What the rule of a node says now: `fire`, `never` or `wait`. A job that failed and is retried
    has been retried in the same commit, so failed means for good."""
    above = [states[job_id] for job_id in run.above[key]]
    rule = run.triggers.get(key, "all_succeeded")
    if key.endswith(_JOIN):
        if above != ["completed"]:
            return "never"
        above = [states[job_id] for job_id in run.children(key)]
    seen = Counter(state if state in FINAL else "open" for state in above)
    forbidden = {"all_succeeded": ("failed", "cancelled"), "none_failed": ("failed",)}
    if any(seen[state] for state in forbidden.get(rule, ())):
        return "never"
    needed = {"any_succeeded": "completed", "any_failed": "failed"}.get(rule)
    if not above or (needed is not None and seen[needed]):
        return "fire"
    if seen["open"]:
        return "wait"
    return "fire" if needed is None else "never"


def _judge_end(run: _Run, entry: Entry, states: Mapping[str, str]) -> None:
    seq, data, state = entry["seq"], entry["data"], _ENDS[entry["kind"]]
    told = f"#{seq}: run {run.run_id}"
    hold(run.ended is None, "R26", f"{told} ends twice")
    run.ended = entry
    ends: Counter[str] = Counter(states[job_id] for job_id in run.nodes.values())
    open_now = [key for key, job_id in run.nodes.items() if states[job_id] not in FINAL]
    hold(not open_now, "R26", f"{told} ends before its nodes {open_now}")
    for key, words in run.given_up.items():
        verdict = _verdict(run, key, states)
        hold(verdict == "never", "R25", f"{words} is given up; its rule says {verdict}")
    for each in ("completed", "failed", "cancelled"):
        same = data[each] == ends[each]
        hold(same, "R26", f"{told} counts {data[each]} {each}, and {ends[each]} are")
    may_be = {
        "completed": not ends["failed"] and not run.cancel_asked,
        "failed": bool(ends["failed"]),
        "cancelled": run.cancel_asked or bool(ends["cancelled"]),
    }
    hold(may_be[state], "R26", f"{told} ends {state} after {dict(ends)}")
