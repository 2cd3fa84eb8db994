"""API keys of a tenant, and tokens that shall count no more.

I1  A key is shown in the answer to the request that made it, and nowhere else: not in the ledger,
    not in the store, and not in a repeat of that answer under an idempotency key.
I2  Nobody hands out more than he has: the scopes of a key are a part of its maker's.
"""

from typing import Annotated, Any, Final

import msgspec

from jobengine.auth.apikeys import SCHEME, new_api_key
from jobengine.auth.scopes import Scope, scopes_of
from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import ApiKeyRow, RevocationRow
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import DAY, from_rfc3339, to_rfc3339
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.errors import invalid
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import Call, NoBody, NoQuery, Paging, Route
from jobengine.http.route_shapes import REPEATED, acting, reading
from jobengine.messages.lease_shard import AdministerAnswer, AdministerTenant
from jobengine.wire.fields import Instant
from jobengine.wire.jobs import Page

__all__ = ["ROUTES", "ApiKeyMade", "ApiKeyRequest", "ApiKeyView", "RevokeToken", "TokenRevoked"]

_PREFIX_CHARACTERS: Final = 16
_JWT_DOTS: Final = 2
_KEYS_MAX: Final = 10_000
_ENDLESS_MAX: Final = 10_000
_KEPT_LONGER_US: Final = DAY
"""Issuers' clocks differ from ours, and ours may be wrong for a while."""

_ScopeName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class ApiKeyRequest(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`scopes` may name roles; without `expiresAt` the key holds until it is revoked."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    scopes: Annotated[list[_ScopeName], msgspec.Meta(min_length=1, max_length=32)]
    expires_at: str | None = None


class ApiKeyView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A key without its secret. `lastUsedDay` is the day (UTC) on which it was used last."""

    api_key_id: str
    prefix: str
    label: str
    tenant_id: str
    scopes: list[str]
    created_at: Instant
    created_by: str
    expires_at: Instant | None = None
    last_used_day: str | None = None
    revoked_at: Instant | None = None


class ApiKeyMade(ApiKeyView, rename="camel", omit_defaults=True, kw_only=True):
    """`key` is shown this once; a repeat under an Idempotency-Key is without it."""

    key: str | None = None


class RevokeToken(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`tokenId` is the token's `jti`; `expiresAt` is that of the token. Without it the revocation
    is kept for ever."""

    token_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    expires_at: str | None = None


class TokenRevoked(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    token_id: str
    revoked_at: Instant
    expires_at: Instant | None = None


async def create_api_key(call: Call[NoQuery, ApiKeyRequest]) -> Answer:
    now_at = call.front.gateway.clock.moment().at
    keys, _ = call.front.identities.counts(call.tenant_id)
    if keys >= _KEYS_MAX:
        raise _full(f"{_KEYS_MAX} API keys, as many as it may; revoke some", "keysMax", _KEYS_MAX)
    made = new_api_key()
    row = ApiKeyRow(
        tenant_id=call.tenant_id,
        prefix=made.prefix,
        digest=made.digest,
        label=call.front.redactor.text(_text("label", call.body.label)),
        scopes=_scopes(call),
        created_at=now_at,
        created_by=call.actor.subject,
        expires_at=_expiry(call.body.expires_at, now_at),
    )
    view = _view(row)
    answer = await _administer(call, "apikey.created", view, _entry(row), api_keys=[row])
    if answer.stored is not None:
        first = msgspec.json.decode(answer.stored, type=ApiKeyMade)
        return json_answer(first, 200, replayed=True)
    shown = ApiKeyMade(**{name: getattr(view, name) for name in view.__struct_fields__})
    shown.key = made.text
    return json_answer(shown, 201, Cache_Control="no-store")


async def list_api_keys(call: Call[Paging, None]) -> Answer:
    size = call.query.page_size
    after = pages.after(call, tuple[int, str])
    rows = await call.front.gateway.store.api_keys(call.tenant_id, after, size + 1)
    kept, cursor = pages.cut(rows, size, lambda row: (row.created_at, row.prefix))
    return page_answer([_view(row) for row in kept], pages.token(call, cursor))


async def revoke_api_key(call: Call[NoQuery, NoBody]) -> Answer:
    """Rows are never removed, so a key that was found here is there when the change arrives."""
    row = await _require(call)
    now_at = call.front.gateway.clock.moment().at
    if row.revoked_at is None:
        row.revoked_at = now_at
    change = ApiKeyRow(tenant_id=call.tenant_id, prefix=row.prefix, revoked_at=now_at)
    answer = await _administer(call, "apikey.revoked", _view(row), _entry(row), api_keys=[change])
    if answer.stored is not None:
        return json_answer(msgspec.json.decode(answer.stored, type=ApiKeyView), replayed=True)
    return json_answer(_view(await _require(call)))


async def revoke_token(call: Call[NoQuery, RevokeToken]) -> Answer:
    now_at = call.front.gateway.clock.moment().at
    body = call.body
    token_id = _text("tokenId", body.token_id)
    if token_id.startswith(SCHEME) or token_id.count(".") == _JWT_DOTS:
        raise invalid("tokenId", "is a bearer itself; name its id (the claim jti)")
    until_at = _expiry(body.expires_at, now_at)
    _, endless = call.front.identities.counts(call.tenant_id)
    if until_at is None and endless >= _ENDLESS_MAX:
        what = f"{_ENDLESS_MAX} revocations without expiresAt, as many as it may; name when it ends"
        raise _full(what, "revocationsMax", _ENDLESS_MAX)
    forgotten_at = None if until_at is None else until_at + _KEPT_LONGER_US
    row = RevocationRow(
        tenant_id=call.tenant_id, token_id=token_id, until_at=forgotten_at, at=now_at
    )
    view = TokenRevoked(
        token_id=token_id, revoked_at=to_rfc3339(now_at), expires_at=_instant(until_at)
    )
    entry = {"credential": token_id, "expiresAt": _instant(until_at)}
    answer = await _administer(call, "token.revoked", view, entry, revocations=[row])
    if answer.stored is not None:
        view = msgspec.json.decode(answer.stored, type=TokenRevoked)
    return json_answer(view, replayed=answer.replayed)


async def _administer(
    call: Call[Any, Any],
    kind: str,
    view: msgspec.Struct,
    entry: dict[str, Any],
    *,
    api_keys: list[ApiKeyRow] | None = None,
    revocations: list[RevocationRow] | None = None,
) -> AdministerAnswer:
    """Commit a change, and let it count from then on."""
    facts = msgspec.json.encode(view)
    call.front.identities.expect()
    answer = await call.front.gateway.administer(
        call.tenant_id,
        lambda ask_id: AdministerTenant(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            kind=kind,
            data=canonical_of(entry),
            facts=facts,
            api_keys=api_keys or (),
            revocations=revocations or (),
            claim=call.claim,
        ),
    )
    await call.front.identities.refresh()
    return answer


def _full(what: str, name: str, limit: int) -> RefusedError:
    message = f"the tenant has {what}"
    return RefusedError(Refusal(ErrorCode.CAPACITY_EXCEEDED, message, {name: limit}))


def _scopes(call: Call[NoQuery, ApiKeyRequest]) -> list[str]:
    try:
        wanted = scopes_of(call.body.scopes)
    except ValueError:
        known = ", ".join(Scope)
        raise invalid(
            "scopes", f"names what is neither a scope nor a role; known: {known}"
        ) from None
    missing = sorted(wanted - call.identity.scopes)
    if missing:
        raise RefusedError(
            Refusal(
                ErrorCode.SCOPE_REQUIRED,
                f"a key cannot have {', '.join(missing)}, which its maker does not have",
                {"path": "scopes", "scopes": missing},
            )
        )
    return sorted(wanted)


def _expiry(text: str | None, now_at: int) -> int | None:
    if text is None:
        return None
    try:
        at = from_rfc3339(text)
    except ValueError as error:
        raise invalid("expiresAt", str(error)) from None
    if at <= now_at:
        raise invalid("expiresAt", "has passed already")
    return at


def _text(path: str, text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise invalid(path, "holds characters that cannot be shown, or nothing else")
    return text


async def _require(call: Call[Any, Any]) -> ApiKeyRow:
    prefix = call.path["apiKeyId"]
    row = None
    if len(prefix) == _PREFIX_CHARACTERS and prefix.isprintable():
        row = await call.front.gateway.store.api_key(call.tenant_id, prefix)
    if row is None:
        message = "no such API key here"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message, {"path": "apiKeyId"}))
    return row


def _view(row: ApiKeyRow) -> ApiKeyView:
    last_used = _instant(row.last_used_day_at)
    return ApiKeyView(
        api_key_id=row.prefix,
        prefix=f"jek_{row.prefix}",
        label=row.label,
        tenant_id=row.tenant_id,
        scopes=row.scopes,
        created_at=to_rfc3339(row.created_at),
        created_by=row.created_by,
        expires_at=_instant(row.expires_at),
        last_used_day=None if last_used is None else last_used.partition("T")[0],
        revoked_at=_instant(row.revoked_at),
    )


def _entry(row: ApiKeyRow) -> dict[str, Any]:
    """What the ledger says of a key. No name in it looks like that of a secret, whose value would
    be replaced by a digest."""
    return {
        "credential": f"jek_{row.prefix}",
        "label": row.label,
        "scopes": row.scopes,
        "expiresAt": _instant(row.expires_at),
    }


def _instant(at: int | None) -> str | None:
    return None if at is None else to_rfc3339(at)


ROUTES: Final = (
    Route(
        method="POST",
        path="/apikeys",
        name="createApiKey",
        summary="Make an API key for the tenant; its secret is in this answer and nowhere else",
        handler=create_api_key,
        scopes=(Scope.ADMIN,),
        body=ApiKeyRequest,
        answers={201: ApiKeyMade, 200: ApiKeyMade},
        errors=(ErrorCode.CAPACITY_EXCEEDED, *REPEATED),
    ),
    reading(
        "/apikeys",
        "listApiKeys",
        "List the tenant's API keys, newest first, without secrets",
        list_api_keys,
        Page[ApiKeyView],
        scope=Scope.ADMIN,
        query=Paging,
    ),
    acting(
        "/apikeys/{apiKeyId}:revoke",
        "revokeApiKey",
        "Revoke an API key, at once and for good",
        revoke_api_key,
        ApiKeyView,
        scopes=(Scope.ADMIN,),
        errors=(ErrorCode.NOT_FOUND, *REPEATED),
    ),
    Route(
        method="POST",
        path="/tokens:revoke",
        name="revokeToken",
        summary="Let a token count no more for the tenant",
        handler=revoke_token,
        scopes=(Scope.ADMIN,),
        body=RevokeToken,
        answers={200: TokenRevoked},
        errors=REPEATED,
    ),
)
