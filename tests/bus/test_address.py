"""The address of a bus is read exactly, and never told with its secrets."""

import pytest

from jobengine.bus.address import address_of
from jobengine.bus.errors import BusUnusableError


@pytest.mark.parametrize(
    ("url", "kind", "tls", "hosts", "login", "database"),
    [
        ("nats://h", "nats", False, [("h", 4222)], ("", ""), 0),
        ("nats://u:p%40@h:1,i:2", "nats", False, [("h", 1), ("i", 2)], ("u", "p@"), 0),
        ("tls://token@[::1]:9", "nats", True, [("::1", 9)], ("token", ""), 0),
        ("valkey://h/3", "valkey", False, [("h", 6379)], ("", ""), 3),
        ("valkeys://:p@h:1", "valkey", True, [("h", 1)], ("", "p"), 0),
        ("rediss://u:p@h", "valkey", True, [("h", 6379)], ("u", "p"), 0),
    ],
)  # fmt: skip
def test_an_address_is_taken_apart(
    url: str,
    kind: str,
    tls: bool,
    hosts: list[tuple[str, int]],
    login: tuple[str, str],
    database: int,
) -> None:
    address = address_of(url)
    assert (address.kind, address.tls, list(address.hosts)) == (kind, tls, hosts)
    assert ((address.user, address.password), address.database) == (login, database)


@pytest.mark.parametrize(
    "url",
    [
        *("", "h:1", "http://secret@h", "nats://", "nats://secret@", "nats://h:x", "valkey://h/x"),
        *("valkey://secret@h,i", "nats://h:70000", "nats://h?x=secret"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(BusUnusableError, match="bus_url") as refused:
        address_of(url)
    assert "secret" not in str(refused.value)


def test_neither_logs_nor_tracebacks_show_who_logs_in() -> None:
    address = address_of("nats://user:secret@h:1")
    assert address.shown == "nats://h:1"
    assert "secret" not in repr(address)
    assert "user" not in repr(address)
