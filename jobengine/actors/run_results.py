"""The results that the nodes of one command look at.

I1  A node looks at ``READ_BYTES_MAX`` of results; one that would look at more is told so.
I2  Memory: what was looked at last, ``READ_BYTES_MAX`` of it, what one node looks at, and a page.
I3  A result is decoded when it is looked at, in the turn of that node.

Not here: which results a node looks at (``domain/run_sheet``).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs
import msgspec

from jobengine.domain.run_sheet import EvaluationError
from jobengine.store.port import Store

__all__ = ["READ_BYTES_MAX", "RunResults", "Seen"]

READ_BYTES_MAX: Final = 8 * 1024 * 1024
_PAGE: Final = 32
_NULL: Final = b"null"


@attrs.frozen(eq=False)
class Seen:
    """What one node looks at; ``size`` in bytes."""

    size: int
    _encoded: dict[str, bytes]

    def get(self, job_id: str) -> Any:
        """The result of a job, decoded; null for one without."""
        return msgspec.json.decode(self._encoded.get(job_id, _NULL))


@attrs.define(eq=False)
class RunResults:
    """``job_ids`` are those that will be looked at, about in that order."""

    store: Store
    tenant_id: str
    job_ids: Sequence[str]
    _places: dict[str, int] = attrs.field(init=False)
    _known: OrderedDict[str, bytes] = attrs.field(init=False, factory=OrderedDict)
    _bytes: int = 0

    def __attrs_post_init__(self) -> None:
        self._places = {job_id: place for place, job_id in enumerate(self.job_ids)}

    async def of(self, job_ids: Iterable[str]) -> Seen:
        """The results of these jobs, which are among ``job_ids``. Raises ``EvaluationError``."""
        found, size = dict[str, bytes](), 0
        for job_id in job_ids:
            if job_id not in self._known:
                await self._read(self._places[job_id])
            found[job_id] = result = self._known[job_id]
            self._known.move_to_end(job_id)
            size += len(result)
            if size > READ_BYTES_MAX:
                why = f"reads more than {READ_BYTES_MAX} bytes of results; let jobs answer with"
                raise EvaluationError(f"{why} references to what is large, such as artifacts")
        return Seen(size, found)

    async def _read(self, place: int) -> None:
        """The result at this place and those behind it."""
        while self._bytes > READ_BYTES_MAX:
            _, result = self._known.popitem(last=False)
            self._bytes -= len(result)
        page = self.job_ids[place : place + _PAGE]
        page = [job_id for job_id in page if job_id not in self._known]
        self._known.update(dict.fromkeys(page, _NULL))
        self._bytes += len(page) * len(_NULL)
        for job in await self.store.jobs(self.tenant_id, page):
            if job.result is not None:
                self._known[job.job_id] = job.result
                self._bytes += len(job.result) - len(_NULL)
