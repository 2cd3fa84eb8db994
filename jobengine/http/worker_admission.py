"""Who connects to a worker's door, for which tenant, and with a scope that opens it.

Unlike a REST request, a worker need not name its tenant when its token is for one only.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from jobengine.auth.claims import Identity
from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.admission import ReadHeader, identify, trace_id_of
from jobengine.http.identities import Identities
from jobengine.messages.session import Peer

__all__ = ["Admit", "ReadHeader", "token_admission", "trace_id_of"]

Admit = Callable[[ReadHeader], Awaitable[Peer]]
"""Judges the headers of a handshake; raises `RefusedError`."""

_TENANT: Final = "X-Stella-Tenant"
_DOOR_SCOPES: Final = (Scope.WORK, Scope.SUBMIT)


def token_admission(identities: Identities) -> Admit:
    """Admission by bearer, which needs ``orch:work`` or ``orch:submit``."""

    async def admit(header: ReadHeader) -> Peer:
        identity = await identify(identities, header)
        tenant_id = _tenant(header(_TENANT), identity)
        identities.check_revoked(identity, tenant_id)
        if not any(scope in identity.scopes for scope in _DOOR_SCOPES):
            wanted = [str(scope) for scope in _DOOR_SCOPES]
            raise RefusedError(
                Refusal(
                    ErrorCode.SCOPE_REQUIRED,
                    f"this needs the scope {' or '.join(wanted)}, which the token does not have",
                    {"path": "Authorization", "scopes": wanted},
                )
            )
        return Peer(tenant_id=tenant_id, subject=identity.subject, scopes=identity.scopes)

    return admit


def _tenant(named: str | None, identity: Identity) -> str:
    if not named:
        if len(identity.tenants) == 1:
            return next(iter(identity.tenants))
        message = f"{_TENANT}: name one of the token's tenants"
        raise RefusedError(Refusal(ErrorCode.TENANT_REQUIRED, message, {"path": _TENANT}))
    if named not in identity.tenants:
        message = f"{_TENANT}: the token is not for this tenant"
        raise RefusedError(Refusal(ErrorCode.TENANT_FORBIDDEN, message, {"path": _TENANT}))
    return named
