"""What reads of runs share: a run with its nodes, and its graph, which is planned once.

I1  A graph that is kept is that of the run with as many parts; what a node has become is read anew
    each time.
I2  A signal is kept for ``_SIGNAL_S``, and of a run that has ended as long as there is room.

Not here: what a run looks like (``run_views``, ``run_gantt``, ``run_ledger``).
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import trio

from jobengine.actors.run_reading import read_nodes
from jobengine.domain.run import ENDED
from jobengine.domain.run_part import RunPart
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.http.first_signal import first_signal
from jobengine.http.run_views import RunGraph
from jobengine.store.port import Store
from jobengine.wire.run_views import FirstSignalView

__all__ = ["KnownSignal", "RunSnapshot", "RunSnapshots"]

_GRAPHS_MAX: Final = 8
_SIGNALS_MAX: Final = 1_000
_SIGNAL_S: Final = 1.0
_SAMPLE_JOBS: Final = 2_000
_PAGE: Final = 2_000


@attrs.frozen(eq=False, kw_only=True)
class RunSnapshot:
    """``nodes`` by job id, kept ones included."""

    record: RunRecord
    parts: Sequence[RunPart]
    nodes: Mapping[str, NodeRecord]


@attrs.frozen(eq=False, kw_only=True)
class KnownSignal:
    """``view`` is None where there is no signal yet. It was read at ``read_s`` and is good until
    ``until_s``, both monotonic. ``kept``: it was not looked for anew."""

    view: FirstSignalView | None
    read_s: float
    until_s: float
    kept: bool = False


class RunSnapshots:
    """Reads runs of any tenant; keeps the graphs of the few that were looked at last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._signals: OrderedDict[tuple[str, str], KnownSignal] = OrderedDict()
        self._reading: dict[tuple[str, str], trio.Event] = {}
        self._graphs: OrderedDict[tuple[str, int], RunGraph] = OrderedDict()

    async def read(self, record: RunRecord) -> RunSnapshot:
        """The run's nodes as they are now. Parts are read first, so no node is without its job."""
        tenant_id = record.tenant_id
        parts = await self._store.run_parts(tenant_id, record.run_id)
        found = await read_nodes(self._store, tenant_id, record.run_id)
        kept = [job_id for part in parts for job_id in part.kept.values()]
        for start in range(0, len(kept), _PAGE):
            found += await self._store.node_records(tenant_id, kept[start : start + _PAGE])
        return RunSnapshot(
            record=record, parts=parts, nodes={node.job_id: node for node in found}
        )  # fmt: skip

    async def graph(self, snapshot: RunSnapshot) -> RunGraph:
        """The run's graph, planned by what its types took when it was first looked at."""
        record = snapshot.record
        key = (record.run_id, len(snapshot.parts))
        graph = self._graphs.get(key)
        if graph is None:
            typical_us = await self._store.typical_durations(record.tenant_id, _SAMPLE_JOBS)
            graph = await trio.to_thread.run_sync(
                RunGraph.of, record, snapshot.parts, snapshot.nodes, typical_us
            )
            self._graphs[key] = graph
        self._graphs.move_to_end(key)
        while len(self._graphs) > _GRAPHS_MAX:
            self._graphs.popitem(last=False)
        return graph

    async def signal(self, record: RunRecord, since_s: float = -math.inf) -> KnownSignal:
        """The run's first signal as it was at ``since_s`` (monotonic seconds) or later. Whoever
        asks while it is read waits for that."""
        key = (record.run_id, record.state.value)
        while (reading := self._reading.get(key)) is not None:
            await reading.wait()
        known = self._signals.get(key)
        if known is not None and known.read_s >= since_s and trio.current_time() < known.until_s:
            return attrs.evolve(known, kept=True)
        self._reading[key] = trio.Event()
        try:
            found = await self._read_signal(record)
        finally:
            self._reading.pop(key).set()
        self._signals[key] = found
        self._signals.move_to_end(key)
        while len(self._signals) > _SIGNALS_MAX:
            self._signals.popitem(last=False)
        return found

    async def _read_signal(self, record: RunRecord) -> KnownSignal:
        read_s = trio.current_time()
        snapshot = await self.read(record)
        return KnownSignal(
            view=first_signal(record, snapshot.nodes.values()),
            read_s=read_s,
            until_s=math.inf if record.state in ENDED else trio.current_time() + _SIGNAL_S,
        )
