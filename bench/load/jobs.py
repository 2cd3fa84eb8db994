"""The jobs that are submitted: no two payloads alike, so that nothing compresses better than it
would in use."""

import random
from collections.abc import Iterator

__all__ = ["job_texts", "payloads"]


def payloads(size: int, seed: int) -> Iterator[str]:
    """JSON objects of `size` bytes (17 at least), already canonical."""
    dice = random.Random(seed)
    noise = dice.randbytes(max(1 << 15, size)).hex()
    filler = max(0, size - len('{"n":10000000,"x":""}'))
    number = 10_000_000
    while True:
        start = dice.randrange(len(noise) - filler)
        yield f'{{"n":{number},"x":"{noise[start : start + filler]}"}}'
        number += 1


def job_texts(
    job_type: str,
    payload_bytes: int,
    seed: int,
    source_id: str | None = None,
    retry_s: float | None = None,
) -> Iterator[str]:
    """Job requests as JSON on one line, without end; tried again `retry_s` after a failure."""
    more = "" if source_id is None else f',"sourceId":"{source_id}"'
    if retry_s is not None:
        more += f',"backoff":{{"kind":"fixed","baseSeconds":{retry_s},"jitter":"none"}}'
    for payload in payloads(payload_bytes, seed):
        yield f'{{"jobType":"{job_type}","payload":{payload}{more}}}'
