"""What is wrong, or soon will be, with a database: one finding a question, each with its remedy.

I1  Nothing is changed, and no row of a tenant is read.
I2  What cannot be seen is never called ok: it is a warning that says who could see it.
I3  Every question gives one finding, also on a database without the schema. Only where a pooler
    keeps no session is nothing else asked: no answer could be trusted.

Not here: how a report is shown (``cli/database.py``); what a node refuses to start on
(``isolation.py``), of which this says the same in more words.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import attrs
import trio

from jobengine.domain.instant import SECOND
from jobengine.store.errors import ProgrammerError, TransactionConflictError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.isolation import LOGIN_REMEDY, login_fault, open_tables, unsafe_roles
from jobengine.store.postgres.migrate import status
from jobengine.store.postgres.roles import ROLES, become_a_reader, login_of
from jobengine.store.postgres.statements import load_statements

__all__ = ["Finding", "examine"]

Verdict = Literal["ok", "warn", "fail"]

_MAJOR_MIN: Final = 15
_MAJOR_MAX: Final = 18
_HORIZON_S: Final = (300.0, 3600.0)
_FROZEN_XIDS: Final = (500_000_000, 1_500_000_000)
_DEAD_ROWS_MIN: Final = 100_000
_CLOCK_S: Final = (1.0, 30.0)
_DISK_FREE: Final = (0.15, 0.05)
_DAYS_AHEAD_MIN: Final = 2
_MONITOR: Final = "run this as a login that is a member of pg_monitor (GRANT pg_monitor TO …)"
_MIGRATE: Final = "run `jobengine db migrate`"
_FRESH: Final = "the schema is not there yet"


@attrs.frozen
class Finding:
    """`check` names the question; `remedy` is there unless the verdict is ok."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str | None = None


async def examine(
    connection: Connection, other: Connection, now_at: Callable[[], int]
) -> tuple[Finding, ...]:
    """The findings, in an order in which the earlier ones explain the later ones.

    Takes two sessions of one login, fresh, and uses them up. `now_at` is the time here. Raises
    `StoreUnavailableError`.
    """
    first = (_version(connection), await _pooler(connection, other))
    if first[-1].verdict == "fail":
        return first
    # These need what the login itself may see, which the role may not.
    horizon, disk = await _horizon(connection), await _disk(connection)
    await become_a_reader(connection)
    return (
        *first,
        await _roles(connection),
        await _login(connection),
        await _migrations(connection),
        await _row_security(connection),
        await _privileges(connection),
        await _partitions(connection, now_at()),
        horizon,
        await _bloat(connection),
        await _clock(connection, now_at),
        disk,
    )


def _version(connection: Connection) -> Finding:
    major, minor = divmod(connection.server_version, 10_000)
    detail = f"PostgreSQL {major}.{minor}"
    if major < _MAJOR_MIN:
        return Finding("version", "fail", detail, f"upgrade to PostgreSQL {_MAJOR_MIN} or newer")
    if major > _MAJOR_MAX:
        remedy = f"jobengine is tested up to PostgreSQL {_MAJOR_MAX}; look for a newer jobengine"
        return Finding("version", "warn", detail, remedy)
    return Finding("version", "ok", detail)


async def _pooler(connection: Connection, other: Connection) -> Finding:
    """A session that changes its server process while another one is in a transaction is none."""
    before = after = 0
    try:
        _, before, *_ = await _facts(connection)
        async with other.transaction():
            await other.fetch("SELECT 1")
            _, after, *_ = await _facts(connection)
    except (TransactionConflictError, ProgrammerError):
        before = -1  # a statement was prepared in one session and sent to another
    if before != after:
        return Finding(
            "pooler",
            "fail",
            "a pooler gives each transaction another session: locks and prepared statements are "
            "lost, and roles with them",
            "connect to PostgreSQL itself, or set pool_mode = session",
        )
    if after != connection.backend_pid:
        return Finding(
            "pooler",
            "warn",
            "a pooler is in between; it keeps the session as far as can be seen from here",
            "make sure that its pool_mode is session",
        )
    return Finding("pooler", "ok", "sessions are PostgreSQL's own")


async def _roles(connection: Connection) -> Finding:
    login = await login_of(connection)
    if missing := [role for role in ROLES if role not in login.existing]:
        return Finding("roles", "fail", f"missing: {', '.join(missing)}", _MIGRATE)
    if unsafe := await unsafe_roles(connection):
        detail = "; ".join(f"{role} {reason}" for role, reason in unsafe)
        remedy = "take that away with ALTER ROLE, REVOKE or REASSIGN OWNED"
        return Finding("roles", "fail", detail, remedy)
    return Finding("roles", "ok", ", ".join(ROLES))


async def _login(connection: Connection) -> Finding:
    if fault := await login_fault(connection):
        return Finding("login", "warn", f"{fault}: `serve` refuses it", LOGIN_REMEDY)
    login = await login_of(connection)
    able = sorted(login.attainable)
    if not {"jobengine_api", "jobengine_ledger"} <= login.attainable:
        return Finding(
            "login",
            "fail",
            f"{login.name} may become {', '.join(able) or 'none of the roles'}",
            f"GRANT jobengine_api, jobengine_ledger TO {login.name}",
        )
    return Finding("login", "ok", f"{login.name} may become {', '.join(able)}")


async def _migrations(connection: Connection) -> Finding:
    try:
        states = await status(connection)
    except ProgrammerError as error:
        return Finding("migrations", "fail", f"cannot be read: {error}", _MIGRATE)
    odd = [f"{each.number:04} is {each.state}" for each in states if each.state != "applied"]
    if not odd:
        return Finding("migrations", "ok", f"{len(states)} applied")
    pending = all(each.state in ("applied", "pending") for each in states)
    remedy = _MIGRATE if pending else "start the version of jobengine that applied them"
    return Finding("migrations", "fail", ", ".join(odd), remedy)


async def _row_security(connection: Connection) -> Finding:
    if faults := await open_tables(connection):
        return Finding(
            "row security",
            "fail",
            "; ".join(f"{table} {reason}" for table, reason in faults),
            "restore what docs/schema.sql shows for it: ENABLE and FORCE ROW LEVEL SECURITY, two "
            "policies, none on a partition; a table of another owner is mended by "
            "`jobengine db migrate`",
        )
    return Finding("row security", "ok", "forced on every table with tenants' rows")


async def _privileges(connection: Connection) -> Finding:
    rows = await connection.fetch(load_statements()["excess_privileges"], {})
    if not rows:
        return Finding("privileges", "ok", "the ledger can be added to, and not be changed")
    detail = "; ".join(f"{role} may {what} on {table}" for role, table, what in rows)
    remedy = "; ".join(f"REVOKE {what} ON {table} FROM {role}" for role, table, what in rows)
    return Finding("privileges", "fail", detail, remedy)


async def _partitions(connection: Connection, now_at: int) -> Finding:
    rows = await connection.fetch(load_statements()["days_ahead"], {"now_at": now_at})
    if not rows:
        return Finding("partitions", "ok", _FRESH)
    if not any(is_cut for _, _, is_cut in rows):
        return Finding("partitions", "ok", "none yet: a node makes them when it starts")
    table, days, _ = min(rows, key=lambda row: (row[1], row[0]))
    if days < 0:
        detail = f"{table} has no room for today: commits fail"
        return Finding("partitions", "fail", detail, "start a node: it makes room at its start")
    if days < _DAYS_AHEAD_MIN:
        remedy = "start a node, or look for `custodian` in the log of the one that runs"
        return Finding("partitions", "warn", f"{table} has room for {days} more days", remedy)
    return Finding("partitions", "ok", f"room for {days} days more")


async def _horizon(connection: Connection) -> Finding:
    [row] = await connection.fetch(load_statements()["oldest_horizon"], {})
    age_s, age_xids, who, frozen_xids, hidden = row
    detail = f"held by {who}, {age_xids or 0} transactions back" if who else "nobody holds it back"
    if age_s is not None:
        detail += f", for {age_s:.0f} s"
    remedy = "end it (pg_terminate_backend, ROLLBACK PREPARED, pg_drop_replication_slot)"
    verdict = _judge(age_s or 0, _HORIZON_S)
    if verdict == "ok" and hidden:
        verdict, remedy = "warn", _MONITOR
    if hidden:
        detail += f"; for how long {hidden} sessions of others do so is not shown to this login"
    frozen = _judge(frozen_xids, _FROZEN_XIDS)
    if frozen != "ok":
        detail += f"; rows are unfrozen for {frozen_xids} transactions"
        remedy += ", then VACUUM (FREEZE)"
    verdict = _worse(verdict, frozen)
    return Finding("horizon", verdict, detail, None if verdict == "ok" else remedy)


async def _bloat(connection: Connection) -> Finding:
    rows = await connection.fetch(load_statements()["hot_tables"], {})
    if not rows:
        return Finding("bloat", "ok", _FRESH)
    bloated = [
        f"{name}: {dead} dead rows beside {live}"
        for name, _, live, dead in rows
        if dead > max(_DEAD_ROWS_MIN, live)
    ]
    if bloated:
        remedy = "see what holds the horizon; then VACUUM those tables"
        return Finding("bloat", "warn", "; ".join(bloated), remedy)
    return Finding("bloat", "ok", f"{sum(octets for _, octets, *_ in rows) >> 20} MiB are hot")


async def _clock(connection: Connection, now_at: Callable[[], int]) -> Finding:
    """Off by half of the round trip at most."""
    asked_at = now_at()
    server_at, *_ = await _facts(connection)
    off_s = (server_at - (asked_at + now_at()) / 2) / SECOND
    verdict = _judge(abs(off_s), _CLOCK_S)
    remedy = None if verdict == "ok" else "set both clocks by NTP"
    return Finding("clock", verdict, f"the server's is {off_s:+.3f} s from ours", remedy)


async def _disk(connection: Connection) -> Finding:
    """Free space where the files are on this machine and the login may know their place."""
    _, _, octets, directory, is_here = await _facts(connection)
    unseen = f"the database has {octets >> 20} MiB; free space cannot be seen from here"
    if directory is None:
        return Finding("disk", "warn", unseen, _MONITOR)
    look = f"look on the server's machine: `df {directory}`"
    if not is_here:
        return Finding("disk", "warn", unseen, look)
    try:
        usage = await trio.to_thread.run_sync(shutil.disk_usage, Path(directory))
    except OSError as error:
        return Finding("disk", "warn", f"{unseen} ({error.strerror})", look)
    free = usage.free / usage.total
    verdict: Verdict = "fail" if free < _DISK_FREE[1] else "warn" if free < _DISK_FREE[0] else "ok"
    detail = f"the database has {octets >> 20} MiB; {usage.free >> 20} MiB ({free:.0%}) are free"
    return Finding("disk", verdict, detail, None if verdict == "ok" else "make room, or add disk")


async def _facts(connection: Connection) -> tuple[int, int, int, str | None, bool]:
    [row] = await connection.fetch(load_statements()["server_facts"], {})
    at, pid, octets, directory, is_here = row
    return at, pid, octets, directory, is_here


def _judge(value: float, limits: tuple[float, float]) -> Verdict:
    warn, fail = limits
    return "fail" if value > fail else "warn" if value > warn else "ok"


def _worse(one: Verdict, another: Verdict) -> Verdict:
    return max(one, another, key=("ok", "warn", "fail").index)
