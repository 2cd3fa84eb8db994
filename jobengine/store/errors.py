"""What a store may answer instead of a result, in the words its callers act on.

Callers decide by class alone: `StoreUnavailableError` is waited out, `StatementRefusedError` is
answered to whoever sent the data, `ProgrammerError` escapes to the supervisor. Every store raises
these, the memory store too; none of them ever carries a parameter value.

Not here: which SQLSTATE means what (`store/postgres/driver/errors.py`).
"""

from __future__ import annotations


class StoreError(Exception):
    """The store did not do what was asked. `sqlstate` is None where no server spoke."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class StoreUnavailableError(StoreError):
    """Not now: the connection is lost or refused, the server is full, starting or read-only, or the
    day that is written to has not been prepared.

    `may_have_committed` is true when a statement that commits had been sent and its outcome is
    unknown: look for its traces before sending it again. When false, nothing was kept.
    """

    def __init__(
        self, message: str, *, sqlstate: str | None = None, may_have_committed: bool = False
    ) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.may_have_committed = may_have_committed


class StoreSilentError(StoreUnavailableError):
    """The server did not answer in time, and its connection was given up.

    Nothing tells whether it is slow, gone, or cut off without a word: whatever else is open to it
    deserves no trust either.
    """


class StoreFullError(StoreUnavailableError):
    """The server answers, and has no disk, memory or connections left."""


class StoreBusyError(StoreUnavailableError):
    """Every connection of this node was taken by others for as long as could be waited."""


class TransactionConflictError(StoreUnavailableError):
    """The server undid this transaction in favour of another one: repeat it at once."""


class StatementRefusedError(StoreError):
    """The data cannot be stored as it is: repeating the statement gives the same answer.

    `message_primary` is the server's sentence with quoted input left out; `constraint_name` names
    the violated constraint, where there is one.
    """

    def __init__(
        self, message_primary: str, *, sqlstate: str, constraint_name: str | None = None
    ) -> None:
        super().__init__(f"{message_primary} [{sqlstate}]", sqlstate=sqlstate)
        self.message_primary = message_primary
        self.constraint_name = constraint_name


class ProgrammerError(Exception):
    """The statement, the schema or the configuration is wrong: waiting and repeating do not help.

    Deliberately no `StoreError`, so that handling operating faults never hides it.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class HeadMovedError(StoreError):
    """A commit found a tenant's ledger head elsewhere: somebody else writes it. Nothing was kept.

    `tenant_ids` are those whose head is not where the batch says; empty where that is not known.
    """

    def __init__(self, tenant_ids: tuple[str, ...] = ()) -> None:
        named = ", ".join(tenant_ids) or "a tenant"
        super().__init__(f"the ledger head of {named} has moved", sqlstate="JE001")
        self.tenant_ids = tenant_ids


class StaleRowError(StoreError):
    """A commit found a job, dead letter or run not in its `from_state`. Nothing was kept.

    `tenant_id` and `ids` name them; empty where that is not known.
    """

    def __init__(self, tenant_id: str = "", ids: tuple[str, ...] = ()) -> None:
        named = ", ".join(ids) or "a row"
        of_tenant = f" of tenant {tenant_id}" if tenant_id else ""
        super().__init__(f"{named}{of_tenant} is not in its from-state", sqlstate="JE002")
        self.tenant_id = tenant_id
        self.ids = ids
