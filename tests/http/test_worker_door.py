"""The workers' listener over real sockets: the protocol, and what it must survive."""

import math
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed

from jobengine.actors.session import ShellLimits
from jobengine.core.session import SessionLimits
from jobengine.http.worker_door import DoorLimits, ListenFailedError
from jobengine.http.worker_reading import WorkerReader
from jobengine.messages.session import Peer
from tests.http.worker_socket import Door, open_door
from tests.protocol.runner import load, run_vector

VECTORS = load()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path, door_limits=DoorLimits(handshake_s_max=0.3)) as door:
        yield door
        assert door.engine.registry.statistics().failed_total == 0


async def serves(door: Door) -> None:
    """A worker connects, is welcomed, and leaves."""
    async with door.greeted():
        pass


async def first_answer(door: Door, data: bytes) -> bytes:
    """What is said first to these bytes; then the connection is cut."""
    async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
        await stream.send_all(data)
        with trio.fail_after(5):
            return bytes(await stream.receive_some())


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_the_engine_meets_every_vector(door: Door, vector: dict[str, Any]) -> None:
    await run_vector(vector, door.connect)


async def test_a_lease_frame_carries_all_a_worker_needs(door: Door) -> None:
    async with door.greeted(taskRunnerId="host-1") as socket:
        job = {"jobType": "scan", "queue": "q", "payload": {"n": 1}, "timeoutSeconds": 9}
        await socket.say({"op": "submit", "ref": 1, "jobs": [{**job, "labels": {"a": "b"}}]})
        job_id = (await socket.hear("ack"))["jobs"][0]["jobId"]
        await socket.say({"op": "credit", "slots": 1})
        lease = await socket.hear("lease")
        until = lease.pop("leaseUntil")
        assert until.endswith("Z")
        assert lease == {
            "op": "lease",
            "jobId": job_id,
            "jobType": "scan",
            "queue": "q",
            "attempt": 1,
            "failures": 0,
            "maxRetries": 3,
            "leaseId": f"{job_id}.1",
            "token": 1,
            "leaseSeconds": 30,
            "heartbeatSeconds": 10.0,
            "timeoutSeconds": 9,
            "idempotencyKey": f"{job_id}:1",
            "tenantId": "demo",
            "correlationId": job_id,
            "taskRunnerId": "host-1",
            "labels": {"a": "b"},
            "payload": {"n": 1},
        }


@pytest.mark.parametrize(
    ("result", "says"),
    [("\0", "U+0000"), ("x" * 300_000, "bytes are more than"), (2**60, "result")],
)
async def test_a_result_that_cannot_be_stored_is_refused_and_the_lease_is_kept(
    door: Door, result: object, says: str
) -> None:
    async with door.greeted() as socket:
        await socket.say({"op": "submit", "jobs": [{"jobType": "q"}]}, {"op": "credit", "slots": 1})
        lease = await socket.hear("lease")
        of = {"leaseId": lease["leaseId"], "token": lease["token"]}
        await socket.say({"op": "complete", "ref": 1, "result": result, **of})
        nack = await socket.hear("nack")
        assert (nack["ref"], nack["code"]) == (1, "INVALID_FIELD")
        assert says in nack["message"]
        await socket.say({"op": "complete", "ref": 2, "result": "fine", **of})
        assert (await socket.hear("ack"))["ref"] == 2


async def test_a_bad_follow_up_is_named_and_refuses_the_report(door: Door) -> None:
    async with door.greeted() as socket:
        await socket.say({"op": "submit", "jobs": [{"jobType": "q"}]}, {"op": "credit", "slots": 1})
        lease = await socket.hear("lease")
        follow_ups = [{"jobType": "next"}, {"jobType": "next", "payload": {"x": "\0"}}]
        await socket.say(
            {
                "op": "complete",
                "ref": 1,
                "leaseId": lease["leaseId"],
                "token": lease["token"],
                "followUps": follow_ups,
            }
        )
        nack = await socket.hear("nack")
        assert nack["code"] == "INVALID_FIELD"
        assert nack["message"].startswith("followUps[1].payload:")


async def test_a_frame_over_the_limit_is_an_error_and_repeated_ends_the_connection(
    door: Door,
) -> None:
    async with door.greeted() as socket:
        for _ in range(5):
            await socket.send("é" * 600_000)
            assert (await socket.hear("error"))["code"] == "PAYLOAD_TOO_LARGE"
        with pytest.raises(ConnectionClosed) as closed, trio.fail_after(5):
            await socket.receive()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1008


async def test_a_frame_of_too_many_messages_is_an_error_and_others_are_taken(door: Door) -> None:
    async with door.greeted() as socket:
        drains = ",".join(['{"op":"drain"}'] * 10_001)
        await socket.send(f"[{drains}]")
        error = await socket.hear("error")
        assert (error["code"], "10000" in error["message"]) == ("PAYLOAD_TOO_LARGE", True)
        await socket.say({"op": "heartbeat", "ref": 1})
        assert (await socket.hear("ack"))["ref"] == 1


@pytest.mark.parametrize(
    ("weighs", "message"),
    [
        (1, '{"op":"drain"}'),
        (1, "{}"),
        (17, '{"op":"submit","jobs":[{}]}'),
        (
            33,
            '{"op":"complete","leaseId":"l","token":1,"followUps":[{"jobType":"a"},{"jobType":"a"}]}',
        ),
    ],
)
def test_others_run_while_a_frame_of_many_messages_is_read(weighs: int, message: str) -> None:
    reader = WorkerReader(lambda count: [f"j{n}" for n in range(count)])
    nobody = Peer(tenant_id="t", subject="s", scopes=frozenset())
    frame = "[" + ",".join([message] * 2_500) + "]"
    steps = reader.reading(frame, nobody, 0)
    assert sum(1 for _ in steps) in range(2_500 * weighs // 1_100, 2_500 * weighs // 900 + 1)


async def test_a_binary_frame_is_an_error(door: Door) -> None:
    async with door.greeted() as socket:
        await socket.connection.send_message(b"{}")
        assert (await socket.hear("error"))["code"] == "BAD_JSON"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer nonsense"}, 401),
        ({"X_Stella_Tenant": "somebody-else"}, 403),
    ],
)
async def test_a_handshake_without_the_right_is_refused_with_a_status(
    door: Door, headers: dict[str, str], status: int
) -> None:
    answer = await door.raw(door.upgrade(**headers))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'{"error":{"code":' in answer
    assert (b"www-authenticate" in answer.lower()) == (status == 401)
    await serves(door)


async def test_a_token_that_may_only_read_is_refused(door: Door) -> None:
    token = door.token(["orch:read"])
    answer = await door.raw(door.upgrade(Authorization=f"Bearer {token}"))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"SCOPE_REQUIRED" in answer


async def test_another_path_is_not_found_and_another_subprotocol_refused(door: Door) -> None:
    assert (await door.raw(door.upgrade("/workers"))).startswith(b"HTTP/1.1 404 ")
    for subprotocol in ("", "jobengine.worker.v0"):
        answer = await door.raw(door.upgrade(Sec_WebSocket_Protocol=subprotocol))
        assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 101 " in await first_answer(door, door.upgrade("/worker?x=1"))
    await serves(door)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\x16\x03\x01" * 50,
        b"GET /worker HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /worker HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /worker HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /w\xc3\xb6rker HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /worker HTTP/1.1\r\nHost: \xff\xfe.x\r\nConnection: upgrade\r\n\r\n",
        b"\r\n" * 100,
        b"",
        b"GET /worker HT",
    ],
)
async def test_garbage_in_place_of_a_handshake_ends_only_itself(door: Door, data: bytes) -> None:
    answer = await door.raw(data)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 4"))
    await serves(door)


@pytest.mark.parametrize(
    "behind",
    [
        b"\x81\x85\x00\x00\x00\x00hello",
        b"\xff" * 2_000,
        b"GET /worker HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x88\x00",
    ],
)
@pytest.mark.parametrize("path", ["/worker", "/elsewhere"])
async def test_bytes_right_behind_the_upgrade_end_only_their_connection(
    door: Door, path: str, behind: bytes
) -> None:
    for pieces in ([door.upgrade(path) + behind], [door.upgrade(path), behind]):
        async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
            # Whether the answer still arrives is a race between it and the reset.
            with suppress(trio.BrokenResourceError), trio.fail_after(5):
                for piece in pieces:
                    await stream.send_all(piece)
                await stream.receive_some()
    await serves(door)


async def test_frames_that_break_the_websocket_protocol_end_only_their_connection(
    door: Door,
) -> None:
    for broken in (b"\xff" * 100, b"\x81\x05hello", b"\x81\x84\x00\x00\x00\x00\xff\xfe\xfd\xfc"):
        async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
            await stream.send_all(door.upgrade())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
            await stream.send_all(broken)
            with trio.fail_after(5):
                async for _ in stream:
                    pass
    await serves(door)


async def test_a_handshake_that_does_not_end_is_dropped(door: Door) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
        await stream.send_all(b"GET /worker HTTP/1.1\r\nHost: x\r\n")
        with trio.fail_after(5):
            assert await stream.receive_some() == b""
    async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
        await stream.send_all(b"GET /worker HTTP/1.1\r\nHost: x\r\n")
    await serves(door)
    await door.settled()
    assert door.door.statistics.broken_total == 0


async def test_more_connections_than_allowed_are_turned_away(tmp_path: Path) -> None:
    async with open_door(tmp_path, door_limits=DoorLimits(connections_max=1)) as door:
        async with door.greeted():
            assert await door.raw(door.upgrade()) == b""
        await door.settled()
        await serves(door)


async def test_sessions_of_one_tenant_leave_half_of_the_door_to_others(tmp_path: Path) -> None:
    async with open_door(tmp_path, door_limits=DoorLimits(connections_max=4)) as door:
        other = {"Authorization": f"Bearer {door.token(tenant='other')}"}
        async with door.greeted(), door.greeted(workerId="w2"):
            for _ in range(2):
                refused = await door.raw(door.upgrade())
                assert refused.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nRetry-After: 5\r\n" in refused
                assert b'"OVERLOADED","message":"the tenant' in refused
            async with door.connect(**other), door.connect(**other):
                await door.settled(4)
        await door.settled()
        await serves(door)


async def test_handshakes_of_one_origin_leave_half_of_the_door_to_others(tmp_path: Path) -> None:
    async with open_door(tmp_path, door_limits=DoorLimits(connections_max=4)) as door:
        silent = [await trio.open_tcp_stream("127.0.0.1", door.port) for _ in range(2)]
        with trio.fail_after(15):
            while door.door.statistics.connections < 2:
                await wait_all_tasks_blocked()
        assert await door.raw(door.upgrade()) == b""
        async with await trio.open_tcp_stream(
            "127.0.0.1", door.port, local_address="127.0.0.2"
        ) as stream:
            await stream.send_all(door.upgrade())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        for stream in silent:
            await trio.aclose_forcefully(stream)
        await door.settled()
        await serves(door)


async def test_a_peer_that_vanishes_leaves_no_session_behind(door: Door) -> None:
    async with door.greeted() as socket:
        assert door.engine.registry.statistics().sessions == 1
        await socket.drop()
        await door.settled()


async def test_a_peer_that_does_not_read_is_cut_off_and_its_lease_lives_on(tmp_path: Path) -> None:
    shell = ShellLimits(outbox_bytes_max=100_000, send_s_max=0.5)
    limits = SessionLimits(strikes_max=10**9)
    async with open_door(tmp_path, shell=shell, limits=limits) as door:
        async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
            await stream.send_all(door.upgrade())
            await stream.receive_some()
            noise = b'{"op":"x","ref":"' + b"r" * 60 + b'"}'
            text = b"[" + b",".join([noise] * 100) + b"]"
            frame = b"\x81\xfe" + len(text).to_bytes(2, "big") + b"\0\0\0\0" + text
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(20):
                await stream.send_all(frame * 10_000)
        await serves(door)


async def test_a_taken_port_is_one_clear_line(door: Door) -> None:
    with pytest.raises(ListenFailedError, match=rf"^port {door.port} on 127.0.0.1 is taken .*$"):
        await door.door.serve("127.0.0.1", door.port)


async def test_stopping_says_drain_and_closes_when_the_worker_is_done(door: Door) -> None:
    async with door.greeted() as socket, trio.open_nursery() as nursery:
        await socket.say({"op": "submit", "jobs": [{"jobType": "q"}]}, {"op": "credit", "slots": 1})
        lease = await socket.hear("lease")
        nursery.start_soon(door.engine.registry.stop, 30)
        assert (await socket.hear("drain"))["deadline"].endswith("Z")
        of = {"leaseId": lease["leaseId"], "token": lease["token"]}
        await socket.say({"op": "complete", "ref": 1, **of})
        assert (await socket.hear("ack"))["ref"] == 1
        with pytest.raises(ConnectionClosed) as closed, trio.fail_after(5):
            await socket.receive()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1001


async def test_a_session_opened_while_the_node_stops_is_told_at_once(door: Door) -> None:
    with trio.move_on_after(math.inf) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.engine.registry.stop, 30)
            await wait_all_tasks_blocked()
            async with door.connect() as socket:
                await socket.hear("drain")
            scope.cancel()
