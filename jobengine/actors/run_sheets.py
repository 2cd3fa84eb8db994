"""The sheets of live runs that have something to evaluate.

I1  A sheet is at least as new as the last growth that was answered before it was asked for.
I2  Memory: sheets of ``NODES_MAX`` nodes and of ``BYTES_MAX`` together, those used last; one at
    least.

Not here: evaluating (``domain/run_sheet``), the results that it looks at (``run_results``).
"""

from collections import OrderedDict
from typing import Final

import attrs
import trio

from jobengine.domain.run_sheet import RunSheet
from jobengine.store.port import Store

__all__ = ["BYTES_MAX", "NODES_MAX", "RunSheets"]

BYTES_MAX: Final = 128 * 1024 * 1024
NODES_MAX: Final = 200_000
_LARGE: Final = 2_000


@attrs.define(eq=False)
class RunSheets:
    store: Store
    _sheets: OrderedDict[str, RunSheet] = attrs.field(init=False, factory=OrderedDict)
    _reading: dict[str, object] = attrs.field(init=False, factory=dict)
    _nodes: int = 0
    _bytes: int = 0

    async def of(self, tenant_id: str, run_id: str) -> RunSheet:
        """The sheet of a run that is live; from memory, or read."""
        sheet = self._sheets.get(run_id)
        if sheet is not None:
            self._sheets.move_to_end(run_id)
            return sheet
        mark = self._reading[run_id] = object()
        try:
            record = await self.store.run(tenant_id, run_id)
            parts = await self.store.run_parts(tenant_id, run_id)
            assert record is not None, f"{run_id} is live"
            if record.nodes > _LARGE:
                sheet = await trio.to_thread.run_sync(RunSheet.of, record, parts)
            else:
                sheet = RunSheet.of(record, parts)
            if self._reading.get(run_id) is mark:
                self._keep(run_id, sheet)
            return sheet
        finally:
            if self._reading.get(run_id) is mark:
                del self._reading[run_id]

    def forget(self, run_id: str) -> None:
        """The run has changed or ended; what is read of it by now is not kept (I1)."""
        self._reading.pop(run_id, None)
        sheet = self._sheets.pop(run_id, None)
        if sheet is not None:
            self._count(sheet, -1)

    def _keep(self, run_id: str, sheet: RunSheet) -> None:
        self._sheets[run_id] = sheet
        self._count(sheet, 1)
        while (self._nodes > NODES_MAX or self._bytes > BYTES_MAX) and len(self._sheets) > 1:
            _, oldest = self._sheets.popitem(last=False)
            self._count(oldest, -1)

    def _count(self, sheet: RunSheet, sign: int) -> None:
        self._nodes += sign * len(sheet.nodes)
        self._bytes += sign * sheet.size
