"""Whether a database keeps tenants apart, looked up in its catalogue before it is served from.

I1  Nothing is served through a role that policies do not bind, or from a table with tenants' rows
    whose policies are missing, not forced, or other than the migrations made them.

Not here: the same as a report (``doctor.py``).
"""

from typing import Final

from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.roles import API, LEDGER, OWNER, Login, RolesRefusedError, login_of
from jobengine.store.postgres.statements import load_statements

__all__ = [
    "LOGIN_REMEDY",
    "login_fault",
    "open_tables",
    "require_isolation",
    "require_modest_login",
    "unsafe_roles",
]

LOGIN_REMEDY: Final = (
    "create one for nodes with CREATE ROLE jobengine_node LOGIN PASSWORD '…' IN ROLE "
    f"{API}, {LEDGER}; and keep this one for `jobengine db migrate`"
)


async def require_modest_login(connection: Connection) -> None:
    """Raise `RolesRefusedError` for a login that no policy binds once it has left its role."""
    if fault := await login_fault(connection):
        raise RolesRefusedError(f"{fault}: {LOGIN_REMEDY}")


async def require_isolation(connection: Connection) -> None:
    """Raise `RolesRefusedError`, naming the first fault and its remedy, unless I1 holds."""
    for role, reason in await unsafe_roles(connection):
        raise RolesRefusedError(
            f"{role} {reason}, so row-level security does not bind it: let an administrator take "
            "that away (ALTER ROLE, REVOKE or REASSIGN OWNED), then see `jobengine db doctor`"
        )
    for table, reason in await open_tables(connection):
        raise RolesRefusedError(
            f"table {table} {reason}: restore its policies as `jobengine db doctor` says, or a "
            "backup, before tenants are served from it"
        )


async def login_fault(connection: Connection) -> str | None:
    """Why the login is more than a node should be; None where it is not."""
    login: Login = await login_of(connection)
    if login.is_superuser:
        return f"the login {login.name} is a superuser, which no policy binds"
    if login.bypasses_policies:
        return f"the login {login.name} has BYPASSRLS, so no policy binds it"
    if login.name == OWNER:
        return f"the login {login.name} owns the tables it would serve from"
    return None


async def unsafe_roles(connection: Connection) -> list[tuple[str, str]]:
    """Serving roles that could get around the policies, with the reason."""
    rows = await connection.fetch(load_statements()["unsafe_roles"], {"roles": [API, LEDGER]})
    return [(role, reason) for role, reason in rows]


async def open_tables(connection: Connection) -> list[tuple[str, str]]:
    """Tables that hold tenants' rows and do not protect them as they should, with the reason."""
    statements = load_statements()
    strange = await connection.fetch(statements["objects_of_others"], {})
    rows = await connection.fetch(statements["open_tables"], {})
    return [
        *((name, f"belongs to {owner}") for kind, name, owner in strange if kind == "TABLE"),
        *((table, reason) for table, reason in rows),
    ]
