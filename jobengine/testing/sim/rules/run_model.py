"""A run as the ledger has it: its nodes, what each depends on, and what its rules say of that.

A rerun keeps what it does not run again: a node that is *kept* has no job, and counts as completed.

Not here: what follows from it (`runs`, `reruns`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from jobengine.testing.sim.audited import FINAL, AuditedLedger, Entry
from jobengine.testing.sim.journal import Asked, Journal

__all__ = ["JOIN", "Growth", "RunModel", "Wanted", "is_instance"]

JOIN: Final = "[]"


@attrs.define(eq=False)
class Growth:
    """What a run was asked to grow by; `edges` lead from new nodes to earlier ones."""

    nodes: Sequence[Mapping[str, Any]]
    edges: Sequence[Mapping[str, str]]
    accepted: bool = False

    @property
    def keys(self) -> set[str]:
        return {node["key"] for node in self.nodes}


@attrs.define(eq=False)
class Wanted:
    """What was asked for in one tenant: `runs` by token, `dags` by id, as lists of nodes; `reruns`
    by token; growths by run id; what was answered for nodes, by run id and key."""

    runs: dict[str, Sequence[Mapping[str, Any]]] = attrs.field(factory=dict)
    dags: dict[str, Sequence[Mapping[str, Any]]] = attrs.field(factory=dict)
    reruns: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)
    growths: dict[str, dict[int, Growth]] = attrs.field(factory=dict)
    answers: dict[tuple[str, str], set[bool]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, journal: Journal, tenant_id: str) -> "Wanted":
        wanted, growths = cls(), dict[int, Growth]()
        for asked in journal.asked:
            if asked.tenant_id == tenant_id:
                wanted._note(asked, growths)
        for answered in journal.answered:
            if answered.refusal is None and answered.number in growths:
                growths[answered.number].accepted = True
        return wanted

    def _note(self, asked: Asked, growths: dict[int, Growth]) -> None:
        about = asked.about
        match asked.verb:
            case "run":
                self.runs[about["runToken"]] = about["jobs"]
            case "dag":
                self.dags[about["dagId"]] = about["jobs"]
            case "rerun":
                self.reruns[about["runToken"]] = about
            case "extend" if asked.number not in growths:
                growth = growths[asked.number] = Growth(about["jobs"], about["edges"])
                self.growths.setdefault(about["runId"], {})[asked.number] = growth
            case "answer":
                self.answers.setdefault((about["runId"], about["key"]), set()).add(about["agrees"])


@attrs.define(eq=False)
class RunModel:
    """`nodes` are job ids by key, `above` those that each depends on; `rules` the trigger rules by
    key, `kinds` the kinds of nodes that no worker has. `kept` are keys. `given_up` has the nodes
    that are cancelled for what is above them, with the words for it."""

    run_id: str
    data: Entry
    nodes: dict[str, str] = attrs.field(factory=dict)
    above: dict[str, list[str]] = attrs.field(factory=dict)
    rules: dict[str, str] = attrs.field(factory=dict)
    kinds: dict[str, str] = attrs.field(factory=dict)
    kept: set[str] = attrs.field(factory=set)
    behind: dict[str, set[str]] = attrs.field(factory=dict)
    """Of a rerun, by key, the nodes that depended on it in the run that it repeats."""
    asked_for: set[str] | None = None
    """The nodes that there have to be, but for growth and instances of maps; None: not known."""
    given_up: dict[str, str] = attrs.field(factory=dict)
    cancel_asked: bool = False
    ended: Entry | None = None
    state: str = ""

    def learn(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """What these nodes were written to be."""
        for node in nodes:
            key = node["key"]
            if "trigger" in node:
                self.rules[key] = node["trigger"]
            if "join" in node:
                self.rules[key + JOIN] = node["join"]
            if "kind" in node:
                self.kinds[key] = node["kind"]

    def add(self, ledger: AuditedLedger, key: str, job_id: str, growths: Sequence[Growth]) -> None:
        """A node's job has been created, maybe as part of a growth."""
        self.nodes[key] = job_id
        self.above[key] = list(ledger.jobs[job_id].definition.get("dependsOn", ()))
        for growth in growths:
            for edge in growth.edges:
                # The job of a new node names all that it depends on itself.
                if self._end_of(edge["from"]) == key and edge["to"] in self.above:
                    self.above[edge["to"]].append(job_id)

    def _end_of(self, key: str) -> str:
        """What depends on a map depends on its join."""
        return key + JOIN if self.kinds.get(key) == "map" else key

    def children(self, join: str) -> Iterator[str]:
        """The keys of the instances of the map that this node joins."""
        stem = join.removesuffix(JOIN) + "["
        for key in (*self.nodes, *self.kept):
            if key.startswith(stem) and key != join:
                yield key

    def state_of(self, key: str, states: Mapping[str, str]) -> str:
        return "completed" if key in self.kept else states[self.nodes[key]]

    def verdict(self, key: str, states: Mapping[str, str]) -> str:
        """What the rule of a node says now: `fire`, `never` or `wait`. A job that failed and is
        retried has been retried in the same commit, so failed means for good."""
        above = self._above(key, states)
        rule = self.rules.get(key, "all_succeeded")
        if key.endswith(JOIN):
            if self.state_of(key.removesuffix(JOIN), states) != "completed":
                return "never"
            above = [self.state_of(child, states) for child in self.children(key)]
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

    def may_join(self, key: str, states: Mapping[str, str]) -> str | None:
        """A join is let go when its map and all instances of it have ended, however they did; None
        of any other node."""
        if not key.endswith(JOIN):
            return None
        ends = [self.state_of(child, states) for child in self.children(key)]
        return (
            "fire" if all(state in FINAL for state in self._above(key, states) + ends) else "wait"
        )

    def _above(self, key: str, states: Mapping[str, str]) -> list[str]:
        """The states of what a node depends on; what has no job in a rerun is kept."""
        if self.kept:
            return [states.get(job_id, "completed") for job_id in self.above[key]]
        return [states[job_id] for job_id in self.above[key]]


def is_instance(key: str) -> bool:
    """Of a map: `n1[0]`; a join, `n1[]`, is none."""
    return key.endswith("]") and not key.endswith(JOIN)
