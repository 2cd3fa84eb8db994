"""From an SQLSTATE to what a caller can do about it: two tables and one lookup.

`FAULT_BY_CODE` goes before `FAULT_BY_CLASS` (the first two characters); whatever stands in neither
is a programmer's fault, so that an unforeseen error is loud. One code says two things: a row breaks
a CHECK, which is named with it, or no partition takes it, which passes when its day is prepared.
Rule of thumb: *unavailable* where the same statement can succeed later, *conflict* where it can
succeed now, *refused* where the data decides, *programmer* where only a change of code, schema or
configuration helps.

Source: PostgreSQL documentation, appendix A "PostgreSQL Error Codes".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from jobengine.store.errors import (
    ProgrammerError,
    StatementRefusedError,
    StoreFullError,
    StoreUnavailableError,
    TransactionConflictError,
)


class Fault(enum.Enum):
    UNAVAILABLE = "unavailable"
    CONFLICT = "conflict"
    REFUSED = "refused"
    PROGRAMMER = "programmer"


FAULT_BY_CODE: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "08P01": Fault.PROGRAMMER,  # protocol_violation
        "25006": Fault.UNAVAILABLE,  # read_only_sql_transaction: a standby, until failover
        "25P03": Fault.UNAVAILABLE,  # idle_in_transaction_session_timeout
        "25P04": Fault.UNAVAILABLE,  # transaction_timeout
        "40002": Fault.REFUSED,  # transaction_integrity_constraint_violation
        "40003": Fault.UNAVAILABLE,  # statement_completion_unknown
        "55006": Fault.CONFLICT,  # object_in_use
        "55P03": Fault.CONFLICT,  # lock_not_available
        "P0001": Fault.REFUSED,  # raise_exception: a rule of the schema
    }
)
FAULT_BY_CLASS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "08": Fault.UNAVAILABLE,  # connection exception
        "22": Fault.REFUSED,  # data exception
        "23": Fault.REFUSED,  # integrity constraint violation
        "40": Fault.CONFLICT,  # transaction rollback: serialization failure, deadlock
        "44": Fault.REFUSED,  # with check option violation
        "53": Fault.UNAVAILABLE,  # insufficient resources: disk, memory, connections
        "54": Fault.REFUSED,  # program limit exceeded: a value too large for its index
        "57": Fault.UNAVAILABLE,  # operator intervention: shutdown, starting up, timeouts
        "58": Fault.UNAVAILABLE,  # system error: I/O
        "72": Fault.CONFLICT,  # snapshot too old
        "F0": Fault.UNAVAILABLE,  # configuration file error
        "JE": Fault.REFUSED,  # not PostgreSQL's: what our own statements raise
    }
)
_FRESH_CONNECTION_CODES: Final = frozenset({"25006", "25P03", "25P04"})
_FRESH_CONNECTION_CLASSES: Final = frozenset({"08"})
_CHECK_VIOLATION: Final = "23514"
_QUOTED = re.compile(r'".*"', re.DOTALL)


def fault_of(sqlstate: str) -> Fault:
    """What a caller can do about this SQLSTATE."""
    return FAULT_BY_CODE.get(sqlstate) or FAULT_BY_CLASS.get(sqlstate[:2], Fault.PROGRAMMER)


def needs_fresh_connection(sqlstate: str, severity: str) -> bool:
    """Whether the session is over, or (read-only) the next attempt belongs on another server."""
    return (
        severity in ("FATAL", "PANIC")
        or sqlstate in _FRESH_CONNECTION_CODES
        or sqlstate[:2] in _FRESH_CONNECTION_CLASSES
    )


def field(result: PGresult, code: DiagnosticField) -> str | None:
    """One field of an error report, in UTF-8."""
    value = result.error_field(code)
    return None if value is None else value.decode("utf-8", "replace")


def error_of(
    sqlstate: str,
    message_primary: str,
    *,
    constraint_name: str | None = None,
    label: str,
    may_have_committed: bool,
) -> Exception:
    """The exception for a server's error report; `label` names the statement in its text.

    `may_have_committed` is the caller's knowledge of the session and holds for unavailability only.
    """
    text = f"{label}: {message_primary} [{sqlstate}]"
    if sqlstate == _CHECK_VIOLATION and constraint_name is None:
        # A row that a CHECK refuses comes with its name; one that no partition takes has none.
        why = "its day has none, as the wall clock was set or stood; one is made within a minute"
        return StoreUnavailableError(f"{text}: {why}", sqlstate=sqlstate)
    match fault_of(sqlstate):
        case Fault.UNAVAILABLE:
            unknown = may_have_committed or sqlstate == "40003"
            unavailable = StoreFullError if sqlstate.startswith("53") else StoreUnavailableError
            return unavailable(text, sqlstate=sqlstate, may_have_committed=unknown)
        case Fault.CONFLICT:
            return TransactionConflictError(text, sqlstate=sqlstate)
        case Fault.REFUSED:
            if sqlstate.startswith("22"):
                message_primary = _QUOTED.sub('"…"', message_primary)
            return StatementRefusedError(
                message_primary, sqlstate=sqlstate, constraint_name=constraint_name
            )
        case Fault.PROGRAMMER:
            return ProgrammerError(text, sqlstate=sqlstate)
