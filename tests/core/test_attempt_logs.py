"""How much of an attempt's log the shard stores."""

from typing import Any

import msgspec

from jobengine.domain.change import LogRow
from jobengine.messages.session import Grant
from jobengine.messages.shard_commands import Commit
from jobengine.messages.worker_reports import GivenBack, Logged
from tests.core.shard_driver import ShardDriver, new_job

BYTES_MAX = 1_000


def lines_of(*texts: str) -> bytes:
    made = [{"at": "2026-01-01T00:00:00.000Z", "level": "info", "text": text} for text in texts]
    return msgspec.json.encode(made)


def running(**limits: Any) -> tuple[ShardDriver, Grant]:
    shard = ShardDriver(job_log_bytes_max=BYTES_MAX, **limits)
    shard.attach()
    shard.submit(new_job(1))
    shard.settle()
    return shard, shard.grants(1)[-1]


def log(shard: ShardDriver, grant: Grant, ref: int, *texts: str) -> None:
    report = Logged(
        ref=ref, lease_id=grant.lease_id, token=grant.job.attempt, lines=lines_of(*texts)
    )
    shard.report(report)
    shard.settle()


def stored(shard: ShardDriver) -> list[LogRow]:
    return [row for commit in shard.all(Commit) for row in commit.changes.logs]


def texts(shard: ShardDriver) -> list[str]:
    return [line["text"] for row in stored(shard) for line in msgspec.json.decode(row.lines)]


def acked(shard: ShardDriver) -> list[Any]:
    return [ref for settled in shard.settled(1) for ref in settled.acks]


def test_lines_are_stored_as_they_come_until_there_is_no_room_and_then_a_line_says_so() -> None:
    shard, grant = running()
    log(shard, grant, 1, "a" * 400)
    log(shard, grant, 2, "b", "c" * 600, "d")
    assert [text[0] for text in texts(shard)] == ["a", "b", "l"]
    last = msgspec.json.decode(stored(shard)[-1].lines)[-1]
    assert last["level"] == "warning"
    assert last["text"] == "log truncated: 1000 bytes of an attempt are kept, and no more"
    assert set(last) == {"at", "level", "text"}
    size = sum(len(bytes(row.lines)) for row in stored(shard))
    assert size <= BYTES_MAX + len(lines_of(last["text"]))


def test_what_comes_behind_the_limit_is_acknowledged_and_costs_no_commit() -> None:
    shard, grant = running()
    log(shard, grant, 1, "a" * 2_000)
    commits = len(shard.all(Commit))
    for ref in range(2, 9):
        log(shard, grant, ref, "more")
    assert len(shard.all(Commit)) == commits
    assert len(texts(shard)) == 1
    assert acked(shard) == list(range(1, 9))


def test_the_next_attempt_has_room_of_its_own_and_the_first_still_renews_its_lease() -> None:
    shard, grant = running()
    log(shard, grant, 1, "a" * 2_000)
    shard.wait(20)
    log(shard, grant, 2, "more")
    shard.wait(20)
    log(shard, grant, 3, "more")
    shard.report(GivenBack(ref=4, lease_id=grant.lease_id, token=1, reason="drain"))
    shard.settle()
    again = shard.grants(1)[-1]
    assert again.job.attempt == 2
    log(shard, again, 5, "fresh")
    assert texts(shard)[-1] == "fresh"
    assert stored(shard)[-1].attempt == 2
