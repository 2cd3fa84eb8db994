"""How the rest of a node follows a tenant's events: sinks that are pushed to, and a reader that is
read from.

I1  A sink gets every batch after its cursor, in order, without gap or repeat, also across restarts
    of the broadcaster: whoever holds the subscription notices nothing of them.
I2  Nothing is given to a sink after `Subscription.leave`.

Not here: who is served from what (`core/broadcaster`), sockets (`http`).
"""

from collections.abc import Sequence
from typing import Protocol

from jobengine.domain.event_batch import Batch
from jobengine.messages.broadcaster import Moved

__all__ = ["Sink", "Subscription", "Watcher"]


class Sink(Protocol):
    """Called within a step of the broadcaster: neither waits nor raises, and is quick."""

    def take(self, batch: Batch) -> bool:
        """Keep the batch. False: no more of them until `Subscription.roomy`; one or two that are
        on their way come all the same."""
        ...

    def logged(self) -> None:
        """Lines of a job that was asked for have been stored."""
        ...


class Watcher(Protocol):
    """As a `Sink`: called within a step, neither waits nor raises."""

    def moved(self, moved: Sequence[Moved]) -> None:
        """The ledgers of these tenants have grown; without any, those of some may have, and nobody
        can say of which."""
        ...


class Subscription(Protocol):
    """What whoever follows holds."""

    def roomy(self) -> None:
        """The sink can take batches again."""
        ...

    def leave(self) -> None:
        """May be called again."""
        ...
