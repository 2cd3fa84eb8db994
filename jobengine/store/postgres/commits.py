"""Commits of the PostgreSQL store, and what the ledger asks to go on with them.

I1  Nothing is told of where ledgers stand, and no commit that moves no head is sent again, while
    the server may be at work on a commit whose connection was given up: its session is ended first.

Not here: the parameters of a commit (``encode``), what a refusal is about (``refusal``), the order
of commits that share a tenant (``driver/line``).
"""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from jobengine.domain.change import CommitBatch
from jobengine.domain.entry import Head
from jobengine.store.errors import StatementRefusedError, StoreUnavailableError
from jobengine.store.postgres.driver.line import Lines
from jobengine.store.postgres.driver.pool import Pool
from jobengine.store.postgres.encode import commit_parameters
from jobengine.store.postgres.ownership import end_committers
from jobengine.store.postgres.refusal import explain
from jobengine.store.postgres.resent import without_stored
from jobengine.store.postgres.statements import Statement

__all__ = ["PostgresCommits", "to_heads"]


class PostgresCommits:
    _commits: Pool
    _lines: Lines
    _statements: Mapping[str, Statement]

    def commit(self, batch: CommitBatch) -> Awaitable[None]:
        return self._commit_again(batch) if batch.again else self._commit(batch)

    async def _commit_again(self, batch: CommitBatch) -> None:
        await self._end_lost()
        await self._commit(await without_stored(batch, self._fetch_to_commit))

    def _commit(self, batch: CommitBatch) -> Awaitable[None]:
        try:
            name, parameters = commit_parameters(batch)
        except StatementRefusedError as error:
            return _refused(error)
        tenant_ids = {changes.tenant_id for changes in batch.changes}
        return self._answer(
            batch, self._lines.begin(tenant_ids, self._statements[name], parameters)
        )

    async def _answer(self, batch: CommitBatch, outcome: Awaitable[None]) -> None:
        try:
            await outcome
        except StatementRefusedError as error:
            if refusal := await explain(error, batch, self._fetch_to_commit):
                raise refusal from None
            raise

    async def settled_heads(self, tenant_ids: Iterable[str]) -> dict[str, Head]:
        await self._end_lost()
        if not (wanted := list(tenant_ids)):
            return {}
        return to_heads(await self._fetch_to_commit("ledger_heads", tenant_ids=wanted))

    async def _end_lost(self) -> None:
        """End the sessions that were given up with a commit under way; the server may be at work on
        it, and what is read before that is over says nothing of it."""
        if not (lost := set(self._lines.lost)):
            return
        async with self._commits.connection() as connection, connection.transaction():
            # A login may end its own sessions; the role it serves as may not.
            await connection.execute_script("SET LOCAL ROLE NONE")
            left = await end_committers(connection, lost)
        self._lines.lost.difference_update(lost - left)
        if left:
            named = ", ".join(map(str, sorted(left)))
            raise StoreUnavailableError(
                f"server process {named} is still at work on a commit whose connection was lost"
            )

    async def _fetch_to_commit(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Across tenants, for the ledger to go on: not behind the reads of anybody else."""
        async with self._commits.connection() as connection:
            return await connection.fetch(self._statements[name], parameters)


def to_heads(rows: list[tuple[Any, ...]]) -> dict[str, Head]:
    return {tenant_id: Head(next_seq, link) for tenant_id, next_seq, link in rows}


async def _refused(error: StatementRefusedError) -> None:
    raise error
