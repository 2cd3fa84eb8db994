"""Who connects to a worker's door, for which tenant, and with a scope that opens it.

Unlike a REST request, a worker need not name its tenant when its token is for one only.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from jobengine.auth.claims import Identity
from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.admission import ReadHeader, identify, trace_id_of
from jobengine.http.identities import Identities
from jobengine.messages.session import Peer

__all__ = ["Admission", "Admit", "ReadHeader", "token_admission", "trace_id_of"]


class Admission(NamedTuple):
    """Who was let in. ``bearer``: what is counted together with it. ``ended`` returns, with the
    reason, when the token counts no more."""

    peer: Peer
    bearer: str
    ended: Callable[[], Awaitable[str]]


Admit = Callable[[ReadHeader], Awaitable[Admission]]
"""Judges the headers of a handshake; raises `RefusedError`."""

_TENANT: Final = "X-Stella-Tenant"
_DOOR_SCOPES: Final = (Scope.WORK, Scope.SUBMIT)


def token_admission(identities: Identities) -> Admit:
    """Admission by bearer, which needs ``orch:work`` or ``orch:submit``."""

    async def admit(header: ReadHeader) -> Admission:
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
        peer = Peer(tenant_id=tenant_id, subject=identity.subject, scopes=identity.scopes)
        bearer = identity.token_id or identity.subject
        return Admission(peer, bearer, partial(identities.ended, identity, tenant_id))

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
