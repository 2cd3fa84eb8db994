"""One PostgreSQL session and its exchanges: a message out, its answer in, nothing half-way.

I1  Between two exchanges the session is at rest or closed. An interrupted exchange is cancelled on
    the server and drained, with all that was sent behind it; where that fails within
    `cancel_timeout_s` the session is closed.
I2  Whatever makes a session unusable closes it at once, and nothing revives it: a lost socket, a
    server that shuts down, a FATAL report, a standby that refuses to write.
I3  One owner at a time: a second one raises `trio.BusyResourceError` and disturbs nothing. An owner
    may send several things in a pipeline before it takes their answers, one by one in that order.
I4  No error carries a parameter value.
I5  An exchange ends within `answer_s_max`: a server that is silent for longer is given up with its
    session, at once. It would not hear a cancel either, if packets vanish on the way.

Deliberately not here: statements, parameters, rows and transactions (`connection.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import trio
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.pq.misc import PGnotify

from jobengine.store.errors import (
    ProgrammerError,
    StoreSilentError,
    StoreUnavailableError,
    TransactionConflictError,
)
from jobengine.store.postgres.driver import waiting
from jobengine.store.postgres.driver.connecting import one_line
from jobengine.store.postgres.driver.errors import error_of, field, needs_fresh_connection

_SUCCESS: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY)
_AT_REST: Final = (TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
_NOTIFICATIONS_MAX: Final = 10_000


class StalePlanError(TransactionConflictError):
    """The schema changed under a prepared statement, which therefore did not run."""


class Session:
    """Owns `pgconn`. Notices of the server go to `on_notice(severity, message)`, if given.

    `answer_s_max` bounds the wait for each answer, in seconds, but for notifications. One that was
    closed before the answer to what was sent in a pipeline is `is_adrift`: its server may be at
    work on it still.
    """

    def __init__(
        self,
        pgconn: PGconn,
        *,
        cancel_timeout_s: float,
        answer_s_max: float,
        on_notice: Callable[[str, str], None] | None,
    ) -> None:
        self.pgconn = pgconn
        self.in_use = False
        self.is_adrift = False
        self.answer_s_max = answer_s_max
        self._fileno = pgconn.socket
        self._cancel_timeout_s = cancel_timeout_s
        self._unanswered = 0
        self._reader = waiting.Reader()
        self._notifications: deque[PGnotify] = deque(maxlen=_NOTIFICATIONS_MAX)
        pgconn.notify_handler = self._notifications.append
        if on_notice is not None:
            pgconn.notice_handler = lambda notice: on_notice(*_severity_and_message(notice))

    @property
    def is_closed(self) -> bool:
        return self._fileno < 0

    @property
    def has_unread_input(self) -> bool:
        return waiting.has_input(self._fileno)

    def close(self) -> None:
        """At once. An exchange under way in another task raises ClosedResourceError."""
        if not self.is_closed:
            trio.lowlevel.notify_closing(self._fileno)
            self.is_adrift = self._unanswered > 0
            self._fileno = -1
            self.pgconn.finish()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """I3 for a caller of several exchanges in a row, or of one."""
        self.claim()
        try:
            yield
        finally:
            self.in_use = False

    def claim(self) -> None:
        """As `claimed`, for the hot path: the caller resets `in_use`."""
        if self._fileno < 0:
            raise StoreUnavailableError("this connection is closed")
        if self.in_use:
            raise trio.BusyResourceError("another task is using this connection")
        self.in_use = True

    async def exchange(self, send: Callable[[], None], label: str, *, may_commit: bool) -> PGresult:
        """Send and take the last answer; `may_commit` says whether sending alone can change data.

        Raises what `errors.error_of` says, with `label` for the statement's name.
        """

        def run() -> Awaitable[list[PGresult]]:
            send()
            return waiting.drive(waiting.execute(self.pgconn), self._fileno)

        results = await self._answer(run, label, may_commit=may_commit)
        for result in results:
            if result.status not in _SUCCESS:
                raise self._failure(result, label, may_commit=may_commit)
        return results[-1]

    def send_in_pipeline(self, send: Callable[[], None], label: str) -> None:
        """Send what `send` queues, behind what waits for its answer. Not a checkpoint.

        Outside of a transaction the queries are one of their own, which fails as a whole.
        """
        try:
            if not self._unanswered:
                self.pgconn.enter_pipeline_mode()
            send()
            self.pgconn.pipeline_sync()
            self.pgconn.flush()
        except psycopg.Error as error:
            raise self._lost(label, one_line(error), may_commit=False) from None
        self._unanswered += 1
        self._reader.look_again()

    async def answer_in_pipeline(self, label: str, *, may_commit: bool) -> PGresult:
        """The last answer to what was sent first of all that waits for one."""
        answer = waiting.answer_in_pipeline(self.pgconn)
        results = await self._answer(
            lambda: self._reader.drive(answer, self._fileno), label, may_commit=may_commit
        )
        is_whole = bool(results) and results[-1].status == ExecStatus.PIPELINE_SYNC
        if is_whole:
            self._answered()
            results.pop()
        for result in results:
            if result.status not in _SUCCESS:
                raise self._failure(result, label, may_commit=may_commit)
        if not is_whole:
            raise self._lost(label, "the server hung up", may_commit=may_commit)
        return results[-1]

    async def notifications(self) -> list[PGnotify]:
        """What arrived on LISTENed channels, oldest first; waits for the first one."""
        with self.claimed():
            try:
                while not self._notifications:
                    await waiting.drive(waiting.notifies(self.pgconn), self._fileno)
            except psycopg.Error as error:
                raise self._lost("LISTEN", one_line(error), may_commit=False) from None
        arrived = list(self._notifications)
        self._notifications.clear()
        return arrived

    async def _answer(
        self,
        run: Callable[[], Awaitable[list[PGresult]]],
        label: str,
        *,
        may_commit: bool,
    ) -> list[PGresult]:
        """Everything the server says to what `run` sends (I1, I5)."""
        with trio.move_on_after(self.answer_s_max) as patience:
            try:
                return await run()
            except psycopg.Error as error:
                raise self._lost(label, one_line(error), may_commit=may_commit) from None
            except BaseException:
                if trio.current_time() >= patience.deadline:
                    self.close()
                await self.interrupt()
                raise
        raise StoreSilentError(
            f"{label}: no answer within {self.answer_s_max:g} s", may_have_committed=may_commit
        )

    def _failure(self, result: PGresult, label: str, *, may_commit: bool) -> Exception:
        if result.status != ExecStatus.FATAL_ERROR:
            self.close()
            return ProgrammerError(f"{label}: COPY is not offered here")
        sqlstate = field(result, DiagnosticField.SQLSTATE)
        if sqlstate is None:
            return self._lost(label, one_line(result.get_error_message()), may_commit=may_commit)
        origin = field(result, DiagnosticField.SOURCE_FUNCTION)
        if sqlstate == "26000" or (sqlstate == "0A000" and origin == "RevalidateCachedQuery"):
            return StalePlanError(f"{label}: prepared for an older schema", sqlstate=sqlstate)
        severity, message = _severity_and_message(result)
        is_over = needs_fresh_connection(sqlstate, severity)
        if is_over:
            self.close()
        return error_of(
            sqlstate,
            message,
            constraint_name=field(result, DiagnosticField.CONSTRAINT_NAME),
            label=label,
            may_have_committed=may_commit and is_over,
        )

    def _lost(self, label: str, reason: str, *, may_commit: bool) -> StoreUnavailableError:
        self.close()
        return StoreUnavailableError(f"{label}: {reason}", may_have_committed=may_commit)

    async def interrupt(self) -> None:
        """I1: bring what waits for its answer to its end, or close. Not cancelled itself."""
        if self.is_closed:
            return
        with trio.move_on_after(self._cancel_timeout_s, shield=True):
            try:
                await self._drain()
            except (psycopg.Error, trio.ClosedResourceError):
                self.close()
        if self.pgconn.transaction_status not in _AT_REST:
            self.close()

    async def _drain(self) -> None:
        """A request that was sent by halves cannot be cancelled, so the rest of it goes first."""
        await waiting.drive(waiting.send(self.pgconn), self._fileno)
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        request = self.pgconn.cancel_conn()
        try:
            request.start()
            await waiting.drive_connecting(waiting.cancel(request))
        finally:
            request.finish()
        if not self._unanswered:
            await waiting.drive(waiting.fetch_many(self.pgconn), self._fileno)
        while self._unanswered:
            await waiting.drive(waiting.fetch_pipeline(self.pgconn), self._fileno)
            self._answered()

    def _answered(self) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self.pgconn.exit_pipeline_mode()


def _severity_and_message(result: PGresult) -> tuple[str, str]:
    severity = field(result, DiagnosticField.SEVERITY_NONLOCALIZED) or "ERROR"
    return severity, field(result, DiagnosticField.MESSAGE_PRIMARY) or "no message"
