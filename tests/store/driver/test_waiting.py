from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from psycopg.abc import PQGen, PQGenConn
from psycopg.waiting import Ready, Wait

from jobengine.store.postgres.driver.waiting import drive, drive_connecting, has_input

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def ask(*waits: Wait) -> PQGen[list[Ready]]:
    """A generator as psycopg's: it tells what it was told."""
    told: list[Ready] = []
    for wait in waits:
        told += [Ready((yield wait))]
    return told


def clog(ours: socket.socket) -> int:
    """Fill the send buffer; the number of bytes the other side must read to clear it."""
    sent = 0
    while True:
        try:
            sent += ours.send(bytes(65536))
        except BlockingIOError:
            return sent


def drain(theirs: socket.socket, amount: int) -> None:
    while amount:
        amount -= len(theirs.recv(amount))


async def test_what_is_ready_at_once_is_told_at_once(pair: Pair) -> None:
    ours, theirs = pair
    assert await drive(ask(Wait.RW, Wait.W), ours.fileno()) == [Ready.W, Ready.W]
    theirs.send(b"x")
    assert await drive(ask(Wait.RW, Wait.R), ours.fileno()) == [Ready.RW, Ready.R]
    clog(ours)
    assert await drive(ask(Wait.RW), ours.fileno()) == [Ready.R]
    assert await drive(ask(), ours.fileno()) == []


async def test_a_hang_up_is_told_as_readable(pair: Pair) -> None:
    ours, theirs = pair
    assert not has_input(ours.fileno())
    theirs.close()
    assert has_input(ours.fileno())
    assert (await drive(ask(Wait.RW), ours.fileno()))[0] & Ready.R


@pytest.mark.parametrize(("wait", "expected"), [(Wait.RW, Ready.R), (Wait.R, Ready.R)])
async def test_waiting_for_either_ends_with_input(pair: Pair, wait: Wait, expected: Ready) -> None:
    ours, theirs = pair
    clog(ours)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def expect() -> None:
                assert await drive(ask(wait), ours.fileno()) == [expected]

            nursery.start_soon(expect)
            await trio.testing.wait_all_tasks_blocked()
            theirs.send(b"x")


@pytest.mark.parametrize("wait", [Wait.RW, Wait.W])
async def test_waiting_for_either_ends_with_room(pair: Pair, wait: Wait) -> None:
    ours, theirs = pair
    amount = clog(ours)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def expect() -> None:
                assert await drive(ask(wait), ours.fileno()) == [Ready.W]

            nursery.start_soon(expect)
            await trio.testing.wait_all_tasks_blocked()
            drain(theirs, amount)


async def test_a_connecting_generator_may_change_its_socket(pair: Pair) -> None:
    ours, theirs = pair

    def connecting() -> PQGenConn[str]:
        assert (yield ours.fileno(), Wait.W) is Ready.W
        ours.send(b"hello")
        assert (yield theirs.fileno(), Wait.R) is Ready.R
        return theirs.recv(5).decode()

    with trio.fail_after(10):
        assert await drive_connecting(connecting()) == "hello"


async def test_a_cancelled_wait_can_be_taken_up_by_another_generator(pair: Pair) -> None:
    ours, theirs = pair
    with trio.move_on_after(0.01) as scope:
        await drive(ask(Wait.R), ours.fileno())
    assert scope.cancelled_caught
    theirs.send(b"x")
    with trio.fail_after(10):
        assert await drive(ask(Wait.R), ours.fileno()) == [Ready.R]
