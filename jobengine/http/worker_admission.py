"""Who connects to a worker's door, for which tenant, and with a scope that opens it.

Unlike a REST request, a worker need not name its tenant when its token is for one only.
"""

import re
from collections.abc import Callable
from typing import Final

from jobengine.actors.runtime.clock import Clock
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Identity, TokenInvalid, Tokens
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.admission import ReadHeader, trace_id_of
from jobengine.messages.session import Peer

__all__ = ["Admit", "ReadHeader", "token_admission", "trace_id_of"]

Admit = Callable[[ReadHeader], Peer]
"""Judges the headers of a handshake; raises `RefusedError`."""

_BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_TENANT: Final = "X-Stella-Tenant"
_DOOR_SCOPES: Final = (Scope.WORK, Scope.SUBMIT)


def token_admission(tokens: Tokens, clock: Clock) -> Admit:
    """Admission by bearer token, which needs ``orch:work`` or ``orch:submit``."""

    def admit(header: ReadHeader) -> Peer:
        match = _BEARER.fullmatch(header("Authorization") or "")
        if match is None:
            raise _refused(
                ErrorCode.TOKEN_INVALID, "Authorization", "send a token as Authorization: Bearer …"
            )
        try:
            identity = tokens.verify(match[1], clock.moment().at)
        except TokenInvalid as error:
            raise _refused(ErrorCode.TOKEN_INVALID, "Authorization", str(error)) from None
        tenant_id = _tenant(header(_TENANT), identity)
        if not any(scope in identity.scopes for scope in _DOOR_SCOPES):
            message = f"this needs the scope {' or '.join(_DOOR_SCOPES)}"
            raise _refused(ErrorCode.SCOPE_REQUIRED, "Authorization", message)
        return Peer(tenant_id=tenant_id, subject=identity.subject, scopes=identity.scopes)

    return admit


def _tenant(named: str | None, identity: Identity) -> str:
    if not named:
        if len(identity.tenants) == 1:
            return next(iter(identity.tenants))
        message = f"{_TENANT}: name one of the token's tenants"
        raise _refused(ErrorCode.TENANT_REQUIRED, _TENANT, message)
    if named not in identity.tenants:
        message = f"{_TENANT}: the token is not for this tenant"
        raise _refused(ErrorCode.TENANT_FORBIDDEN, _TENANT, message)
    return named


def _refused(code: ErrorCode, path: str, message: str) -> RefusedError:
    return RefusedError(Refusal(code, message, {"path": path}))
