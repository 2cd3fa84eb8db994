"""Valkey Streams as a bus.

Out: the stream {prefix}:events:{tenant}; the id of an entry is the ledger's `{seq}-0`, its fields
are `id`, `type`, `seq` and `body`. In: the stream {prefix}:jobs with the fields `tenant` and
`body`, read by the consumer group {prefix}. Aside: the stream {prefix}:dead:jobs.

I1  The server adds entries of a stream in the order of their ids alone: an event that is there
    already is refused, and none is ever behind a later one. So there are no repeats.
I2  What is published at once is one transaction: all of it, or nothing.
I3  A request that is done leaves the group and the stream in one transaction.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs

from jobengine.bus.address import BusAddress
from jobengine.bus.errors import BusAwayError
from jobengine.bus.link import Link, Taken
from jobengine.bus.names import Names
from jobengine.bus.valkey_connection import (
    Command,
    Reply,
    ValkeyConnection,
    ValkeyError,
    open_valkey,
)
from jobengine.domain.event import Event

__all__ = ["ValkeyLink", "ValkeyLinks"]

_TAKEN_MAX: Final = 64
_DEAD_MAX: Final = 100_000
_THERE_ALREADY: Final = "equal or smaller"
_GROUP_EXISTS: Final = "BUSYGROUP"


@attrs.frozen(kw_only=True)
class ValkeyLinks:
    """Opens links. `consumer` tells apart who reads requests; `events_max` is about how many
    entries a tenant's stream keeps; a request that was not acknowledged for `retry_s` is taken
    over by whoever asks next."""

    address: BusAddress
    names: Names
    consumer: str
    events_max: int
    retry_s: float
    takes_jobs: bool

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Link]:
        # A read that waits holds its connection, so it has one of its own.
        async with open_valkey(self.address) as connection, open_valkey(self.address) as waiting:
            link = ValkeyLink(self, connection, waiting)
            if self.takes_jobs:
                await link.prepare()
            yield link


class ValkeyLink:
    """See `jobengine.bus.link.Link`."""

    def __init__(
        self, links: ValkeyLinks, connection: ValkeyConnection, waiting: ValkeyConnection
    ) -> None:
        self._links = links
        self._shown = links.address.shown
        self._connection = connection
        self._waiting = waiting
        self._jobs = f"{links.names.prefix}:jobs"
        self._dead = f"{links.names.prefix}:dead:jobs"
        self._group = links.names.prefix
        self._own_pending_after = "0"

    async def prepare(self) -> None:
        create = ["XGROUP", "CREATE", self._jobs, self._group, "0", "MKSTREAM"]
        (reply,) = await self._connection.call_all([create])
        if isinstance(reply, ValkeyError) and not str(reply).startswith(_GROUP_EXISTS):
            raise BusAwayError(f"{self._shown} refused XGROUP: {reply}")

    async def publish(self, tenant_id: str, events: Sequence[Event]) -> int:
        key = self._links.names.event_key(tenant_id)
        add = ("XADD", key, "MAXLEN", "~", self._links.events_max)
        adding = [(*add, f"{event.seq}-0", *_fields(tenant_id, event)) for event in events]
        added = await self._transaction(adding)
        refused = [each for each in added if isinstance(each, ValkeyError)]
        if any(_THERE_ALREADY not in str(error) for error in refused):
            raise BusAwayError(f"{self._shown} refused XADD {key}: {refused[0]}")
        if refused:
            await self._check_ours(tenant_id, key)
        return len(events)

    async def _check_ours(self, tenant_id: str, key: str) -> None:
        """Entries of anybody else would keep ours out for ever (I1)."""
        newest = await self._connection.call(["XREVRANGE", key, "+", "-", "COUNT", 1])
        for entry_id, fields in newest:
            seq = entry_id.decode().partition("-")[0]
            if dict(_pairs(fields)).get(b"id") != _event_id(tenant_id, int(seq)).encode():
                raise BusAwayError(
                    f"the stream {key} holds entries that are not this tenant's events; "
                    "remove it, or set another bus_prefix"
                )

    async def take(self, within_s: float) -> Sequence[Taken]:
        read: Command = ["XREADGROUP", "GROUP", self._group, self._links.consumer]
        if self._own_pending_after != ">":
            own = await self._entries([*read, "COUNT", _TAKEN_MAX], self._own_pending_after)
            self._own_pending_after = own[-1].handle if own else ">"
            if own:
                return own
        idle_ms = round(self._links.retry_s * 1000)
        claim: Command = ["XAUTOCLAIM", self._jobs, self._group, self._links.consumer, idle_ms]
        reply = await self._connection.call([*claim, "0-0", "COUNT", _TAKEN_MAX])
        left = reply[1]
        if left:
            return self._taken(left)
        # No longer than until there may be something to take over.
        within_s = min(within_s, self._links.retry_s)
        block: Command = ["COUNT", _TAKEN_MAX, "BLOCK", math.ceil(within_s * 1000)]
        return await self._entries([*read, *block], ">", within_s + 10.0)

    async def _entries(self, read: Command, after: str, within_s: float = 10.0) -> list[Taken]:
        command = [*read, "STREAMS", self._jobs, after]
        reply = await self._waiting.call(command, within_s=within_s)
        return self._taken(reply[0][1]) if reply else []

    def _taken(self, entries: Sequence[Reply]) -> list[Taken]:
        taken = []
        for entry in entries:
            # One that was deleted while it was pending has no fields. XAUTOCLAIM of Redis 6.2 does
            # not even say which it is; the next connection is told, by XREADGROUP.
            if entry is None:
                continue
            entry_id, fields = entry
            found = dict(_pairs(fields or ()))
            tenant = found.get(b"tenant")
            own_id = found.get(b"id")
            taken.append(
                Taken(
                    handle=entry_id.decode(),
                    source=self._jobs,
                    message_id=(own_id or entry_id).decode(errors="replace"),
                    body=found.get(b"body", b""),
                    tenant_id=None if tenant is None else tenant.decode(errors="replace"),
                    traceparent=found.get(b"traceparent", b"").decode(errors="replace") or None,
                )
            )
        return taken

    async def done(self, taken: Sequence[Taken]) -> None:
        if not taken:
            return
        ids = [each.handle for each in taken]
        gone = await self._transaction(
            [["XACK", self._jobs, self._group, *ids], ["XDEL", self._jobs, *ids]]
        )
        for reply in gone:
            if isinstance(reply, ValkeyError):
                raise BusAwayError(f"{self._shown} refused XACK {self._jobs}: {reply}")

    async def later(self, taken: Sequence[Taken]) -> None:
        """Nothing to do: what stays pending is taken over after `retry_s`."""

    async def bury(self, letters: Sequence[tuple[Taken, bytes]]) -> None:
        begin: Command = ["XADD", self._dead, "MAXLEN", "~", _DEAD_MAX, "*"]
        for _, letter in letters:
            await self._connection.call([*begin, "letter", letter])

    async def _transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """What each command answered; nothing has happened where this raises `BusAwayError`."""
        _, *queued, done = await self._connection.call_all([["MULTI"], *commands, ["EXEC"]])
        if isinstance(done, ValkeyError):
            why = next((each for each in queued if isinstance(each, ValkeyError)), done)
            raise BusAwayError(f"{self._shown} refused {commands[0][0]!s}: {why}")
        assert isinstance(done, list)
        return done


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _fields(tenant_id: str, event: Event) -> Command:
    seq = event.seq
    event_id = _event_id(tenant_id, seq)
    return ("id", event_id, "type", event.event_type, "seq", seq, "body", event.body)


def _event_id(tenant_id: str, seq: int) -> str:
    return f"urn:orch:event:{tenant_id}:{seq}"
