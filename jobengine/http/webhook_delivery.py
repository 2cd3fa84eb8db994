"""One POST to a webhook: the request and its signature, and what the answer means.

I1  The body is the envelope of the event exactly, or a DSSE envelope around those bytes; the same
    event gives the same body each time, as long as the engine's key is the same.
I2  The signature covers the body that is sent: HMAC-SHA256 under the webhook's secret, in hex.
I3  Whatever the network, the receiver, the URL or a damaged secret does is an outcome, within
    `timeout_s`, also what nobody foresaw: it is stored, and would be met again at each start.
I4  A status of 2xx confirms, whatever the body is; of a body some is read, so that the connection
    can be used again, and none is kept.

Not here: when, in what order and how often (`core/notifier`), what may be reached (`outgoing`).
Sources: RFC 2104, RFC 9110 (10.2.3 Retry-After), https://github.com/secure-systems-lab/dsse.
"""

import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpcore
import httpx
import msgspec
import structlog
import trio

from jobengine import __version__
from jobengine.auth.keys import KeyRing, key_id_of
from jobengine.auth.vault import Vault, VaultError
from jobengine.domain.canonical import canonical_of
from jobengine.domain.event import Event
from jobengine.domain.instant import SECOND
from jobengine.domain.webhook import Webhook, Wrapping
from jobengine.http.outgoing import (
    AddressRefusedError,
    OutgoingPolicy,
    Resolve,
    check_url,
    open_client,
    resolve_by_system,
)
from jobengine.messages.notifier import Outcome

__all__ = ["PAYLOAD_TYPE", "WebhookDelivery", "open_delivery", "signature_of", "wrap"]

PAYLOAD_TYPE: Final = "application/vnd.orch.event.v1+json"
_ANSWER_BYTES_MAX: Final = 64 << 10
_ANSWER_S_MAX: Final = 1.0
_GONE: Final = 410
_TESTS: Final = 16
"""Connections beside those of deliveries."""
_FAILED: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
    OSError,
    ssl.SSLError,
    trio.BrokenResourceError,
)

_log = structlog.get_logger("jobengine.webhooks")


class WebhookDelivery:
    """Posts events; `open_delivery` makes it."""

    def __init__(
        self,
        client: httpcore.AsyncConnectionPool,
        policy: OutgoingPolicy,
        vault: Vault,
        ring: Callable[[], KeyRing],
        timeout_s: float,
    ) -> None:
        self._client = client
        self._policy = policy
        self._vault = vault
        self._ring = ring
        self._timeout_s = timeout_s

    async def post(self, webhook: Webhook, event: Event, number: int) -> Outcome:
        """Post an event, the so-maniest attempt at it (I3). Cancelled: it may have arrived."""
        began = trio.current_time()
        heard: list[Outcome] = []
        with trio.move_on_after(self._timeout_s):
            await self._try(webhook, event, number, heard.append)
        outcome = heard[0] if heard else Outcome(error=f"no answer within {self._timeout_s:g} s")
        took_us = round((trio.current_time() - began) * SECOND)
        return msgspec.structs.replace(outcome, took_us=took_us)

    async def _try(
        self, webhook: Webhook, event: Event, number: int, hear: Callable[[Outcome], None]
    ) -> None:
        """`hear` is told what is known as soon as it is; what it is told later counts no more."""
        try:
            refused = check_url(webhook.url, self._policy)
            if refused is not None:
                hear(Outcome(error=f"the URL {refused}"))
                return
            secret = self._vault.open(webhook.tenant_id, webhook.webhook_id, webhook.secret)
            await self._send(webhook, event, number, secret, hear)
        except (VaultError, AddressRefusedError) as error:
            hear(Outcome(error=str(error)))
        except _FAILED as error:
            hear(Outcome(error=_why(error)))
        except Exception as error:  # noqa: BLE001 - I3
            _log.error(
                "webhook_post_failed",
                tenant=webhook.tenant_id,
                webhook=webhook.webhook_id,
                exc_info=error,
            )
            hear(Outcome(error=_why(error)))

    async def _send(
        self,
        webhook: Webhook,
        event: Event,
        number: int,
        secret: bytes,
        hear: Callable[[Outcome], None],
    ) -> None:
        url = httpx.URL(webhook.url)
        body = event.body
        if webhook.wrapping is Wrapping.DSSE:
            body = wrap(body, self._ring())
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": f"jobengine/{__version__}",
            "X-JobEngine-Signature": signature_of(secret, body),
            "X-JobEngine-Event": event.event_type,
            "X-JobEngine-Event-Id": f"urn:orch:event:{event.tenant_id}:{event.seq}",
            "X-JobEngine-Attempt": str(number),
            "X-JobEngine-Webhook-Id": webhook.webhook_id,
        }
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        async with self._client.stream(
            "POST", target, headers=list(headers.items()), content=body
        ) as answer:
            hear(_outcome_of(answer))
            await _read_some(answer)


@asynccontextmanager
async def open_delivery(
    policy: OutgoingPolicy,
    vault: Vault,
    ring: Callable[[], KeyRing],
    *,
    timeout_s: float,
    deliveries_max: int,
    resolve: Resolve | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[WebhookDelivery]:
    """A way out for `deliveries_max` posts at once; `ring` gives the keys as they are now. Names
    are looked up, and certificates verified, as the system does it, unless told otherwise."""
    client = open_client(
        policy,
        resolve or resolve_by_system(),
        tls or ssl.create_default_context(),
        connections_max=deliveries_max + _TESTS,
    )
    async with client:
        yield WebhookDelivery(client, policy, vault, ring, timeout_s)


def signature_of(secret: bytes, body: bytes) -> str:
    """I2"""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def wrap(body: bytes, ring: KeyRing) -> bytes:
    """A DSSE envelope around an event, signed by the engine, as canonical JSON. Its `keyid` is the
    `kid` under which the engine's JWKS has the key."""
    signed = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(body), body)
    signature = {
        "keyid": key_id_of(ring.signer.public_key()),
        "sig": base64.b64encode(ring.signer.sign(signed)).decode(),
    }
    return canonical_of(
        {
            "payload": base64.b64encode(body).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [signature],
        }
    )


async def _read_some(answer: httpcore.Response) -> None:
    """I4"""
    left = _ANSWER_BYTES_MAX
    with trio.move_on_after(_ANSWER_S_MAX) as reading:
        async for chunk in answer.aiter_stream():
            left -= len(chunk)
            if left < 0:
                # The library's generators end by what is raised in them, and by nothing else.
                reading.cancel()


def _outcome_of(answer: httpcore.Response) -> Outcome:
    status = answer.status
    if 200 <= status < 300:
        return Outcome(status=status)
    headers = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
    if 300 <= status < 400:
        where = headers.get(b"location", "")[:200]
        error = f"the answer is a redirect ({status}) to {where!r}; redirects are not followed"
    else:
        error = f"the answer has the status {status}"
    return Outcome(
        status=status,
        error=error,
        retry_after_s=_retry_after_s(headers.get(b"retry-after", "")),
        gone=status == _GONE,
    )


def _retry_after_s(text: str) -> float | None:
    """Seconds from now, of either form; None for what is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
        wait_s = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return max(0.0, wait_s)


def _why(error: BaseException) -> str:
    """One line for an operator. What says most is often what the client's error was made of."""
    name, below = type(error).__name__, error.__cause__ or error.__context__
    while not str(error) and below is not None:
        error, below = below, below.__cause__ or below.__context__
    text = " ".join(str(error).split())[:200]
    return f"{name}: {text}" if text else name
