"""Nodes of simulated runs, as users write them: of a run, of what it grows by, of a DAG.

What each comes to is written in its payload (`fate`), as of any job.

Not here: who asks for them (`composer`).
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from jobengine.testing.sim.fate import Fate, Step
from jobengine.testing.sim.producer import JOB_TYPES, Numbers

__all__ = ["NodeDrawing", "answered_kind"]

_SIZES: Final = (1, 3, 5, 8)
_TRIGGERS: Final = (
    "all_succeeded",
    "all_succeeded",
    "all_succeeded",
    "all_done",
    "any_succeeded",
    "any_failed",
    "none_failed",
)
_STEPS: Final[tuple[tuple[Step, ...], ...]] = (
    ("complete",),
    ("complete",),
    ("complete",),
    ("fail", "complete"),
    ("fail_for_good",),
)
_ANSWERED: Final = frozenset({"approval", "callback"})


class NodeDrawing:
    """`dag_ids` are those that a node may be a run of."""

    def __init__(
        self, dice: random.Random, numbers: Numbers, *, callbacks: bool, dag_ids: Sequence[str]
    ) -> None:
        self._dice = dice
        self._numbers = numbers
        self._callbacks = callbacks
        self._dag_ids = dag_ids

    def run(self) -> list[dict[str, Any]]:
        """Nodes, each behind some of those before it."""
        nodes: list[dict[str, Any]] = []
        for number in range(self._dice.choice(_SIZES)):
            nodes.append(self._node(f"n{number}", {node["key"]: node for node in nodes}))
        return nodes

    def growth(self, number: int, nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One or two nodes more for a run of these, the first maybe before one of them."""
        known = {node["key"]: node for node in nodes}
        key = f"g{number}-0"
        added = [self._node(key, known)]
        before = [each for each in known if each not in added[0]["dependsOn"]]
        edges = []
        if before and self._dice.random() < 0.4:
            edges = [{"from": key, "to": self._dice.choice(before)}]
        if self._dice.random() < 0.5:
            added.append(self._node(f"g{number}-1", {key: added[0]}))
        return {"jobs": added, "edges": edges}

    def dag(self, dag_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Nodes of a DAG, which nobody has to answer; the last is a run of another of these."""
        nodes: list[dict[str, Any]] = []
        for number in range(self._dice.choice((1, 2))):
            behind = [node["key"] for node in nodes]
            nodes.append({"key": f"s{number}", "dependsOn": behind} | self._work(items=0))
        if dag_ids:
            run = {"dagId": self._dice.choice(dag_ids)}
            nodes.append({"key": "deeper", "dependsOn": ["s0"], "kind": "sub_run", "run": run})
        return nodes

    def _node(self, key: str, above: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        dice = self._dice
        behind = sorted(dice.sample(sorted(above), min(len(above), dice.choice((0, 1, 1, 2)))))
        node: dict[str, Any] = {"key": key, "dependsOn": behind}
        listed = [each for each in behind if _gives_list(above[each])]
        if dice.random() < 0.1:
            node |= {"kind": "approval"}
        elif self._callbacks and dice.random() < 0.2:
            node |= {"kind": "callback"}
        elif self._dag_ids and dice.random() < 0.3:
            node |= {"kind": "sub_run", "run": {"dagId": dice.choice(self._dag_ids)}}
        elif listed and dice.random() < 0.2:
            node |= self._work(items=0) | {"kind": "map", "over": f"results.{listed[0]}"}
            node["join"] = dice.choice(("all_succeeded", "all_done", "none_failed"))
        else:
            node |= self._work(items=dice.choice((0, 2, 3)))
        if behind and node.get("kind") != "map":
            node["trigger"] = dice.choice(_TRIGGERS)
        return node

    def _work(self, items: int) -> dict[str, Any]:
        dice = self._dice
        fate = Fate(
            number=self._numbers.next(),
            steps=dice.choice(_STEPS),
            work_ms=dice.choice((0, 20, 400, 5_000)),
            items=items,
        )
        return {
            "jobType": dice.choice(JOB_TYPES),
            "payload": msgspec.to_builtins(fate),
            "maxRetries": dice.choice((1, 3)),
            "leaseSeconds": dice.choice((2, 10)),
        }


def answered_kind(node: Mapping[str, Any]) -> str | None:
    """The kind of a node that waits for somebody's answer; None of any other."""
    kind = node.get("kind")
    return kind if kind in _ANSWERED else None


def _gives_list(node: Mapping[str, Any]) -> bool:
    return "kind" not in node and "items" in node["payload"]
