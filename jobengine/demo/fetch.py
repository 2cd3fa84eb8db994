"""Fetching from an upstream: the body, or the refusal with what the upstream asked for."""

import httpx


class UpstreamRefusedError(Exception):
    """The upstream pushed back. `retry_after_s` is its Retry-After, when given in seconds."""

    def __init__(self, url: str, http_status: int, retry_after_s: float | None) -> None:
        super().__init__(f"{url} answered {http_status}")
        self.http_status = http_status
        self.retry_after_s = retry_after_s


def fetch(url: str, timeout_s: float = 10.0) -> bytes:
    """The body behind a URL; proxies of the environment are not used.

    Raises `UpstreamRefusedError` on 429 and 503, `httpx.HTTPError` on everything else but 2xx.
    """
    response = httpx.get(url, timeout=timeout_s, trust_env=False)
    if response.status_code in {429, 503}:
        asked = response.headers.get("Retry-After", "")
        raise UpstreamRefusedError(
            url, response.status_code, float(asked) if asked.isdecimal() else None
        )
    return response.raise_for_status().content
