"""Scopes, the roles that bundle them, and what an act under a scope must say for the audit."""

from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import Final

__all__ = ["AUDIT_RULES", "ROLES", "AuditRule", "Scope", "scopes_of"]


class Scope(StrEnum):
    READ = "orch:read"
    SUBMIT = "orch:submit"
    WORK = "orch:work"
    OPERATE = "orch:operate"
    QUOTA = "orch:quota"
    BACKFILL = "orch:backfill"
    AUDIT = "orch:audit"
    ADMIN = "orch:admin"


class AuditRule(Enum):
    """What an act must state: nothing, a reason, or a reason and a ticket."""

    NONE = "none"
    REASON = "reason"
    REASON_AND_TICKET = "reason_and_ticket"


AUDIT_RULES: Final[dict[Scope, AuditRule]] = {
    Scope.READ: AuditRule.NONE,
    Scope.SUBMIT: AuditRule.NONE,
    Scope.WORK: AuditRule.NONE,
    Scope.OPERATE: AuditRule.REASON_AND_TICKET,
    Scope.QUOTA: AuditRule.REASON,
    Scope.BACKFILL: AuditRule.REASON_AND_TICKET,
    Scope.AUDIT: AuditRule.NONE,
    Scope.ADMIN: AuditRule.REASON_AND_TICKET,
}

ROLES: Final[dict[str, frozenset[str]]] = {
    "Orch.Viewer": frozenset({Scope.READ}),
    "Orch.Operator": frozenset({Scope.READ, Scope.OPERATE}),
    "Orch.Admin": frozenset(Scope),
}


_NAMES: Final = frozenset(str(scope) for scope in Scope)


def scopes_of(names: Iterable[str]) -> frozenset[str]:
    """The scopes that these names of scopes and roles stand for.

    Raises `ValueError` naming one that is neither.
    """
    found: set[str] = set()
    for name in names:
        if name in ROLES:
            found |= ROLES[name]
        elif name in _NAMES:
            found.add(name)
        else:
            known = ", ".join([*Scope, *ROLES])
            raise ValueError(f"{name!r} is neither a scope nor a role; known are {known}")
    return frozenset(found)
