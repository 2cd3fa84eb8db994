from __future__ import annotations

import psycopg.errors
import pytest

from jobengine.store.errors import (
    ProgrammerError,
    StatementRefusedError,
    StoreFullError,
    StoreUnavailableError,
    TransactionConflictError,
)
from jobengine.store.postgres.driver.errors import (
    FAULT_BY_CLASS,
    FAULT_BY_CODE,
    Fault,
    error_of,
    fault_of,
    needs_fresh_connection,
)

ALL_SQLSTATES = sorted(
    sqlstate
    for error in vars(psycopg.errors).values()
    if isinstance(sqlstate := vars(error).get("sqlstate") if isinstance(error, type) else None, str)
)
UNAVAILABLE = {
    *("08000", "08001", "08003", "08004", "08006", "08007"),
    *("25006", "25P03", "25P04", "40003"),
    *("53000", "53100", "53200", "53300", "53400"),
    *("57000", "57014", "57P01", "57P02", "57P03", "57P04", "57P05"),
    *("58000", "58030", "58P01", "58P02", "58P03", "F0000", "F0001"),
}
CONFLICT = ["40000", "40001", "40P01", "55006", "55P03", "72000"]
REFUSED_CLASSES = ("22", "23", "44", "54")
REFUSED = ["40002", "P0001"]


def expected(sqlstate: str) -> Fault:
    if sqlstate in UNAVAILABLE:
        return Fault.UNAVAILABLE
    if sqlstate in CONFLICT:
        return Fault.CONFLICT
    if sqlstate in REFUSED or sqlstate[:2] in REFUSED_CLASSES:
        return Fault.REFUSED
    return Fault.PROGRAMMER


@pytest.mark.parametrize("sqlstate", ALL_SQLSTATES)
def test_every_sqlstate_of_postgresql_has_its_fault(sqlstate: str) -> None:
    assert fault_of(sqlstate) is expected(sqlstate)


def test_the_list_of_sqlstates_is_the_whole_one() -> None:
    assert len(ALL_SQLSTATES) > 230
    assert set(FAULT_BY_CODE) <= set(ALL_SQLSTATES)
    assert set(FAULT_BY_CLASS) <= {code[:2] for code in ALL_SQLSTATES} | {"JE"}


def test_no_code_repeats_its_class() -> None:
    assert all(FAULT_BY_CLASS.get(code[:2]) is not fault for code, fault in FAULT_BY_CODE.items())


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53100", StoreFullError),
        ("40001", TransactionConflictError),
        ("23505", StatementRefusedError),
        ("42601", ProgrammerError),
        ("JE001", StatementRefusedError),
        ("ZZ999", ProgrammerError),
    ],
)
def test_a_fault_becomes_its_exception(sqlstate: str, kind: type[Exception]) -> None:
    error = error_of(sqlstate, "so it is", label="job_claim", may_have_committed=False)
    assert type(error) is kind
    assert "so it is" in str(error)
    assert sqlstate in str(error)


def test_a_row_that_no_partition_takes_is_stored_later_and_one_that_breaks_a_check_never() -> None:
    message = 'no partition of relation "ledger_blocks" found for row'
    unprepared = error_of("23514", message, label="commit", may_have_committed=False)
    assert type(unprepared) is StoreUnavailableError
    assert not unprepared.may_have_committed
    assert message in str(unprepared)
    assert "wall clock" in str(unprepared)
    broken = error_of(
        "23514", "violates", constraint_name="jobs_state", label="x", may_have_committed=False
    )
    assert type(broken) is StatementRefusedError


def test_only_unavailability_can_be_ambiguous() -> None:
    lost = error_of("57P01", "shutting down", label="x", may_have_committed=True)
    assert isinstance(lost, StoreUnavailableError)
    assert lost.may_have_committed
    unknown = error_of("40003", "unknown", label="x", may_have_committed=False)
    assert isinstance(unknown, StoreUnavailableError)
    assert unknown.may_have_committed
    conflict = error_of("40001", "concurrent update", label="x", may_have_committed=True)
    assert isinstance(conflict, StoreUnavailableError)
    assert not conflict.may_have_committed


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            'invalid input syntax for type integer: "secret"',
            "invalid input syntax for type integer",
        ),
        ('invalid input value for enum color: "a "b" c"', "invalid input value for enum color"),
        ("division by zero", "division by zero"),
    ],
)
def test_a_data_error_keeps_its_sentence_but_not_the_data(message: str, kept: str) -> None:
    error = error_of("22P02", message, label="x", may_have_committed=False)
    assert isinstance(error, StatementRefusedError)
    assert error.message_primary.startswith(kept)
    assert "secret" not in str(error)
    assert "b" not in str(error).removeprefix(kept).removesuffix("[22P02]")


@pytest.mark.parametrize(
    ("sqlstate", "severity", "fresh"),
    [
        ("57P01", "FATAL", True),
        ("08006", "ERROR", True),
        ("08P01", "ERROR", True),
        ("25006", "ERROR", True),
        ("XX000", "PANIC", True),
        ("53100", "ERROR", False),
        ("23505", "ERROR", False),
    ],
)
def test_a_session_that_is_over_is_known_as_such(sqlstate: str, severity: str, fresh: bool) -> None:
    assert needs_fresh_connection(sqlstate, severity) is fresh
