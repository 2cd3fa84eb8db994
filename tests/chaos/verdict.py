"""The ledger in the database and what workers witnessed, held against what was accepted.

The ledger is read by SQL and judged by the auditor of the simulator, which shares no code with the
engine: its chain, its numbers without gaps, legal transitions, one attempt of a job at a time.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

import attrs
import psycopg
import zstandard

from jobengine.testing.sim.audited import AuditedLedger
from tests.chaos.crowd import Span

__all__ = ["read_ledger", "require_all_done", "require_one_owner", "unfinished"]

_LIVE = ("pending", "scheduled", "running")


@attrs.frozen
class _StoredBlock:
    first_seq: int
    last_seq: int
    previous: bytes
    link: bytes
    body: bytes


def unfinished(conninfo: str, tenant: str) -> int:
    """Jobs that have not ended."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT count(*) FROM jobs WHERE tenant_id = %s AND state = ANY (%s)",
            (tenant, list(_LIVE)),
        ).fetchone()
    assert row is not None
    return int(row[0])


def read_ledger(conninfo: str, tenant: str) -> AuditedLedger:
    """The ledger of a tenant, audited; raises `ViolationError` where it breaks a rule."""
    with psycopg.connect(conninfo) as connection:
        return AuditedLedger(tenant, _blocks(connection, tenant))


def require_all_done(conninfo: str, tenant: str, accepted: Collection[str]) -> AuditedLedger:
    """The ledger, in which what was accepted was created once, and all of it is completed; and the
    tables say the same."""
    ledger = read_ledger(conninfo, tenant)
    assert len(accepted) == len(set(accepted))
    assert ledger.jobs.keys() == set(accepted)
    assert Counter(job.state for job in ledger.jobs.values()) == {"completed": len(accepted)}
    with psycopg.connect(conninfo) as connection:
        states = connection.execute(
            "SELECT job_id::text, state FROM jobs WHERE tenant_id = %s", (tenant,)
        ).fetchall()
        left = connection.execute(
            "SELECT (SELECT count(*) FROM leases), (SELECT count(*) FROM waiting)"
        ).fetchone()
    assert dict(states) == {job_id: job.state for job_id, job in ledger.jobs.items()}
    assert left == (0, 0)
    return ledger


def require_one_owner(ledger: AuditedLedger, spans: Sequence[Span]) -> int:
    """No attempt ran twice, or unasked, and two attempts of a job at once only where the lease of
    the first had expired; answers how many times they did."""
    runs: defaultdict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.attempt):
        runs[span.job_id].append(span)
    overlaps = 0
    for job_id, job in ledger.jobs.items():
        begun = [span.attempt for span in runs[job_id]]
        assert len(set(begun)) == len(begun), f"an attempt of {job_id} ran twice: {begun}"
        assert not begun or begun[-1] <= len(job.attempts), f"{job_id} ran without a lease"
        for before, after in combinations(runs[job_id], 2):
            if after.began_at < before.ended_at and before.began_at < after.ended_at:
                ended = job.attempts[before.attempt - 1].ended
                assert ended is not None
                assert ended.get("reason") == "lease_expired", (before, after, ended)
                overlaps += 1
        [done] = [run for run in runs[job_id] if run.attempt == len(job.attempts)]
        assert done.finished, f"{job_id} is completed, and its handler has not ended"
    return overlaps


def _blocks(connection: psycopg.Connection, tenant: str) -> Iterator[_StoredBlock]:
    rows = connection.execute(
        "SELECT first_seq, last_seq, previous, link, body_bytes, body FROM ledger_blocks "
        "WHERE tenant_id = %s ORDER BY last_seq",
        (tenant,),
    )
    for first_seq, last_seq, previous, link, body_bytes, stored in rows:
        body = zstandard.ZstdDecompressor().decompress(stored, max_output_size=body_bytes)
        yield _StoredBlock(first_seq, last_seq, previous, link, body)
