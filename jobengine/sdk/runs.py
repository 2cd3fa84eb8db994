"""Runs in the hands of a client: written and sent as one document, then looked after by handle.

`Run` and `RunHandle` are of `Client`, `AsyncRun` and `AsyncRunHandle` of `AsyncClient`. A run that
is there already is handled by `Client.run_handle(run_id)`.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from jobengine.sdk.run_draft import RunDraft
from jobengine.wire.run_views import DagView, GanttView, NodeView, RunView

if TYPE_CHECKING:
    from jobengine.sdk.async_client import AsyncClient
    from jobengine.sdk.client import Client

__all__ = ["AsyncRun", "AsyncRunHandle", "Run", "RunHandle"]

_UNSENT = "the run is not submitted yet: leave its `with` block or call submit()"


class RunHandle:
    """One run of the engine. Its calls raise as those of the client."""

    def __init__(self, client: "Client", run_id: str | None) -> None:
        self._client = client
        self._run_id = run_id

    @property
    def run_id(self) -> str:
        if self._run_id is None:
            raise RuntimeError(_UNSENT)
        return self._run_id

    def state(self) -> RunView:
        """The run as it is now."""
        return self._client.run_state(self.run_id)

    def wait(self, timeout_s: float = 60.0) -> RunView:
        """The run once it has ended, however it did; raises TimeoutError."""
        return self._client.wait_run(self.run_id, timeout_s)

    def dag(self) -> DagView:
        """Its nodes with their states, and edges."""
        return self._client.run_dag(self.run_id)

    def gantt(self) -> GanttView:
        """When each attempt queued, ran and backed off."""
        return self._client.run_gantt(self.run_id)

    def cancel(self, *, reason: str, ticket: str) -> RunView:
        """Give it up."""
        return self._client.cancel_run(self.run_id, reason=reason, ticket=ticket)

    def approve(self, key: str, *, reason: str, ticket: str) -> NodeView:
        """Complete an approval that is open."""
        return self._client.approve(self.run_id, key, reason=reason, ticket=ticket)

    def reject(self, key: str, *, reason: str, ticket: str) -> NodeView:
        """Fail an approval that is open."""
        return self._client.reject(self.run_id, key, reason=reason, ticket=ticket)

    def result(self, key: str) -> Any:
        """The result of the job at `key` as plain values; None while there is none."""
        return self._client.run_result(self.run_id, key)


class Run(RunDraft, RunHandle):
    """A run that is being written, and its handle once it was submitted.

    As a context manager it is submitted, once and as a whole, when its block is left without an
    error; an error in the block submits nothing.
    """

    def __init__(self, client: "Client", run_token: str, **head: Any) -> None:
        RunDraft.__init__(self, run_token, **head)
        RunHandle.__init__(self, client, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._run_id is None:
            self.submit()

    def submit(self) -> RunHandle:
        """Begin the run; the same token with the same nodes answers the run that is there."""
        if self._run_id is None:
            self._run_id = self._client.create_run(self.request()).run_id
        return RunHandle(self._client, self._run_id)


class AsyncRunHandle:
    """`RunHandle` for Trio and asyncio."""

    def __init__(self, client: "AsyncClient", run_id: str | None) -> None:
        self._client = client
        self._run_id = run_id

    @property
    def run_id(self) -> str:
        if self._run_id is None:
            raise RuntimeError(_UNSENT)
        return self._run_id

    async def state(self) -> RunView:
        """The run as it is now."""
        return await self._client.run_state(self.run_id)

    async def wait(self, timeout_s: float = 60.0) -> RunView:
        """The run once it has ended, however it did; raises TimeoutError."""
        return await self._client.wait_run(self.run_id, timeout_s)

    async def dag(self) -> DagView:
        """Its nodes with their states, and edges."""
        return await self._client.run_dag(self.run_id)

    async def gantt(self) -> GanttView:
        """When each attempt queued, ran and backed off."""
        return await self._client.run_gantt(self.run_id)

    async def cancel(self, *, reason: str, ticket: str) -> RunView:
        """Give it up."""
        return await self._client.cancel_run(self.run_id, reason=reason, ticket=ticket)

    async def approve(self, key: str, *, reason: str, ticket: str) -> NodeView:
        """Complete an approval that is open."""
        return await self._client.approve(self.run_id, key, reason=reason, ticket=ticket)

    async def reject(self, key: str, *, reason: str, ticket: str) -> NodeView:
        """Fail an approval that is open."""
        return await self._client.reject(self.run_id, key, reason=reason, ticket=ticket)

    async def result(self, key: str) -> Any:
        """The result of the job at `key` as plain values; None while there is none."""
        return await self._client.run_result(self.run_id, key)


class AsyncRun(RunDraft, AsyncRunHandle):
    """`Run` for Trio and asyncio: `async with client.run(…) as run:`."""

    def __init__(self, client: "AsyncClient", run_token: str, **head: Any) -> None:
        RunDraft.__init__(self, run_token, **head)
        AsyncRunHandle.__init__(self, client, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._run_id is None:
            await self.submit()

    async def submit(self) -> AsyncRunHandle:
        """Begin the run; the same token with the same nodes answers the run that is there."""
        if self._run_id is None:
            self._run_id = (await self._client.create_run(self.request())).run_id
        return AsyncRunHandle(self._client, self._run_id)
