"""Reads: whose question to the store an answer belongs to.

Each part that asks keeps what it asked for by stamp, and knows its own.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from jobengine.core.lease_shard.reports import Reporter
from jobengine.core.lease_shard.supply import Supply
from jobengine.domain.errors import Refusal
from jobengine.messages.shard_commands import ReadFailed, SubjectsLoaded

__all__ = ["Reads"]


class _Reader(Protocol):
    """Each returns what may be handled again now, or None when the stamp is none of its own.
    ``refusal`` is the answer to whoever waits for what could not be read."""

    def loaded(self, message: SubjectsLoaded, /) -> Iterable[Any] | None: ...

    def read_failed(self, stamp: int, refusal: Refusal, /) -> Iterable[Any] | None: ...


class Reads:
    def __init__(self, readers: Sequence[_Reader], reporter: Reporter, supply: Supply) -> None:
        self._readers = readers
        self._reporter = reporter
        self._supply = supply

    def loaded(self, message: SubjectsLoaded) -> Iterable[Any]:
        for part in self._readers:
            again = part.loaded(message)
            if again is not None:
                return again
        self._reporter.loaded(message)
        return ()

    def failed(self, message: ReadFailed) -> Iterable[Any]:
        if self._supply.read_failed(message.stamp):
            return ()
        for part in self._readers:
            again = part.read_failed(message.stamp, message.refusal)
            if again is not None:
                return again
        return self._reporter.read_failed(message.stamp, message.refusal) or ()
