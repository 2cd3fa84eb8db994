"""Statements, rows and transactions on one PostgreSQL session, on Trio.

Built on `psycopg.pq` and psycopg's generators, not as a subclass of its `AsyncConnection`: cursor,
query parsing and lock made that 48 µs of CPU a trivial round trip against 25–32 µs here, and a
subclass would lean on many private names instead of the few in `waiting.py`. A named `Statement` is
prepared once a session; the server's description of it decides how parameters travel (`values.py`).
After that a call is one message out, one wait, one message in.

I1  Between two calls the session is idle, or inside a `transaction()`, or closed: never busy.
I2  A transaction that is left by an exception, a cancellation too, is rolled back or the session is
    closed.
I3  A statement whose plan went stale (a migration by a newer node) is prepared anew and run, unless
    a transaction is open: that one has failed as a whole and raises `TransactionConflictError`.

A call that was cancelled, or failed with `may_have_committed`, may have taken effect: the caller
looks for its traces. Deliberately not here: the exchange with the server and its faults
(`session.py`), which calls share a line (`line.py`), retries, pooling, COPY.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import inf
from typing import Any, Final, Self

import attrs
import trio
from psycopg.pq import Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.pq.misc import PGnotify

from jobengine.store.errors import ProgrammerError, StoreUnavailableError
from jobengine.store.postgres.driver.connecting import open_session
from jobengine.store.postgres.driver.session import Session, StalePlanError
from jobengine.store.postgres.driver.values import Encoder, encode, encoding_of, row_loader
from jobengine.store.postgres.statements import Statement

Params = Mapping[str, Any] | Sequence[Any]


@attrs.frozen
class _Plan:
    """A statement prepared on the server under `handle`, and how its parameters travel."""

    handle: bytes
    label: str
    names: tuple[str, ...]
    encoders: tuple[Encoder, ...]
    formats: tuple[Format, ...]


class Connection:
    """See the module. Use `Connection.connect`; close with `aclose` or leave it to a pool."""

    def __init__(self, session: Session, *, rollback_timeout_s: float) -> None:
        self._session = session
        self._pgconn = session.pgconn
        self.backend_pid: Final = session.pgconn.backend_pid
        self._rollback_timeout_s = rollback_timeout_s
        self._plans: dict[str, _Plan] = {}
        self._plan_numbers = itertools.count(1)
        self._loader = row_loader()
        self._in_transaction = False

    @classmethod
    async def connect(
        cls,
        conninfo: str,
        *,
        timeout_s: float = 10.0,
        application_name: str = "jobengine",
        cancel_timeout_s: float = 2.0,
        answer_s_max: float = inf,
        on_notice: Callable[[str, str], None] | None = None,
    ) -> Self:
        """A new session; `timeout_s` holds for each host of `conninfo`, tried in libpq's order.

        `cancel_timeout_s` is what a cancelled call or a rollback may take before the session is
        closed instead, `answer_s_max` what the server may take for each answer before the session
        is closed and the call raises `StoreSilentError`; `on_notice(severity, message)` gets the
        server's notices. Raises `StoreUnavailableError` or, for an unreadable `conninfo`,
        `ProgrammerError`.
        """
        pgconn = await open_session(
            conninfo, timeout_s=timeout_s, application_name=application_name
        )
        session = Session(
            pgconn,
            cancel_timeout_s=cancel_timeout_s,
            answer_s_max=answer_s_max,
            on_notice=on_notice,
        )
        return cls(session, rollback_timeout_s=cancel_timeout_s)

    @property
    def is_closed(self) -> bool:
        return self._session.is_closed

    @property
    def is_idle(self) -> bool:
        """Open, between two calls, and outside of a transaction."""
        session = self._session
        if session.is_closed or session.in_use or self._in_transaction:
            return False
        return self._pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def has_unread_input(self) -> bool:
        """Whether an idle session's server spoke unasked: mostly because it hung up."""
        return self._session.has_unread_input

    @property
    def is_adrift(self) -> bool:
        """Closed while a call of a line had no answer: the server may be at work on it still."""
        return self._session.is_adrift

    @property
    def answer_s_max(self) -> float:
        return self._session.answer_s_max

    @property
    def server_version(self) -> int:
        """As PostgreSQL's `server_version_num`: 150004 is 15.4."""
        return self._pgconn.server_version

    async def fetch(self, statement: Statement | str, params: Params = ()) -> list[tuple[Any, ...]]:
        """The rows, in the server's order; none for a statement that returns no rows.

        A `Statement` takes a mapping by parameter name, or a sequence in its order. A `str` takes a
        sequence for its `$1…` and is not kept prepared: three round trips, for rare statements.
        """
        return self._rows(await self._query(statement, params))

    async def fetch_after(
        self, first: Statement, first_params: Params, statement: Statement, params: Params
    ) -> list[tuple[Any, ...]]:
        """`first`, then the rows of `statement`, in one round trip and one transaction.

        What `first` sets for the transaction (`set_config(…, true)`) holds for `statement` and is
        gone on return; its rows are dropped. Not inside of a `transaction()`.
        """
        if self._in_transaction:
            raise ProgrammerError("fetch_after is a transaction of its own")
        self._session.claim()
        try:
            try:
                result = await self._run_both(first, first_params, statement, params)
            except StalePlanError:
                self._plans.pop(first.sql, None)
                self._plans.pop(statement.sql, None)
                result = await self._run_both(first, first_params, statement, params)
        finally:
            self._session.in_use = False
        return self._rows(result)

    async def fetch_one(
        self, statement: Statement | str, params: Params = ()
    ) -> tuple[Any, ...] | None:
        """The only row, or None. More than one is a `ProgrammerError`."""
        rows = await self.fetch(statement, params)
        if len(rows) > 1:
            raise ProgrammerError(f"{_label(statement)}: {len(rows)} rows where at most 1 is due")
        return rows[0] if rows else None

    async def execute(self, statement: Statement | str, params: Params = ()) -> int:
        """The number of rows inserted, changed, deleted or selected; 0 for other commands."""
        return (await self._query(statement, params)).command_tuples or 0

    async def execute_script(self, sql: str) -> None:
        """Several statements without parameters in one message, in one transaction by default."""
        await self._command(sql, label="script", may_commit=not self._in_transaction)

    def has_prepared(self, statements: Iterable[Statement]) -> bool:
        return all(statement.sql in self._plans for statement in statements)

    def enter_line(self) -> None:
        """From now on the connection serves `prepare` and the calls of a line alone."""
        self._session.claim()

    async def interrupt_line(self) -> None:
        """Have the server give up what has no answer yet, and wait until all of it is over; closed
        where that takes longer than `cancel_timeout_s`."""
        await self._session.interrupt()

    def leave_line(self) -> None:
        self._session.in_use = False

    async def prepare(self, statements: Iterable[Statement]) -> None:
        """Have these prepared, those that are not."""
        for statement in statements:
            await self._plan_of(statement)

    def send_in_line(self, statement: Statement, params: Params) -> None:
        """Send a prepared statement, a transaction of its own, behind those without an answer."""
        plan = self._plans[statement.sql]
        self._session.send_in_pipeline(self._sender(plan, params), plan.label)

    async def answer_in_line(self, statement: Statement) -> None:
        """The end of the statement that was sent first of those without an answer.

        One whose plan is stale is not run anew here, since others may be under way behind it.
        """
        try:
            await self._session.answer_in_pipeline(_label(statement), may_commit=True)
        except StalePlanError:
            self._plans.clear()
            raise

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """During the block an answer may take as long as it takes."""
        session, answer_s_max = self._session, self._session.answer_s_max
        session.answer_s_max = inf
        try:
            yield
        finally:
            session.answer_s_max = answer_s_max

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """BEGIN … COMMIT; any exception, a cancellation too, rolls back. Does not nest.

        A session lost during COMMIT raises `StoreUnavailableError` with `may_have_committed`.
        """
        if self._in_transaction:
            raise ProgrammerError("transactions do not nest")
        self._in_transaction = True
        try:
            await self._command("BEGIN", label="BEGIN", may_commit=False)
            yield
            result = await self._command("COMMIT", label="COMMIT", may_commit=True)
            if result.command_status == b"ROLLBACK":
                raise ProgrammerError("COMMIT of a transaction that had failed: nothing was kept")
        except BaseException:
            await self._roll_back()
            raise
        finally:
            self._in_transaction = False

    async def notifications(self) -> list[PGnotify]:
        """What arrived on LISTENed channels, oldest first; waits for the first one."""
        return await self._session.notifications()

    async def aclose(self) -> None:
        """End the session. Closed in any case, also when cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """As `aclose`, at once. A call under way in another task raises ClosedResourceError."""
        self._session.close()

    async def _query(self, statement: Statement | str, params: Params) -> PGresult:
        self._session.claim()
        try:
            if isinstance(statement, str):
                return await self._run(await self._prepare(Statement("", statement)), params)
            plan = await self._plan_of(statement)
            try:
                return await self._run(plan, params)
            except StalePlanError:
                del self._plans[statement.sql]
                if self._in_transaction:
                    raise
                return await self._run(await self._plan_of(statement), params)
        finally:
            self._session.in_use = False

    async def _run(self, plan: _Plan, params: Params) -> PGresult:
        send = self._sender(plan, params)
        return await self._session.exchange(send, plan.label, may_commit=not self._in_transaction)

    async def _run_both(
        self, first: Statement, first_params: Params, statement: Statement, params: Params
    ) -> PGresult:
        first_send = self._sender(await self._plan_of(first), first_params)
        plan = await self._plan_of(statement)
        last_send = self._sender(plan, params)

        def send() -> None:
            first_send()
            last_send()

        self._session.send_in_pipeline(send, plan.label)
        return await self._session.answer_in_pipeline(plan.label, may_commit=True)

    def _sender(self, plan: _Plan, params: Params) -> Callable[[], None]:
        values = encode(_in_order(params, plan), plan.encoders, plan.names)
        return partial(
            self._pgconn.send_query_prepared, plan.handle, values, plan.formats, Format.BINARY
        )

    def _rows(self, result: PGresult) -> list[tuple[Any, ...]]:
        loader = self._loader
        loader.set_pgresult(result)
        rows: list[tuple[Any, ...]] = loader.load_rows(0, result.ntuples, tuple)
        loader.set_pgresult(None)
        return rows

    async def _plan_of(self, statement: Statement) -> _Plan:
        plan = self._plans.get(statement.sql)
        if plan is None:
            plan = self._plans[statement.sql] = await self._prepare(statement)
        return plan

    async def _prepare(self, statement: Statement) -> _Plan:
        """A `Statement` without a name takes the session's one unnamed place."""
        handle = b""
        if statement.name:
            handle = f"{statement.name}_{next(self._plan_numbers)}".encode()
        label = _label(statement)
        prepare = partial(self._pgconn.send_prepare, handle, statement.sql.encode())
        await self._session.exchange(prepare, label, may_commit=False)
        describe = partial(self._pgconn.send_describe_prepared, handle)
        description = await self._session.exchange(describe, label, may_commit=False)
        oids = [description.param_type(number) for number in range(description.nparams)]
        encodings = [encoding_of(oid) for oid in oids]
        encoders = tuple(encoder for encoder, _ in encodings)
        formats = tuple(format_ for _, format_ in encodings)
        return _Plan(handle, label, statement.parameters, encoders, formats)

    async def _command(self, sql: str, *, label: str, may_commit: bool) -> PGresult:
        send = partial(self._pgconn.send_query, sql.encode())
        with self._session.claimed():
            return await self._session.exchange(send, label, may_commit=may_commit)

    async def _roll_back(self) -> None:
        if self.is_closed or self._pgconn.transaction_status == TransactionStatus.IDLE:
            return
        with trio.move_on_after(self._rollback_timeout_s, shield=True) as scope:
            try:
                await self._command("ROLLBACK", label="ROLLBACK", may_commit=False)
            except (StoreUnavailableError, ProgrammerError, trio.BusyResourceError):
                self.close()
        if scope.cancelled_caught:
            self.close()


def _label(statement: Statement | str) -> str:
    return statement.name or "statement" if isinstance(statement, Statement) else "statement"


def _in_order(params: Params, plan: _Plan) -> Sequence[Any]:
    if not isinstance(params, Mapping):
        return params
    if params.keys() != set(plan.names):
        odd = ", ".join(sorted(params.keys() ^ set(plan.names)))
        raise TypeError(f"{plan.label}: missing or unknown parameters {odd}")
    return [params[name] for name in plan.names]
