"""One tenant of a node: its operators and producers by HTTP, its worker by WebSocket.

A gate is closed when `explain` names it and the worker is not given the job; it is open when the
worker has the job and `explain` names nothing.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio
from trio_websocket import WebSocketConnection

from tests.http.opened import Opened, hear, say

SIGNED = {"X-Stella-Operator-Reason": "a test", "X-Stella-Operator-Ticket": "T-1"}
JOB_TYPES = ["scan", "report"]


@attrs.define
class Worker:
    """Has as much credit as it was told to have, and ends a job only when it is told to."""

    socket: WebSocketConnection
    leases: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)
    _refs: int = 0

    async def _read(self) -> list[dict[str, Any]]:
        frame = msgspec.json.decode(await self.socket.get_message())
        messages = frame if isinstance(frame, list) else [frame]
        for message in messages:
            assert message["op"] not in ("error", "nack"), message
            if message["op"] == "lease":
                self.leases[message["jobId"]] = message
        return messages

    async def say(self, *messages: dict[str, Any]) -> None:
        """One frame; return when all of it was decided and committed."""
        refs = {f"r{self._refs + place}" for place in range(len(messages))}
        named = [{**message, "ref": ref} for message, ref in zip(messages, refs, strict=True)]
        self._refs += len(messages)
        await say(self.socket, *named)
        with trio.fail_after(20):
            while refs:
                refs -= {one["ref"] for one in await self._read() if one["op"] == "ack"}

    async def credit(self, slots: int) -> None:
        await say(self.socket, {"op": "credit", "slots": slots})

    async def given(self, job_id: str) -> None:
        with trio.fail_after(30):
            while job_id not in self.leases:
                await self._read()

    async def not_given(self, job_id: str) -> None:
        """Whatever was granted before this heartbeat is heard before its answer."""
        await self.say({"op": "heartbeat"})
        assert job_id not in self.leases

    async def complete(self, job_id: str) -> None:
        await self.say({"op": "complete", **self._named(job_id)})

    async def fail(self, *job_ids: str, class_: str = "Boom", **error: Any) -> None:
        said = {"class": class_, "message": "it failed", **error}
        await self.say(*({"op": "fail", "error": said, **self._named(one)} for one in job_ids))

    def _named(self, job_id: str) -> dict[str, Any]:
        lease = self.leases.pop(job_id)
        return {"leaseId": lease["leaseId"], "token": lease["token"]}


@attrs.frozen
class Tenant:
    """What is asked is asked for this tenant, but `/governance` for the platform."""

    node: Opened
    name: str = "demo"

    async def asked(self, method: str, path: str, body: Any = None) -> Any:
        tenant = "_system" if path == "/governance" else self.name
        content = {} if body is None else {"json": body}
        headers = {**self.node.headers(tenant), **SIGNED}
        answer = await self.node.client.request(method, path, headers=headers, **content)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def submit(self, **job: Any) -> str:
        made = await self.asked("POST", "/jobs", {"jobType": "scan", **job})
        job_id: str = made["jobId"]
        return job_id

    async def explained(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.asked("GET", f"/jobs/{job_id}/explain")
        return found

    async def gates(self, job_id: str) -> list[str]:
        return [gate["gate"] for gate in (await self.explained(job_id))["gates"]]

    async def closed(self, worker: Worker, job_id: str, gate: str, **seen: str) -> dict[str, Any]:
        """The gate as it is explained, and as it is felt."""
        with trio.fail_after(15):
            while True:
                gates = (await self.explained(job_id))["gates"]
                found = [one for one in gates if one["gate"] == gate]
                if found and seen.items() <= found[0].items():
                    break
                await trio.sleep(0.01)
        (told,) = found
        assert told["message"]
        assert ("opensAt" in told) != ("opensOn" in told), told
        await worker.not_given(job_id)
        shown: dict[str, Any] = told
        return shown

    async def opened(self, worker: Worker, job_id: str) -> None:
        await worker.given(job_id)
        shown = await self.explained(job_id)
        assert (shown["state"], shown["gates"]) == ("running", [])

    @asynccontextmanager
    async def worker(
        self,
        *,
        capacity: int = 100,
        slots: int = 100,
        resumed: Worker | None = None,
    ) -> AsyncIterator[Worker]:
        """With `resumed` the same worker again, with the leases that it had."""
        leases = {} if resumed is None else resumed.leases
        named = [{"leaseId": one["leaseId"], "token": one["token"]} for one in leases.values()]
        async with self.node.worker(self.node.headers(self.name)) as socket:
            hello = {"workerId": "w", "jobTypes": JOB_TYPES, "capacity": capacity}
            await say(socket, {"op": "hello", "resume": named, **hello})
            await hear(socket, "welcome")
            worker = Worker(socket, dict(leases))
            await worker.credit(slots)
            yield worker
