"""Supervision: starts actors in order, restarts those that fail, stops them in reverse order.

A node is a tree: groups of actors and of further groups. The children of a group start one after
the other, each when the one before is ready, in nurseries nested in that order; so they stop from
the last to the first, and each may rely on those before it from its first to its last breath.

What happens when a child fails: it is started again after a pause that grows and is spread by
chance. More than `restarts_max` failures within `window_s`, and its whole group is stopped in
order and started again, under the group's own policy; past that the failure climbs to the next
group. At the root the node has stopped in order and `SupervisionFailedError` says why.

I1  A child runs only while all children before it in its group are running or being restarted.
I2  Stopping, by cancellation or escalation, is in reverse order of starting; a child is cancelled
    only when all after it have ended.
I3  Every failure is reported to `observe`, also one that happens while stopping.
I4  Only `Exception` is a failure of an actor. KeyboardInterrupt, SystemExit and the like pass
    through and end the run at once.
I5  Incarnations grow with every start and never repeat within a process.

An actor's mailbox is made outside and outlives it: requests not yet taken wait for the successor,
those taken are lost and their asks refused (`shell.py`).

Not here: waiting for a database that is away. That is a matter of operation, and `start` waits
for it itself; each failure out of `start` counts.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal, NamedTuple

import attrs
import trio

from jobengine.actors.runtime.dice import Dice

Restart = Literal["permanent", "transient"]
"""permanent: also a return is a failure. transient: a return ends the actor for good."""

_BACKOFF_EXPONENT_MAX = 64


@attrs.frozen
class RestartPolicy:
    """How many failures within how long are borne, and how long to pause after each (seconds).

    The n-th pause in a window is `backoff_first_s · 2^(n-1)`, at most `backoff_s_max`, of which
    chance takes away up to a half.
    """

    restarts_max: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    window_s: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    backoff_first_s: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))
    backoff_s_max: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))

    def backoff_s(self, failures: int, dice: Dice) -> float:
        doublings = min(failures - 1, _BACKOFF_EXPONENT_MAX)
        full = min(self.backoff_s_max, self.backoff_first_s * 2.0**doublings)
        return full * (1.0 - 0.5 * dice.random())


class Life(NamedTuple):
    """One life of an actor. `incarnation` is the high part of its stamps; `ready()` must be called
    when its state is rebuilt, and lets the next child start."""

    incarnation: int
    ready: Callable[[], None]


@attrs.frozen
class ActorSpec:
    """`start` builds the actor's core from the store, calls `life.ready()` and runs its shell."""

    name: str
    start: Callable[[Life], Awaitable[object]]
    restart: Restart = "permanent"
    policy: RestartPolicy = RestartPolicy()


@attrs.frozen
class GroupSpec:
    """Children that share their fate: in starting order, which is also the order of reliance."""

    name: str
    children: "tuple[ActorSpec | GroupSpec, ...]"
    policy: RestartPolicy = RestartPolicy()


Change = Literal["started", "ready", "failed", "restarting", "escalated", "stopped"]


class Supervised(NamedTuple):
    """A report. `actor` is the path from the root, `pause_s` the pause before a restart."""

    actor: str
    change: Change
    incarnation: int
    error: BaseException | None = None
    pause_s: float = 0.0


Observe = Callable[[Supervised], None]


class ActorReturnedError(Exception):
    """A permanent actor returned."""


class SupervisionFailedError(Exception):
    """A group gave up, after stopping in order. `__cause__` is the failure that was too many."""


@attrs.frozen
class _Surroundings:
    """What every group of one tree shares."""

    dice: Dice
    incarnations: Iterator[int]
    observe: Observe


class Supervisor:
    """Runs one tree. `incarnations` is the engine's one counter (`itertools.count(1)`)."""

    def __init__(
        self, root: GroupSpec, *, dice: Dice, incarnations: Iterator[int], observe: Observe
    ) -> None:
        self._root = root
        self._surroundings = _Surroundings(dice, incarnations, observe)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, which stops the tree in order. `started` when all are ready.

        Raises `SupervisionFailedError` when the root gives up. A tree may run within an actor of
        another: what comes and goes at run time, such as the shards of a node, is supervised so.
        """
        group = _Group(self._root, self._root.name, self._surroundings, task_status.started)
        await group.run()


class _Group:
    """One life of a group."""

    def __init__(
        self, spec: GroupSpec, path: str, surroundings: _Surroundings, ready: Callable[[], None]
    ) -> None:
        self._spec = spec
        self._path = path
        self._surroundings = surroundings
        self._ready = ready
        self._stop = trio.Event()
        self._failure: SupervisionFailedError | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_cancelled)
            # The shield lets cancellation reach the children only through the ordered stop.
            with trio.CancelScope(shield=True):
                await self._run_nested(self._spec.children)
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._stop.set()

    async def _run_nested(self, children: tuple[ActorSpec | GroupSpec, ...]) -> None:
        if not children:
            self._ready()
            await self._stop.wait()
            return
        settled = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, children[0], settled)
            await _first_of(settled, self._stop)
            if not self._stop.is_set():
                await self._run_nested(children[1:])
            nursery.cancel_scope.cancel()

    async def _keep(self, child: ActorSpec | GroupSpec, settled: trio.Event) -> None:
        """Run one child, again and again; `settled` when it is first ready or ends for good."""
        path = f"{self._path}/{child.name}"
        failed_at: deque[float] = deque()
        while True:
            incarnation = next(self._surroundings.incarnations)
            error = await self._live(child, path, incarnation, settled)
            if error is None:
                settled.set()
                return
            now = trio.current_time()
            failed_at.append(now)
            while failed_at[0] <= now - child.policy.window_s:
                failed_at.popleft()
            if len(failed_at) > child.policy.restarts_max:
                self._give_up(path, incarnation, error, child.policy)
                return
            pause_s = child.policy.backoff_s(len(failed_at), self._surroundings.dice)
            self._report(path, "restarting", incarnation, error, pause_s)
            await trio.sleep(pause_s)

    async def _live(
        self, child: ActorSpec | GroupSpec, path: str, incarnation: int, settled: trio.Event
    ) -> Exception | None:
        """One life of a child: None when it ended as it may, else the failure, reported."""

        def ready() -> None:
            self._report(path, "ready", incarnation)
            settled.set()

        self._report(path, "started", incarnation)
        try:
            if isinstance(child, GroupSpec):
                await _Group(child, path, self._surroundings, ready).run()
            else:
                await child.start(Life(incarnation, ready))
                if child.restart == "permanent":
                    raise ActorReturnedError(f"{path} returned")
        except Exception as error:  # noqa: BLE001 - whatever fails an actor is answered here
            self._report(path, "failed", incarnation, error)
            if trio.current_effective_deadline() == -math.inf:
                # It failed while being stopped: let the cancellation take its course.
                await trio.lowlevel.checkpoint()
            return error
        except BaseExceptionGroup as group:
            failure, rest = group.split(Exception)
            if failure is not None:
                self._report(path, "failed", incarnation, failure)
            if rest is not None and rest.split(trio.Cancelled)[1] is None:
                raise rest from None
            raise
        finally:
            self._report(path, "stopped", incarnation)
        return None

    def _give_up(
        self, path: str, incarnation: int, error: Exception, policy: RestartPolicy
    ) -> None:
        self._report(path, "escalated", incarnation, error)
        if self._failure is None:
            self._failure = SupervisionFailedError(
                f"{path} failed more than {policy.restarts_max} times in {policy.window_s:g} s"
            )
            self._failure.__cause__ = error
        self._stop.set()

    def _report(
        self,
        path: str,
        change: Change,
        incarnation: int,
        error: BaseException | None = None,
        pause_s: float = 0.0,
    ) -> None:
        self._surroundings.observe(Supervised(path, change, incarnation, error, pause_s))


async def _first_of(*events: trio.Event) -> None:
    async def wait(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(wait, event)
