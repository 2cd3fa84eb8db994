"""Which topics of a tenant an event may concern.

A topic of one job or run is found by it, so that many of them cost an event nothing. The others are
found by the event's type, and asked for the rest of their filter.

A block in which no topic has a trace (``event_filter``) concerns none, and is told by its text.
"""

from collections.abc import Iterator
from typing import Final

from jobengine.core.broadcaster.topic import Topic
from jobengine.domain.event import Event
from jobengine.domain.event_filter import EventFilter

__all__ = ["TopicIndex"]

_TYPES_MAX: Final = 1_024
_TRACES_MAX: Final = 8
"""To look for more takes as long as making the events."""


class TopicIndex:
    __slots__ = ("_broad", "_by_job", "_by_run", "_by_type", "_traces")

    def __init__(self) -> None:
        self._by_job: dict[str, dict[EventFilter, Topic]] = {}
        self._by_run: dict[str, dict[EventFilter, Topic]] = {}
        self._broad: dict[EventFilter, Topic] = {}
        self._by_type: dict[str, list[Topic]] = {}
        # Of all topics; None until it is asked for, () where nothing can be said.
        self._traces: tuple[bytes, ...] | None = None

    def add(self, topic: Topic) -> None:
        wanted = topic.wanted
        self._traces = None
        if wanted.job_id is not None:
            self._by_job.setdefault(wanted.job_id, {})[wanted] = topic
        elif wanted.run_id is not None:
            self._by_run.setdefault(wanted.run_id, {})[wanted] = topic
        else:
            self._broad[wanted] = topic
            self._by_type.clear()

    def drop(self, topic: Topic) -> None:
        wanted = topic.wanted
        self._traces = None
        if wanted.job_id is not None:
            _drop(self._by_job, wanted.job_id, wanted)
        elif wanted.run_id is not None:
            _drop(self._by_run, wanted.run_id, wanted)
        else:
            del self._broad[wanted]
            self._by_type.clear()

    def passes_by(self, body: bytes) -> bool:
        """Whether it is certain that no topic wants anything of a block; looks at no event."""
        traces = self._traces
        if traces is None:
            traces = self._traces = self._find_traces()
        return bool(traces) and not any(trace in body for trace in traces)

    def _find_traces(self) -> tuple[bytes, ...]:
        found: set[bytes] = set()
        for topics in (self._broad, *self._by_job.values(), *self._by_run.values()):
            for wanted in topics:
                traces = wanted.traces
                found.update(traces)
                if not traces or len(found) > _TRACES_MAX:
                    return ()
        return tuple(found)

    def matching(self, event: Event) -> Iterator[Topic]:
        """The topics whose filter lets the event through."""
        for topic in self._of_type(event.event_type):
            wanted = topic.wanted
            if wanted.types_only or wanted.matches(event):
                yield topic
        if self._by_job and event.job_id:
            for topic in self._by_job.get(event.job_id, _NONE).values():
                if topic.wanted.matches(event):
                    yield topic
        if self._by_run and event.run_id is not None:
            for topic in self._by_run.get(event.run_id, _NONE).values():
                if topic.wanted.matches(event):
                    yield topic

    def _of_type(self, event_type: str) -> list[Topic]:
        found = self._by_type.get(event_type)
        if found is None:
            if len(self._by_type) >= _TYPES_MAX:
                self._by_type.clear()
            found = self._by_type[event_type] = [
                topic for topic in self._broad.values() if topic.wanted.matches_type(event_type)
            ]
        return found


_NONE: Final[dict[EventFilter, Topic]] = {}


def _drop(topics: dict[str, dict[EventFilter, Topic]], subject: str, wanted: EventFilter) -> None:
    found = topics[subject]
    del found[wanted]
    if not found:
        del topics[subject]
