"""Opens a session: one attempt a host, each with its own time limit, in libpq's order.

libpq does not watch the time while it is polled, so the hosts are tried here one by one;
`target_session_attrs` is still judged by libpq, attempt by attempt (for `prefer-standby` the list
holds every host twice). Only a host *name* costs a thread, for its look-up.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import psycopg
import trio
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn

from jobengine.store.errors import ProgrammerError, StoreUnavailableError
from jobengine.store.postgres.driver.waiting import connect, conninfo_attempts, drive_connecting

# A peer that vanished without a word is noticed within half a minute, not after two hours.
_DEFAULTS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
)


async def open_session(conninfo: str, *, timeout_s: float, application_name: str) -> PGconn:
    """A session ready for use, on the first host that accepts; `timeout_s` holds for each host.

    What `conninfo` says goes before our defaults. Raises `StoreUnavailableError` with every host's
    answer, `ProgrammerError` for an unreadable `conninfo`. A cancelled attempt leaves nothing open.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        raise ProgrammerError(f"unreadable connection string: {one_line(error)}") from None
    params = {
        "application_name": application_name,
        **_DEFAULTS,
        **given,
        "client_encoding": "UTF8",
    }
    answers: list[str] = []
    for attempt in await _attempts(params):
        host = attempt.get("host") or attempt.get("hostaddr") or "the default host"
        answer = f"no answer from {host} within {timeout_s:g} s"
        with trio.move_on_after(timeout_s):
            try:
                return await drive_connecting(connect(make_conninfo("", **attempt)))
            except psycopg.Error as error:
                answer = one_line(error)
        answers.append(answer)
    raise StoreUnavailableError("; ".join(dict.fromkeys(answers)))


async def _attempts(params: ConnDict) -> list[ConnDict]:
    try:
        if _names_a_host(params):
            return await trio.to_thread.run_sync(conninfo_attempts, params, abandon_on_cancel=True)
        return conninfo_attempts(params)
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(one_line(error)) from None
    except psycopg.Error as error:
        raise ProgrammerError(f"unusable connection string: {one_line(error)}") from None
    except UnicodeError as error:
        raise ProgrammerError(f"its host is no host name: {one_line(error)}") from None


def _names_a_host(params: ConnDict) -> bool:
    if params.get("hostaddr"):
        return False
    hosts = str(params.get("host") or os.environ.get("PGHOST", "")).split(",")
    return any(host and not host.startswith(("/", "@")) and not _is_address(host) for host in hosts)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def one_line(error: Exception | str) -> str:
    """libpq explains itself over several indented lines."""
    return " ".join(str(error).split())
