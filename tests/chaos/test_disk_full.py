"""PostgreSQL has no room to write a commit: the engine refuses and says why, keeps what it has
accepted, and goes on by itself once there is room.

The disk is the kernel's own full device. A small tmpfs, a loop device or a quota takes rights that
a container of CI does not give, nor does a machine that forbids user namespaces; a limit of file
sizes (RLIMIT_FSIZE) is another error, EFBIG, which PostgreSQL reports as a fault of its own. So the
file that keeps large payloads, still empty, gives way to a link to `/dev/full`: whatever would make
it grow gets ENOSPC from the kernel, and a client is told what it is told of any full disk, 53100.
One change that finds no room is enough: the ledger commits in order, so all others wait behind it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tests.chaos.crowd import Producer, Workers, unready
from tests.chaos.database import Database, open_database
from tests.chaos.schedule import SECONDS, WITHIN_S, come
from tests.chaos.verdict import require_all_done, require_one_owner, unfinished
from tests.end_to_end.processes import LOOPBACK, RunningEngine, Stage

FULL = "No space left on device [53100]"
FULL_S = SECONDS / 2
LARGE = "x" * 20_000
_LARGE_FILE = "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'jobs'"


async def test_an_engine_whose_database_has_no_room_refuses_and_goes_on(stage: Stage) -> None:
    with open_database() as database:
        flags = ("--database-url", database.conninfo, *LOOPBACK)
        engine = await trio.to_thread.run_sync(stage.engine, *flags)
        workers = Workers(stage, engine, engine.worker)
        workers.add()
        small = Producer(engine.http, engine, name="small")
        large = Producer(engine.http, engine, name="large", batch=1, filler=LARGE)
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(small.run)
                await come(workers.began)
                with no_room(database):
                    nursery.start_soon(large.submit)
                    await _is_refused(engine, small)
                    await trio.sleep(FULL_S)
                    assert FULL in unready(engine)
                    accepted = len(small.accepted)
                await come(lambda: large.accepted)
                await come(lambda: len(small.accepted) > accepted)
                assert unready(engine) == ""
                small.stopping = True
            await come(lambda: not unfinished(database.conninfo, engine.tenant), WITHIN_S)
        await trio.to_thread.run_sync(workers.end)
        job_ids = small.job_ids | large.job_ids
        ledger = require_all_done(database.conninfo, engine.tenant, job_ids)
        assert require_one_owner(ledger, workers.spans()) == 0
        assert engine.terminate() == 0


async def _is_refused(engine: RunningEngine, producer: Producer) -> None:
    """Until new work is refused, and the engine says why; what it has, it still shows."""
    refusals = len(producer.refusals)
    await come(lambda: FULL in unready(engine))
    await come(lambda: len(producer.refusals) > refusals)
    with engine.client() as client:
        assert client.get(next(iter(producer.job_ids))).job_type == "chaos"


@contextmanager
def no_room(database: Database) -> Iterator[None]:
    """What keeps large payloads cannot grow during the block; see the module."""
    database.execute("CHECKPOINT")  # No file is left to be synced, which the device refuses.
    [(path,)] = database.execute(_LARGE_FILE)
    file = database.launch.cluster / path
    aside = file.with_name(f"{file.name}.aside")
    assert file.stat().st_size == 0
    file.rename(aside)
    file.symlink_to("/dev/full")
    close_files(database)
    try:
        yield
    finally:
        aside.replace(file)
        close_files(database)


def close_files(database: Database) -> None:
    """Every session closes the files that it holds open, which `DROP DATABASE` asks of them all."""
    database.execute("CREATE DATABASE passing TEMPLATE template0")
    database.execute("DROP DATABASE passing")
