"""From an HTTP request to an admitted call: who asks, for which tenant, with what reason, what for.

The checks run in this order, and the first that fails is the answer: token (401), tenant (403),
scope (403), reason and ticket (400), whether the engine takes new work, where it is asked for
(503), headers and query (400), media type (415), body (400, 413).
So nobody learns what an endpoint takes before having shown that he may use it, and no body is read
for a request that is refused without it.
"""

import contextlib
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from jobengine.auth.claims import Identity
from jobengine.auth.scopes import AUDIT_RULES, AuditRule, Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.governance import SYSTEM_TENANT
from jobengine.http.answer import JSON
from jobengine.http.callbacks import CallbackPlace
from jobengine.http.errors import invalid
from jobengine.http.front import Front
from jobengine.http.identities import Identities
from jobengine.http.json_bodies import decoded
from jobengine.http.query import QueryReader
from jobengine.http.route import Call, OctetBody, RawBody, Route, SignedCall, SignedRoute
from jobengine.messages.lease_shard import Actor, IdempotencyClaim
from jobengine.wire.indexed import indexed

__all__ = ["Admission", "ReadHeader", "SignedAdmission", "identify", "trace_id_of"]

ReadHeader = Callable[[str], str | None]
"""The value of a header by its name, whatever the case of the name."""

_BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,256}")
_REASON: Final = "X-Stella-Operator-Reason"
_TICKET: Final = "X-Stella-Operator-Ticket"
_TENANT: Final = "X-Stella-Tenant"
_PROJECT: Final = "X-Stella-Project"
_CORRELATION: Final = "X-Correlation-Id"
_REASON_CHARACTERS_MAX: Final = 256
_TICKET_CHARACTERS_MAX: Final = 128
_NAME_CHARACTERS_MAX: Final = 256
_OCTETS: Final = "application/octet-stream"
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+ *(?:; *[\x20-\x7e]*)?", re.ASCII)


def trace_id_of(header: ReadHeader) -> str:
    """The trace that the client says this request is part of, or a new one (W3C Trace Context)."""
    match = _TRACEPARENT.fullmatch(header("traceparent") or "")
    return match[1] if match else secrets.token_hex(16)


class Admission:
    """Admits the requests of one row of the table."""

    def __init__(self, front: Front, route: Route) -> None:
        self._front = front
        self._route = route
        self._query = QueryReader(route.query)
        self._body = None if route.body is None else msgspec.json.Decoder(route.body)

    async def admit(
        self,
        header: ReadHeader,
        path: dict[str, str],
        http_path: str,
        raw_query: bytes,
        read_body: Callable[[], Awaitable[bytes]],
        trace_id: str,
        charge: Callable[[Identity, str], None],
        read_chunk: Callable[[int], Awaitable[bytes]] | None = None,
    ) -> Call[Any, Any]:
        """The call to hand to the row's handler. Raises `UnavailableError`, and `RefusedError`, as
        `charge` may, which is told whose request this is as soon as that is known."""
        identity = await identify(self._front.identities, header)
        tenant_id = _tenant(header, identity, self._route.tenantless)
        self._front.identities.check_revoked(identity, tenant_id)
        charge(identity, tenant_id)
        actor = self._acting(header, identity)
        if self._route.of_platform:
            _check_system(tenant_id)
        if self._route.creates_work:
            self._front.gateway.check_new_work()
        project_id = _short_header(header, _PROJECT)
        traceparent = header("traceparent") or ""
        key = self._idempotency_key(header)
        query, filter_key = self._query.read(raw_query)
        if self._route.body is bytes and read_chunk is not None:
            data, body = b"", _octets(header, read_chunk)
        else:
            data, body = await self._read_body(header, read_body)
        return Call(
            front=self._front,
            identity=identity,
            tenant_id=tenant_id,
            project_id=project_id,
            actor=actor,
            path=path,
            query=query,
            body=body,
            claim=None
            if key is None
            else _claim(
                indexed(self._front.redactor.text(key), "Idempotency-Key"),
                http_path,
                project_id,
                data,
            ),
            correlation_id=_short_header(header, _CORRELATION) or "",
            traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
            trace_id=trace_id,
            last_event_id=header("Last-Event-ID"),
            filter_key=(tenant_id, http_path, project_id or "", filter_key),
            headers={
                name: value for name in self._route.headers if (value := header(name)) is not None
            },
        )

    def _acting(self, header: ReadHeader, identity: Identity) -> Actor:
        actor, text = self._actor(header, identity), self._front.redactor.text
        if actor.reason is None and actor.ticket is None:
            return actor
        reason, ticket = actor.reason, actor.ticket
        return Actor(actor.subject, reason and text(reason), ticket and text(ticket))

    def _actor(self, header: ReadHeader, identity: Identity) -> Actor:
        scope = self._scope(identity)
        # What only looks changes nothing, so it owes no reason.
        rule = AuditRule.NONE if self._route.method == "GET" else AUDIT_RULES[scope]
        return _actor(header, identity, scope, rule)

    def _scope(self, identity: Identity) -> Scope:
        for scope in self._route.scopes:
            if scope in identity.scopes:
                return scope
        wanted = [str(scope) for scope in self._route.scopes]
        raise RefusedError(
            Refusal(
                ErrorCode.SCOPE_REQUIRED,
                f"this needs the scope {' or '.join(wanted)}, which the token does not have",
                {"path": "Authorization", "scopes": wanted},
            )
        )

    def _idempotency_key(self, header: ReadHeader) -> str | None:
        key = header("Idempotency-Key")
        if key is None or self._route.method != "POST":
            return None
        if _KEY.fullmatch(key) is None:
            raise invalid("Idempotency-Key", "must be 1 to 256 visible ASCII characters")
        return key

    async def _read_body(
        self, header: ReadHeader, read_body: Callable[[], Awaitable[bytes]]
    ) -> tuple[bytes, Any]:
        if self._body is None:
            return b"", None
        media_type = _media_type(header, self._route.consumes)
        data = await read_body()
        if self._route.body_raw:
            return data, RawBody(data, media_type)
        return data, decoded(self._body, data or b"{}" if self._route.body_optional else data)


class SignedAdmission:
    """Admits the requests of one signed row: the signature (403), the limits (429), media type
    (415), body (400, 413)."""

    def __init__(self, front: Front, route: SignedRoute) -> None:
        self._front = front
        self._body = msgspec.json.Decoder(route.body)

    async def admit(
        self,
        header: ReadHeader,
        token: str,
        read_body: Callable[[], Awaitable[bytes]],
        charge: Callable[[CallbackPlace], None],
    ) -> SignedCall[Any]:
        """Raises `RefusedError`, as `charge` may, which is told whose address it is."""
        place = self._front.callbacks.opened(token)
        charge(place)
        _media_type(header, (JSON,))
        body = decoded(self._body, await read_body() or b"{}")
        return SignedCall(front=self._front, place=place, body=body)


def _media_type(header: ReadHeader, consumes: Sequence[str]) -> str:
    media_type = (header("Content-Type") or "").partition(";")[0].strip().lower()
    if media_type and media_type not in consumes:
        raise _unsupported("Content-Type", f"send {' or '.join(consumes)}")
    return media_type


def _octets(header: ReadHeader, read_chunk: Callable[[int], Awaitable[bytes]]) -> OctetBody:
    """Bytes are kept as they are sent, so a coding would have to be kept too; none is taken."""
    if (header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise _unsupported("Content-Encoding", "send the bytes as they are")
    media_type = (header("Content-Type") or _OCTETS).strip()
    if len(media_type) > _NAME_CHARACTERS_MAX or _MEDIA_TYPE.fullmatch(media_type) is None:
        raise _unsupported("Content-Type", "send type/subtype, or leave it out")
    length = header("Content-Length") or ""
    return OctetBody(media_type, int(length) if length.isdecimal() else None, read_chunk)


def _unsupported(name: str, message: str) -> RefusedError:
    return RefusedError(
        Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"{name}: {message}", {"path": name})
    )


async def identify(identities: Identities, header: ReadHeader) -> Identity:
    """Whom the bearer of a request speaks for. Raises `RefusedError` (401)."""
    match = _BEARER.fullmatch(header("Authorization") or "")
    if match is None:
        message = "send a token or an API key as Authorization: Bearer …"
        raise RefusedError(Refusal(ErrorCode.TOKEN_INVALID, message, {"path": "Authorization"}))
    return await identities.identify(match[1])


def _tenant(
    header: ReadHeader, identity: Identity, tenantless: ErrorCode = ErrorCode.TENANT_REQUIRED
) -> str:
    tenant_id = header(_TENANT)
    if not tenant_id:
        raise RefusedError(Refusal(tenantless, f"{_TENANT}: name the tenant", {"path": _TENANT}))
    if tenant_id not in identity.tenants:
        raise RefusedError(
            Refusal(
                ErrorCode.TENANT_FORBIDDEN,
                f"{_TENANT}: the token is not for this tenant",
                {"path": _TENANT},
            )
        )
    return tenant_id


def _check_system(tenant_id: str) -> None:
    if tenant_id != SYSTEM_TENANT:
        message = f"{_TENANT}: this is the platform's; act for {SYSTEM_TENANT}, with a token for it"
        raise RefusedError(Refusal(ErrorCode.TENANT_FORBIDDEN, message, {"path": _TENANT}))


def _actor(header: ReadHeader, identity: Identity, scope: Scope, rule: AuditRule) -> Actor:
    reason = _said(header, _REASON, _REASON_CHARACTERS_MAX)
    ticket = _said(header, _TICKET, _TICKET_CHARACTERS_MAX)
    missing = []
    if rule is not AuditRule.NONE and reason is None:
        missing.append(_REASON)
    if rule is AuditRule.REASON_AND_TICKET and ticket is None:
        missing.append(_TICKET)
    if missing:
        raise RefusedError(
            Refusal(
                ErrorCode.AUDIT_REASON_REQUIRED,
                f"acting under {scope} needs the header {' and '.join(missing)}",
                {"paths": missing},
            )
        )
    return Actor(identity.subject, reason, ticket)


def _said(header: ReadHeader, name: str, characters_max: int) -> str | None:
    text = _text(header, name)
    if text is not None and len(text) > characters_max:
        raise invalid(name, f"at most {characters_max} characters")
    return text


def _short_header(header: ReadHeader, name: str) -> str | None:
    return _said(header, name, _NAME_CHARACTERS_MAX)


def _text(header: ReadHeader, name: str) -> str | None:
    """A header for people, as UTF-8 where it is (the server hands on Latin-1); None when blank."""
    value = (header(name) or "").strip()
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode("utf-8")
    return value or None


def _claim(key: str, path: str, project_id: str | None, data: bytes) -> IdempotencyClaim:
    # The project stamps what is created, so it is a part of what was asked.
    sha = hashlib.sha256((project_id or "").encode("utf-8", "surrogateescape") + b"\0")
    sha.update(data)
    return IdempotencyClaim(key, path, sha.hexdigest())
