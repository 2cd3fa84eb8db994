"""Identifiers and the one hash that places a tenant on a shard.

A lease is named by the job and the attempt it covers, so a report that comes after its lease has
ended still says which job it speaks of, and a job cannot hold two leases under two names.
"""

from functools import lru_cache
from zlib import crc32

__all__ = ["JOB_ID_LENGTH", "lease_id", "lease_parts", "shard_of"]

JOB_ID_LENGTH = 36


@lru_cache(maxsize=65_536)
def shard_of(tenant_id: str, shards: int) -> int:
    """The shard (0 … shards-1) whose owner makes every decision for this tenant."""
    return crc32(tenant_id.encode()) % shards


def lease_id(job_id: str, attempt: int) -> str:
    """The name of the lease that covers one attempt: ``{jobId}.{attempt}``."""
    return f"{job_id}.{attempt}"


def lease_parts(lease: str) -> tuple[str, int] | None:
    """Job id and attempt named by a lease id, or None when it is no lease id of ours."""
    job_id, dot, attempt = lease.partition(".")
    if len(job_id) != JOB_ID_LENGTH or not dot or not attempt.isascii() or not attempt.isdigit():
        return None
    if len(attempt) > 9:
        return None
    return job_id, int(attempt)
