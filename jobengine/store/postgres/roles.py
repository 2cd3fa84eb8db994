"""The three roles of the engine in its database: how they come to be, and who takes them.

    jobengine_owner    owns every table and function; migrations only
    jobengine_api      reads; sees the rows of the tenant set in its transaction, and no others
    jobengine_ledger   the commits, and what shards read across tenants; only adds to the ledger

I1  `bring_up_to_date` makes the roles where they are missing, gives them what earlier versions
    made, and migrates as jobengine_owner. What the login may not do is told as SQL, and nothing of
    it is done: each of the two steps is one transaction.
I2  A session serves as one role from its first statement to its last.

Not here: the policies and privileges (``migrations/0003_row_level_security.sql``), whether they
hold (``isolation.py``), why it is cut this way (docs/decisions/0011-row-level-security.md).
"""

from collections.abc import Sequence
from math import inf
from typing import Final

import attrs
from psycopg.conninfo import make_conninfo

from jobengine.store.errors import ProgrammerError, StatementRefusedError, StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.migrate import Migration, migrate, status, take_turn
from jobengine.store.postgres.statements import load_statements

__all__ = [
    "API",
    "LEDGER",
    "OWNER",
    "ROLES",
    "Access",
    "BroughtUp",
    "Login",
    "RolesRefusedError",
    "become_a_reader",
    "bring_up_to_date",
    "login_of",
    "require_up_to_date",
]

OWNER: Final = "jobengine_owner"
API: Final = "jobengine_api"
LEDGER: Final = "jobengine_ledger"
ROLES: Final = (OWNER, API, LEDGER)

_LOCK_KEY: Final = 0x6A6F_6272_6F6C_6573  # "jobroles"
_RACES: Final = frozenset({"42710", "23505", "XX000"})
"""What CREATE ROLE and GRANT answer when another database of the cluster does the same."""
_TRIES: Final = 5
_NOTICE_LOSS: Final = """
    SET tcp_keepalives_idle = 15;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = 30000;
"""
"""The server's end of a connection notices within half a minute, as ours does, that the other one
has gone without a word: until then a session keeps its locks. Without effect on a local socket."""


class RolesRefusedError(Exception):
    """The login cannot have or make the roles as they should be; the message ends in the remedy."""


@attrs.frozen
class Access:
    """How to open sessions as a role: `direct`, logging in as it; else by SET ROLE after login."""

    conninfo: str
    direct: bool = False

    async def connect(
        self,
        role: str,
        *,
        settings: str = "",
        timeout_s: float = 10.0,
        answer_s_max: float = inf,
        application_name: str = "jobengine",
    ) -> Connection:
        """A session that is `role`, with `settings` (SQL) applied. Raises as `Connection.connect`,
        and `ProgrammerError` where the login may not take the role.
        """
        conninfo = make_conninfo(self.conninfo, user=role) if self.direct else self.conninfo
        return await _open(
            conninfo,
            f"SET ROLE {role}; {_NOTICE_LOSS} {settings}",
            timeout_s=timeout_s,
            answer_s_max=answer_s_max,
            application_name=application_name,
        )

    async def log_in(
        self, *, timeout_s: float, answer_s_max: float, application_name: str
    ) -> Connection:
        """A session of the login that `conninfo` names, which takes no role."""
        return await _open(
            self.conninfo,
            _NOTICE_LOSS,
            timeout_s=timeout_s,
            answer_s_max=answer_s_max,
            application_name=application_name,
        )


async def _open(
    conninfo: str, settings: str, *, timeout_s: float, answer_s_max: float, application_name: str
) -> Connection:
    connection = await Connection.connect(
        conninfo,
        timeout_s=timeout_s,
        answer_s_max=answer_s_max,
        application_name=application_name,
    )
    try:
        await connection.execute_script(settings)
    except BaseException:
        connection.close()
        raise
    return connection


@attrs.frozen
class Login:
    """Who is logged in, and which of the roles exist, log in, can be taken, may use the schema."""

    name: str
    is_superuser: bool
    bypasses_policies: bool
    schema: str | None
    existing: frozenset[str]
    attainable: frozenset[str]
    logins: frozenset[str]
    admitted: frozenset[str]


@attrs.frozen
class BroughtUp:
    """What a call changed: roles made, migrations applied; empty where all was in place."""

    roles: tuple[str, ...]
    migrations: tuple[Migration, ...]


async def login_of(connection: Connection) -> Login:
    [row] = await connection.fetch(load_statements()["role_facts"], {"roles": list(ROLES)})
    name, is_superuser, bypasses_policies, schema, *sets = row
    return Login(name, is_superuser, bypasses_policies, schema, *(frozenset(each) for each in sets))


async def bring_up_to_date(
    connection: Connection, now_at: int, *, direct: bool = False
) -> BroughtUp:
    """Roles, then migrations; safe to repeat, and at the same time from several nodes.

    `direct` lets the roles log in (the embedded server, behind its socket). The session is
    jobengine_owner afterwards. Raises `RolesRefusedError`, and what `migrate` raises.
    """
    made = await _set_up(connection, direct=direct)
    await connection.execute_script(f"SET ROLE {OWNER}")
    return BroughtUp(made, await migrate(connection, now_at))


async def become_a_reader(connection: Connection) -> None:
    """Take jobengine_api where the login can, for it may read what the login itself may not."""
    if API in (await login_of(connection)).attainable:
        await connection.execute_script(f"SET ROLE {API}")


async def require_up_to_date(connection: Connection) -> None:
    """For a login that may not migrate: raise `RolesRefusedError` if there is work left to do."""
    login = await login_of(connection)
    missing = [role for role in (API, LEDGER) if role not in login.attainable]
    if missing:
        raise RolesRefusedError(
            f"{login.name} may not become {' or '.join(missing)}: run `jobengine db migrate` with "
            f"a login that may create roles, then GRANT {API}, {LEDGER} TO {_quoted(login.name)}"
        )
    await become_a_reader(connection)
    odd = [each for each in await status(connection) if each.state != "applied"]
    if odd:
        raise RolesRefusedError(
            f"migration {odd[0].number:04} is {odd[0].state}, and {login.name} may not migrate: "
            f"run `jobengine db migrate` with a login that may become {OWNER}"
        )


async def _set_up(connection: Connection, *, direct: bool) -> tuple[str, ...]:
    """The roles made, after everything is as I1 says."""
    for turn in range(_TRIES):
        login = await login_of(connection)
        steps = await _steps(connection, login, direct=direct)
        if not steps:
            return ()
        try:
            async with connection.transaction():
                await take_turn(connection, _LOCK_KEY, "sets up the roles")
                await connection.execute_script(";\n".join(steps))
        except (ProgrammerError, StatementRefusedError, StoreUnavailableError) as error:
            if error.sqlstate in _RACES and turn < _TRIES - 1:
                continue
            if isinstance(error, StoreUnavailableError):
                raise
            raise RolesRefusedError(
                f"{login.name} may not set up the roles ({error}): run `jobengine db migrate` with "
                f"a login that may, or let an administrator run: {'; '.join(steps)}"
            ) from None
        return tuple(role for role in ROLES if role not in login.existing)
    raise AssertionError("the last turn returns or raises")


async def _steps(connection: Connection, login: Login, *, direct: bool) -> Sequence[str]:
    """The SQL that is missing, a statement each."""
    if login.schema is None:
        raise RolesRefusedError(
            "the search_path names no schema that exists: create it, or name one in the URL with "
            "?options=-csearch_path%3DNAME"
        )
    name, schema = _quoted(login.name), _quoted(login.schema)
    steps = [f"CREATE ROLE {role}" for role in ROLES if role not in login.existing]
    if not login.is_superuser:
        steps += [f"GRANT {role} TO {name}" for role in ROLES if role not in login.attainable]
    if direct:
        steps += [f"ALTER ROLE {role} LOGIN" for role in ROLES if role not in login.logins]
    if OWNER not in login.admitted:
        steps.append(f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {OWNER}")
    if not {API, LEDGER} <= login.admitted:
        steps.append(f"GRANT USAGE ON SCHEMA {schema} TO {API}, {LEDGER}")
    made_before = await connection.fetch(load_statements()["objects_of_others"], {})
    steps += [f"ALTER {kind} {thing} OWNER TO {OWNER}" for kind, thing, _ in made_before]
    return steps


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
