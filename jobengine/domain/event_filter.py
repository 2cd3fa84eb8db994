"""Which events a reader wants.

Definitions. A *trace* is a text that the ledger entry of an event has in it as it stands.

Not here: who reads (`core/broadcaster`), the form of the query (`http/routes/streams`).
"""

import re
from collections.abc import Iterable
from typing import Final

import attrs

from jobengine.domain.event import Event

__all__ = ["EVERYTHING", "EventFilter"]


@attrs.frozen(kw_only=True, cache_hash=True)
class EventFilter:
    """An event must meet all that are given. `types` may end in `*` (`job.*`). Two filters that let
    through the same in the same words are equal, so that their readers can share what is made."""

    types: frozenset[str] = frozenset()
    type_prefixes: tuple[str, ...] = ()
    job_id: str | None = None
    job_type: str | None = None
    run_id: str | None = None
    source_id: str | None = None

    @classmethod
    def of(
        cls,
        types: Iterable[str] = (),
        *,
        job_id: str | None = None,
        job_type: str | None = None,
        run_id: str | None = None,
        source_id: str | None = None,
    ) -> "EventFilter":
        names = {name for name in types if name}
        return cls(
            types=frozenset(name for name in names if not name.endswith("*")),
            type_prefixes=tuple(sorted(name[:-1] for name in names if name.endswith("*"))),
            job_id=job_id,
            job_type=job_type,
            run_id=run_id,
            source_id=source_id,
        )

    def matches(self, event: Event) -> bool:
        return (
            (self.job_id is None or event.job_id == self.job_id)
            and (self.job_type is None or event.job_type == self.job_type)
            and (self.run_id is None or event.run_id == self.run_id)
            and (self.source_id is None or event.source_id == self.source_id)
            and self.matches_type(event.event_type)
        )

    @property
    def types_only(self) -> bool:
        """Whether an event's type alone decides."""
        return (
            self.job_type is None
            and self.source_id is None
            and self.job_id is None
            and self.run_id is None
        )

    @property
    def traces(self) -> tuple[bytes, ...]:
        """Every entry whose event is let through has one of them. (): nothing can be said."""
        for name in (self.job_id, self.run_id, self.source_id, self.job_type):
            if name is not None and _stands_as_it_is(name):
                return (name.encode(),)
        types = (*self.types, *self.type_prefixes)
        if all(map(_stands_as_it_is, types)):
            return tuple(name.encode() for name in types)
        return ()

    def matches_type(self, event_type: str) -> bool:
        if not self.types and not self.type_prefixes:
            return True
        return event_type in self.types or event_type.startswith(self.type_prefixes)


_PLAIN: Final = re.compile(r"[ !#-\[\]-~]+")


def _stands_as_it_is(text: str) -> bool:
    """Whether JSON writes it without an escape."""
    return _PLAIN.fullmatch(text) is not None


EVERYTHING = EventFilter()
