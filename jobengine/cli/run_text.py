"""The graph of a run as text: rows of a table, and the language of Graphviz.

Source: https://graphviz.org/doc/info/lang.html
"""

from collections.abc import Iterator, Sequence
from typing import Final

from jobengine.cli.run_graph import face_of
from jobengine.cli.run_printing import took
from jobengine.wire.run_views import DagNode, DagView

__all__ = ["dag_rows", "dot_lines"]

_AFTER_MAX: Final = 5
_COLOURS: Final = {
    "cancelled": "gray70",
    "completed": "palegreen",
    "failed": "salmon",
    "open": "khaki",
    "running": "lightskyblue",
    "scheduled": "lightcyan",
    "skipped": "gray90",
}


def dag_rows(graph: DagView) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Head and rows, a node each; `*` is on the critical path."""
    after: dict[str, list[str]] = {}
    for source, target in graph.edges:
        after.setdefault(target, []).append(source)
    head = ("LEVEL", "", "KEY", "KIND", "TYPE", "STATE", "ATTEMPT", "TOOK", "AFTER")
    return head, [
        (
            node.level,
            "*" if node.on_critical_path else "",
            node.key,
            node.kind,
            node.type,
            _state(node),
            node.attempt,
            took(node.run_ms),
            _listed(after.get(node.key, [])),
        )
        for node in graph.nodes
    ]


def dot_lines(graph: DagView) -> Iterator[str]:
    """A graph of Graphviz, filled by state, with the critical path in bold."""
    path = set(zip(graph.critical_path, graph.critical_path[1:], strict=False))
    yield f"digraph {_quoted(graph.run_id)} {{"
    yield "  rankdir=LR;"
    yield '  node [shape=box, style=filled, fillcolor=white, fontname="sans-serif"];'
    for node in graph.nodes:
        face = face_of(node)
        label = _quoted(f"{node.key}\n{node.type}\n{face}")
        given = [f"label={label}"]
        if face in _COLOURS:
            given.append(f"fillcolor={_COLOURS[face]}")
        if node.on_critical_path:
            given.append("penwidth=2")
        yield f"  {_quoted(node.key)} [{', '.join(given)}];"
    for source, target in graph.edges:
        bold = " [penwidth=2]" if (source, target) in path else ""
        yield f"  {_quoted(source)} -> {_quoted(target)}{bold};"
    yield "}"


def _state(node: DagNode) -> str:
    why = node.error or (node.reason if face_of(node) == "cancelled" else None)
    kept = "kept" if node.kept else None
    more = " ".join(text for text in (why, kept) if text)
    return f"{face_of(node)} ({more})" if more else face_of(node)


def _listed(keys: list[str]) -> str | None:
    if not keys:
        return None
    more = len(keys) - _AFTER_MAX
    return ", ".join(keys[:_AFTER_MAX]) + (f" and {more} more" if more > 0 else "")


def _quoted(text: str) -> str:
    """A control is shown as its escape; a newline begins a line of a label."""
    escaped = (_printable(line) for line in text.split("\n"))
    return '"' + "\\n".join(escaped) + '"'


def _printable(line: str) -> str:
    shown = (
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line
    )
    return "".join(shown).replace("\\", "\\\\").replace('"', '\\"')
