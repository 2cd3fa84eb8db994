"""NATS JetStream as a bus.

Out: subjects {prefix}.events.{tenant}.{type} in the stream {prefix}_events, `Nats-Msg-Id` is the
eventId. In: subjects {prefix}.jobs.{tenant} in the stream {prefix}_jobs, from which the durable
consumer {prefix} pulls; the stream drops what is acknowledged. Aside: the subject
{prefix}.dead.jobs in the stream {prefix}_dead. Streams that are there already stay as they are.

I1  Of the messages of one call each but the first names the one before it as the last that must be
    in the stream (`Nats-Expected-Last-Msg-Id`). So where one is lost or refused, all behind it are
    refused, and no event is ever stored behind a later one of its tenant. The first needs no such
    word: what is before it was confirmed.
I2  An event that the server has no room for in one message is announced by one without its data.

Source: docs.nats.io/reference/reference-protocols/nats_api_reference; that a repeated message is
confirmed before it is compared with the last one is tested (`tests/bus`).
"""

import math
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import msgspec
import trio

from jobengine.actors.runtime.dice import Dice
from jobengine.bus.address import BusAddress
from jobengine.bus.errors import BusAwayError
from jobengine.bus.link import Link, Taken
from jobengine.bus.names import Names, token
from jobengine.bus.nats_connection import NatsConnection, NatsMessage, Outgoing, open_nats
from jobengine.domain.event import SCHEMA_VERSION, Event

__all__ = ["JetStreamLink", "JetStreamLinks"]

_TAKEN_MAX: Final = 64
_DEDUP_S: Final = 120.0
_PENDING_MAX: Final = 10_000
_HEADER_BYTES: Final = 2_048
_TAKE_GRACE_S: Final = 10.0
_MESSAGE_ID: Final = "Nats-Msg-Id"
_EXPECTED: Final = "Nats-Expected-Last-Msg-Id"
_NOBODY: Final = "503"
_PLAIN: Final = re.compile(r"[!-$&-~]+")


@attrs.frozen(kw_only=True)
class JetStreamLinks:
    """Opens links. Events and what was set aside are kept for `keep_s`; a request that was not
    acknowledged is delivered again after `ack_wait_s`, or `retry_s` after it was given back."""

    address: BusAddress
    names: Names
    dice: Dice
    keep_s: float
    retry_s: float
    ack_wait_s: float
    publishes: bool
    takes_jobs: bool

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Link]:
        inbox = f"_INBOX.{self.dice.randbytes(12).hex()}"
        async with open_nats(self.address, inbox) as connection:
            link = JetStreamLink(self, connection)
            await link.prepare()
            yield link


class JetStreamLink:
    """See `jobengine.bus.link.Link`."""

    def __init__(self, links: JetStreamLinks, connection: NatsConnection) -> None:
        self._links = links
        self._names = links.names
        self._connection = connection
        self._shown = links.address.shown
        self._pull_subject = ""
        self._pulled: deque[NatsMessage] = deque()
        self._pulled_some = trio.Event()

    async def prepare(self) -> None:
        """Make the streams and the consumer that are missing."""
        links, prefix = self._links, self._names.prefix
        kept = {"max_age": _nanoseconds(links.keep_s)}
        kept["duplicate_window"] = _nanoseconds(min(_DEDUP_S, links.keep_s))
        if links.publishes:
            await self._ensure(f"{prefix}_events", f"{prefix}.events.>", kept)
        if links.takes_jobs:
            queue = {"retention": "workqueue", "duplicate_window": _nanoseconds(_DEDUP_S)}
            await self._ensure(f"{prefix}_jobs", f"{prefix}.jobs.>", queue)
            await self._ensure(f"{prefix}_dead", f"{prefix}.dead.>", kept)
            await self._ensure_consumer(f"{prefix}_jobs", prefix)
            self._pull_subject = await self._connection.subscribe(self._heard)

    async def _ensure(self, stream: str, subjects: str, options: dict[str, Any]) -> None:
        try:
            await self._manage(f"STREAM.INFO.{stream}", b"")
        except _NotFoundError:
            config = {"name": stream, "subjects": [subjects], "storage": "file", **options}
            await self._manage(f"STREAM.CREATE.{stream}", msgspec.json.encode(config))

    async def _ensure_consumer(self, stream: str, consumer: str) -> None:
        config = {
            "name": consumer,
            "durable_name": consumer,
            "ack_policy": "explicit",
            "ack_wait": _nanoseconds(self._links.ack_wait_s),
            "max_ack_pending": _PENDING_MAX,
        }
        body = msgspec.json.encode({"stream_name": stream, "config": config})
        await self._manage(f"CONSUMER.CREATE.{stream}.{consumer}", body)

    async def _manage(self, what: str, body: bytes) -> None:
        (answer,) = await self._connection.ask([Outgoing(f"$JS.API.{what}", body)])
        if why := _error_of(answer):
            raise (_NotFoundError if why[0] == 404 else BusAwayError)(
                f"{self._shown} refused {what}: {why[1]}"
            )

    async def publish(self, tenant_id: str, events: Sequence[Event]) -> int:
        messages: list[Outgoing] = []
        last_id = ""
        for event in events:
            headers = {_MESSAGE_ID: _message_id(tenant_id, event.seq)}
            if last_id:
                headers[_EXPECTED] = last_id
            last_id = headers[_MESSAGE_ID]
            subject = self._names.event_subject(tenant_id, event.event_type)
            messages.append(Outgoing(subject, self._body(tenant_id, event), headers))
        answers = await self._connection.ask(messages)
        for place, answer in enumerate(answers):
            if why := _error_of(answer):
                if place == 0:
                    raise BusAwayError(f"{self._shown} refused an event: {why[1]}")
                return place
        return len(answers)

    def _body(self, tenant_id: str, event: Event) -> bytes:
        if len(event.body) + _HEADER_BYTES <= self._connection.payload_bytes_max:
            return event.body
        return msgspec.json.encode(
            {
                "schemaVersion": SCHEMA_VERSION,
                "eventId": f"urn:orch:event:{tenant_id}:{event.seq}",
                "seq": event.seq,
                "eventType": event.event_type,
                "tenantId": tenant_id,
                "omittedBytes": len(event.body),
            }
        )

    async def take(self, within_s: float) -> Sequence[Taken]:
        taken = await self._pull({"batch": _TAKEN_MAX, "no_wait": True}, 0.0)
        if not taken:
            wait = {"batch": 1, "expires": _nanoseconds(within_s)}
            taken = await self._pull(wait, within_s)
        return taken

    async def _pull(self, wanted: dict[str, Any], within_s: float) -> list[Taken]:
        """Ends with as many as were wanted, or the word of the server that there are no more."""
        stream = f"{self._names.prefix}_jobs.{self._names.prefix}"
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}"
        asked = Outgoing(subject, msgspec.json.encode(wanted), reply=self._pull_subject)
        await self._connection.send([asked])
        taken: list[Taken] = []
        with trio.move_on_after(within_s + _TAKE_GRACE_S):
            while len(taken) < wanted["batch"]:
                message = await self._next_pulled()
                code, _, why = message.status.partition(" ")
                if code in ("404", "408"):
                    return taken
                if code and code != "100":
                    raise BusAwayError(f"{self._shown} refused {subject}: {why or code}")
                if not code:
                    taken.append(self._taken(message))
            return taken
        raise BusAwayError(f"{self._shown} does not answer {subject}")

    def _heard(self, message: NatsMessage) -> None:
        self._pulled.append(message)
        self._pulled_some.set()

    async def _next_pulled(self) -> NatsMessage:
        while not self._pulled:
            self._pulled_some = trio.Event()
            await self._pulled_some.wait()
        return self._pulled.popleft()

    def _taken(self, message: NatsMessage) -> Taken:
        place = message.reply.split(".")
        # $JS.ACK.[domain.account.]stream.consumer.deliveries.seq.consumer_seq.stored_at.pending
        seq, stored_at = (place[7], place[9]) if len(place) > 9 else (place[5], place[7])
        return Taken(
            handle=message.reply,
            source=message.subject,
            message_id=message.headers.get(_MESSAGE_ID) or f"{seq}-{stored_at}",
            body=message.data,
            tenant_id=self._names.tenant_of(message.subject),
            traceparent=message.headers.get("traceparent"),
        )

    async def done(self, taken: Sequence[Taken]) -> None:
        await self._connection.send([Outgoing(each.handle, b"+ACK") for each in taken])

    async def later(self, taken: Sequence[Taken]) -> None:
        nak = b'-NAK {"delay": %d}' % _nanoseconds(self._links.retry_s)
        await self._connection.send([Outgoing(each.handle, nak) for each in taken])

    async def bury(self, letters: Sequence[tuple[Taken, bytes]]) -> None:
        subject = f"{self._names.prefix}.dead.jobs"
        # Not under the id that the message had: two may have died of having the same one.
        answers = await self._connection.ask([Outgoing(subject, letter) for _, letter in letters])
        for answer in answers:
            if why := _error_of(answer):
                raise BusAwayError(f"{self._shown} refused {subject}: {why[1]}")


class _NotFoundError(BusAwayError):
    pass


def _error_of(answer: NatsMessage) -> tuple[int, str] | None:
    if answer.status.startswith(_NOBODY):
        return 503, "no stream takes it; is JetStream enabled?"
    error = msgspec.json.decode(answer.data).get("error")
    if error is None:
        return None
    return error.get("code", 500), error.get("description", "no reason given")


def _message_id(tenant_id: str, seq: int) -> str:
    """The eventId; a tenant that a header has no letters for, or a percent sign, is escaped."""
    named = tenant_id if _PLAIN.fullmatch(tenant_id) else token(tenant_id)
    return f"urn:orch:event:{named}:{seq}"


def _nanoseconds(seconds: float) -> int:
    return math.ceil(seconds * 1e9)
