"""Requests of commands that the SDK has no method for: who may act is a matter for operators."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from jobengine.cli.connection import Engine

__all__ = ["ask"]

_BASE: Final = "/api/v1/jobengine"
_ANSWER_S: Final = 30.0


def ask(
    engine: Engine,
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, str] | None = None,
    reason: str | None = None,
    ticket: str | None = None,
) -> Any:
    """The JSON that the engine answers. Raises `CommandFailedError` for whatever it refuses.

    Sent once: what a lost answer would have shown is not to be had again by asking again.
    """
    import httpx

    from jobengine.sdk.exchange import Answer, error_of, signed
    from jobengine.sdk.header_octets import octets_of
    from jobengine.sdk.trust import trusted

    headers = {"Authorization": f"Bearer {engine.token}", **signed(reason, ticket)}
    if engine.tenant:
        headers["X-Stella-Tenant"] = engine.tenant
    if method == "POST":
        headers["Idempotency-Key"] = uuid4().hex
    # `client` refuses a CA file that cannot be used, so it is opened first.
    with (
        engine.client(),
        httpx.Client(timeout=_ANSWER_S, verify=trusted() or True) as http,
    ):
        answer = http.request(
            method,
            engine.url.rstrip("/") + _BASE + path,
            json=body,
            params=query,
            headers=octets_of(headers),
        )
        if answer.status_code >= 400:
            raise error_of(Answer(answer.status_code, dict(answer.headers), answer.content))
        return answer.json()
