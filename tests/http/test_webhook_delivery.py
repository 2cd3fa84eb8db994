"""One POST to a webhook over real sockets, and what may be reached at all."""

import hashlib
import hmac
import ssl
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from jobengine import __version__
from jobengine.auth.keys import KeyRing, key_id_of
from jobengine.auth.vault import Vault
from jobengine.core.notifier.records import test_event as event_of_a_test
from jobengine.domain.event import Event
from jobengine.domain.webhook import Webhook, Wrapping
from jobengine.http.outgoing import Resolve, check_url, policy_of, resolve_by_system
from jobengine.http.webhook_delivery import (
    PAYLOAD_TYPE,
    WebhookDelivery,
    open_delivery,
    signature_of,
)
from tests.http.certificates import Authority
from tests.http.receiver import Answer, Received, open_receiver

SECRET = b"whsec_s3cret"
VAULT = Vault(bytes(32))
RING = KeyRing(Ed25519PrivateKey.generate())
LOOPBACK = "127.0.0.0/8, ::1/128"


def webhook(url: str, **fields: Any) -> Webhook:
    given: dict[str, Any] = {
        "tenant_id": "acme",
        "webhook_id": "w1",
        "secret": VAULT.seal("acme", "w1", SECRET),
        "created_at": 1,
        "created_by": "ops",
        "changed_at": 1,
    }
    return Webhook(url=url, **given | fields)


def an_event(url: str = "https://example.com") -> Event:
    return event_of_a_test(webhook(url), 1_800_000_000_000_000)


def delivering(
    allow: str = LOOPBACK,
    resolve: Resolve | None = None,
    timeout_s: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> AbstractAsyncContextManager[WebhookDelivery]:
    return open_delivery(
        policy_of(allow),
        VAULT,
        lambda: RING,
        timeout_s=timeout_s,
        deliveries_max=4,
        resolve=resolve,
        tls=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )


def names(**known: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        if host.partition(".")[0] not in known:
            raise OSError(-2, "Name or service not known")
        return known[host.partition(".")[0]].split()

    return resolve


async def test_the_body_is_the_envelope_and_the_signature_covers_it() -> None:
    async with open_receiver() as receiver, delivering() as delivery:
        event = an_event()
        outcome = await delivery.post(webhook(receiver.url + "?a=1&b=%20"), event, 3)
        (request,) = receiver.received
    assert (outcome.status, outcome.error) == (204, None)
    assert request.body == event.body
    assert request.path == "/in?a=1&b=%20"
    expected = hmac.new(SECRET, request.body, hashlib.sha256).hexdigest()
    assert {name: request.headers[name] for name in (
        "host", "content-type", "user-agent", "x-jobengine-signature", "x-jobengine-event",
        "x-jobengine-event-id", "x-jobengine-attempt", "x-jobengine-webhook-id",
    )} == {
        "host": f"127.0.0.1:{receiver.port}",
        "content-type": "application/json",
        "user-agent": f"jobengine/{__version__}",
        "x-jobengine-signature": f"sha256={expected}",
        "x-jobengine-event": "webhook.test",
        "x-jobengine-event-id": "urn:orch:event:acme:0",
        "x-jobengine-attempt": "3",
        "x-jobengine-webhook-id": "w1",
    }  # fmt: skip
    assert not {"cookie", "authorization", "accept-encoding"} & request.headers.keys()


async def test_a_wrapped_event_is_verified_by_another_implementation_of_dsse() -> None:
    async with open_receiver() as receiver, delivering() as delivery:
        event = an_event()
        await delivery.post(webhook(receiver.url, wrapping=Wrapping.DSSE), event, 1)
        (request,) = receiver.received
    assert request.headers["x-jobengine-signature"] == signature_of(SECRET, request.body)
    envelope = Envelope.from_dict(msgspec.json.decode(request.body))
    assert envelope.payload == event.body
    assert envelope.payload_type == PAYLOAD_TYPE
    public = RING.signer.public_key()
    key = SSlibKey(
        key_id_of(public), "ed25519", "ed25519", {"public": public.public_bytes_raw().hex()}
    )
    assert envelope.verify([key], 1)
    assert RING.jwks(0)["keys"][0]["kid"] == key.keyid


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (Answer(status=200, body_bytes=512 << 10), 200, None),
        (Answer(status=201, body_bytes=2_048), 201, None),
        (Answer(status=500, body_bytes=2_048), 500, "the answer has the status 500"),
        (Answer(status=302, headers=(("location", "http://10.0.0.1/"),)), 302, "redirect (302)"),
        (Answer(reset=True), 0, "RemoteProtocolError"),
    ],
)
async def test_each_answer_is_an_outcome(answer: Answer, status: int, error: str | None) -> None:
    async def decide(_: Received) -> Answer:
        return answer

    async with open_receiver(decide) as receiver, delivering() as delivery:
        outcome = await delivery.post(webhook(receiver.url), an_event(), 1)
        assert len(receiver.received) == 1
    assert outcome.status == status
    assert outcome.error is None if error is None else error in (outcome.error or "")
    assert outcome.took_us > 0
    assert not outcome.gone


async def test_a_receiver_that_does_not_answer_in_time_has_failed() -> None:
    async def never(_: Received) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    async with open_receiver(never) as receiver, delivering(timeout_s=0.05) as delivery:
        outcome = await delivery.post(webhook(receiver.url), an_event(), 1)
    assert (outcome.status, outcome.error) == (0, "no answer within 0.05 s")


async def test_an_answer_that_never_ends_confirms_and_is_cut() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery, delivering(timeout_s=0.2) as delivery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        outcome = await delivery.post(webhook(url), an_event(), 1)
        nursery.cancel_scope.cancel()
    assert (outcome.status, outcome.error) == (200, None)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 -0000", 0.0),
        ("soon", None),
        ("-3", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 +99999999999999999", None),
    ],
)
async def test_what_an_answer_asks_for_is_read(said: str, seconds: float | None) -> None:
    async def decide(_: Received) -> Answer:
        return Answer(status=503, headers=(("retry-after", said),))

    async with open_receiver(decide) as receiver, delivering() as delivery:
        outcome = await delivery.post(webhook(receiver.url), an_event(), 1)
    assert outcome.retry_after_s == seconds


async def test_a_date_at_the_end_of_the_calendar_is_one_far_away() -> None:
    async def decide(_: Received) -> Answer:
        return Answer(status=503, headers=(("retry-after", "Fri, 31 Dec 9999 23:59:59 -2300"),))

    async with open_receiver(decide) as receiver, delivering() as delivery:
        outcome = await delivery.post(webhook(receiver.url), an_event(), 1)
    assert (outcome.retry_after_s or 0.0) > 1e11


async def test_a_receiver_that_is_gone_says_so() -> None:
    async def decide(_: Received) -> Answer:
        return Answer(status=410)

    async with open_receiver(decide) as receiver, delivering() as delivery:
        assert (await delivery.post(webhook(receiver.url), an_event(), 1)).gone


async def test_connections_are_used_again_while_answers_are_small() -> None:
    async with open_receiver() as receiver, delivering() as delivery:
        for _ in range(5):
            assert (await delivery.post(webhook(receiver.url), an_event(), 1)).error is None
        assert (len(receiver.received), receiver.connections) == (5, 1)


async def test_nobody_listening_and_a_name_that_is_unknown_are_failures() -> None:
    async with delivering("nobody.test, 127.0.0.0/8", names()) as delivery:
        refused = await delivery.post(webhook("http://127.0.0.1:9/"), an_event(), 1)
        unknown = await delivery.post(webhook("http://nobody.test/"), an_event(), 1)
    assert "ConnectError" in (refused.error or "")
    assert "nobody.test was not found" in (unknown.error or "")


async def test_a_secret_that_does_not_open_is_a_failure_and_nothing_is_sent() -> None:
    async with open_receiver() as receiver, delivering() as delivery:
        outcome = await delivery.post(webhook(receiver.url, secret=b"garbage"), an_event(), 1)
        assert receiver.received == []
    assert "sealed" in (outcome.error or "")


async def test_a_name_that_the_system_cannot_ask_for_was_not_found() -> None:
    """A name server never hears of it: the look-up itself raises."""
    host = "a" * 64 + ".example.com"

    async def resolve(_: str, port: int) -> Sequence[str]:
        return await resolve_by_system()(host, port)

    async with delivering("", resolve) as delivery:
        outcome = await delivery.post(webhook("https://hook.example.com/"), an_event(), 1)
    assert outcome.error == "ConnectError: hook.example.com was not found: it is no name"


@pytest.mark.parametrize("url", ["https://a..com/", "https://xn--a.com/"])
async def test_a_stored_url_that_is_taken_no_more_is_a_failure(url: str) -> None:
    async with delivering() as delivery:
        outcome = await delivery.post(webhook(url), an_event(), 1)
    assert (outcome.error or "").startswith("the URL ")


async def test_what_nobody_foresaw_is_a_failure_in_one_line_and_is_logged() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise LookupError(f"{host}\nis beyond me")

    async with delivering("", resolve) as delivery:
        with structlog.testing.capture_logs() as logs:
            outcome = await delivery.post(webhook("https://hook.example.com/"), an_event(), 1)
    assert outcome.error == "LookupError: hook.example.com is beyond me"
    assert [(log["event"], log["webhook"]) for log in logs] == [("webhook_post_failed", "w1")]


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "168.63.129.16", "192.0.0.192",
    "0.0.0.0", "::1",
    "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "2002:7f00:1::", "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "2001:db8::1", "2001::1", "::127.0.0.1", "fe80::1%eth0",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_that_leads_to_a_private_address_is_refused_and_nothing_is_sent(
    address: str,
) -> None:
    async with open_receiver() as receiver:
        url = f"https://inner.example.com:{receiver.port}/"
        async with delivering("", names(inner=address)) as delivery:
            outcome = await delivery.post(webhook(url), an_event(), 1)
        assert receiver.connections == 0
    assert outcome.error == "inner.example.com leads to where nothing may be sent"


async def test_all_addresses_of_a_name_must_be_allowed() -> None:
    async with delivering("", names(mixed="93.184.216.34 10.0.0.1")) as delivery:
        outcome = await delivery.post(webhook("https://mixed.example.com/"), an_event(), 1)
    assert "nothing may be sent" in (outcome.error or "")


async def test_a_name_is_looked_up_once_for_a_connection() -> None:
    """A name that leads to loopback at the second question is never asked a second time."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    async with open_receiver() as receiver, delivering("*.example.com", rebinding) as delivery:
        url = f"http://hook.example.com:{receiver.port}/"
        outcome = await delivery.post(webhook(url), an_event(), 1)
        (request,) = receiver.received
    assert outcome.error is None
    assert asked == ["hook.example.com"]
    assert request.headers["host"] == f"hook.example.com:{receiver.port}"


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with open_receiver() as receiver, delivering() as delivery:
        assert (await delivery.post(webhook(receiver.url), an_event(), 1)).error is None


async def test_certificates_are_verified_against_the_name(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pair.certificate, pair.key)
    client = ssl.create_default_context(cafile=authority.file)

    async def serve(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, server, server_side=True, https_compatible=True)
        try:
            await secured.receive_some(65_536)
            await secured.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        resolve = names(localhost="127.0.0.1", other="127.0.0.1")
        async with delivering("localhost, *.example.com", resolve, tls=client) as delivery:
            right = await delivery.post(webhook(f"https://localhost:{port}/"), an_event(), 1)
            wrong = await delivery.post(
                webhook(f"https://other.example.com:{port}/"), an_event(), 1
            )
        async with delivering("localhost", resolve) as delivery:
            unknown = await delivery.post(webhook(f"https://localhost:{port}/"), an_event(), 1)
        nursery.cancel_scope.cancel()
    assert (right.status, right.error) == (204, None)
    assert "ostname mismatch" in (wrong.error or "")
    assert "verify failed" in (unknown.error or "")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/", "https"),
        ("ftp://example.com/", "https"),
        ("file:///etc/passwd", "https"),
        ("https:///x", "https"),
        ("example.com", "https"),
        ("https://user@example.com/", "user"),
        ("https://user:pass@example.com/", "user"),
        ("https://@example.com/", "user"),
        ("https://example.com/#x", "fragment"),
        ("https://exa%6dple.com/", "encode"),
        ("https://example.com\\@127.0.0.1/", "characters"),
        ("https://exämple.com/", "characters"),
        ("https://example.com/\r\nX: y", "characters"),
        ("https://127.0.0.1/", "may not be reached"),
        ("https://[::1]/", "may not be reached"),
        ("https://[::ffff:7f00:1]/", "may not be reached"),
        ("https://169.254.169.254/latest", "may not be reached"),
        ("https://2130706433/", "no host name"),
        ("https://0x7f000001/", "no host name"),
        ("https://127.1/", "no host name"),
        ("https://0177.0.0.1/", "not a URL"),
        ("https://localhost/", "no host name"),
        ("https://" + "a" * 64 + ".com/x", "more characters"),
        ("https://" + ".".join(["a" * 60] * 5) + "/", "more characters"),
        ("https://a..com/x", "empty label"),
        ("https://.com/", "empty label"),
        ("https://a.com../", "empty label"),
        ("https://xn--a.com/", "not a URL"),
        ("https://xn--.com/", "not a URL"),
        ("https://example.com:99999/", "port"),
        ("https://example.com/" + "x" * 3_000, "characters"),
    ],
)
def test_a_url_that_cannot_be_meant_well_is_refused_at_once(url: str, why: str) -> None:
    assert why in (check_url(url, policy_of("")) or "")


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("https://example.com/in?x=1", ""),
        ("https://example.com:8443/", ""),
        ("https://example.com./", ""),
        ("https://" + "a" * 63 + ".example/", ""),
        ("https://xn--bcher-kva.example/", ""),
        ("https://93.184.216.34/", ""),
        ("https://[2606:2800:220:1::1]/", ""),
        ("http://localhost:9000/", "localhost"),
        ("http://HOOKS.corp.example/", "*.corp.example"),
        ("http://10.1.2.3/", "10.1.0.0/16"),
        ("https://[fd00::5]/", "fd00::/8"),
    ],
)
def test_a_url_that_may_be_reached_is_taken(url: str, allow: str) -> None:
    assert check_url(url, policy_of(allow)) is None


def test_a_domain_that_is_allowed_allows_no_name_that_only_looks_like_it() -> None:
    policy = policy_of("*.corp.example, api.example")
    for url in ("http://evilcorp.example/", "http://corp.example/", "http://x.api.example/"):
        assert check_url(url, policy) is not None


@pytest.mark.parametrize("text", ["10.0.0.0/33", "*", "a b", "https://x.example", "x:80", "10.1"])
def test_a_setting_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        policy_of(text)
