"""The ledger of a simulated run as lines of its trace: each entry when it became durable.

Not here: whether it is right (`audited`, `rules`); it is read as it stands, for whoever looks why.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from typing import Any, Final

from jobengine.testing.sim.audited import BlockBytes

__all__ = ["ledger_lines", "merged"]

_TOLD: Final = frozenset({"at", "from", "job", "kind", "seq", "to"})
_INSTANT_WIDTH: Final = 12
_DATA_MAX: Final = 300


def ledger_lines(
    tenant_id: str, blocks: Iterable[BlockBytes], commits: Sequence[tuple[float, int]]
) -> Iterator[str]:
    """In order. `commits` say when, in virtual seconds, entries up to which seq were durable."""
    seqs = [seq for _, seq in commits]
    for block in blocks:
        for text in block.body.splitlines():
            entry = json.loads(text)
            place = bisect_left(seqs, entry["seq"])
            at = commits[place][0] if place < len(commits) else 0.0
            yield _line(at, tenant_id, entry)


def merged(trace: Iterable[str], ledgers: Iterable[Iterable[str]]) -> list[str]:
    """By instant; at one instant what was traced is first."""
    return list(merge(trace, *ledgers, key=lambda line: float(line[:_INSTANT_WIDTH])))


def _line(at: float, tenant_id: str, entry: dict[str, Any]) -> str:
    steps = f"{entry.get('from') or ''}>{entry['to']}" if entry.get("to") else ""
    facts = {name: value for name, value in sorted(entry.items()) if name not in _TOLD}
    told = " ".join(f"{name}={str(value)[:_DATA_MAX]!r}" for name, value in facts.items())
    parts = (f"#{entry['seq']}", entry.get("job", ""), steps, told)
    said = " ".join(part for part in parts if part)
    return f"{at:{_INSTANT_WIDTH}.6f} {'ledger ' + tenant_id:<14} {entry['kind']:<22} {said}"
