"""When a failed attempt is tried again: a pure function of the job, so any replay agrees.

Delay = min(max, base · 2^(failures−1)), with full jitter drawn from a generator seeded by
(job id, failures): spread out like chance, the same on every machine. A worker's ``retryAfter``
(an upstream's Retry-After) is a lower bound.
Source: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), full jitter.
"""

from hashlib import blake2b

from jobengine.domain.job import Backoff

__all__ = ["retry_delay_us"]

_DOUBLINGS_MAX = 40


def retry_delay_us(
    job_id: str, failures: int, backoff: Backoff, retry_after_us: int | None = None
) -> int:
    """Microseconds to wait before the attempt after failure number ``failures`` (from 1)."""
    delay = min(backoff.max_us, _growth(backoff, failures))
    if backoff.jitter == "full":
        delay = delay * _chance(job_id, failures) >> 64
    return max(delay, retry_after_us or 0)


def _growth(backoff: Backoff, failures: int) -> int:
    match backoff.kind:
        case "fixed":
            return backoff.base_us
        case "linear":
            return backoff.base_us * failures
        case _:
            return backoff.base_us << min(failures - 1, _DOUBLINGS_MAX)


def _chance(job_id: str, failures: int) -> int:
    """A uniform integer in [0, 2^64) fixed by its arguments."""
    seed = f"{job_id}:{failures}".encode()
    return int.from_bytes(blake2b(seed, digest_size=8).digest(), "big")
