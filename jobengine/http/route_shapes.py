"""Two shapes that most rows of the route table have: reads, and acts on what the path names."""

from typing import Any

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.http.route import Handler, NoBody, NoQuery, Route

__all__ = ["MISSING", "REPEATED", "acting", "reading"]

MISSING = (ErrorCode.NOT_FOUND,)
REPEATED = (ErrorCode.IDEMPOTENCY_MISMATCH, ErrorCode.IDEMPOTENCY_IN_PROGRESS)


def reading(
    path: str,
    name: str,
    summary: str,
    handler: Handler,
    answer: Any,
    *,
    query: type[msgspec.Struct] = NoQuery,
    scope: Scope = Scope.READ,
    errors: tuple[ErrorCode, ...] = (),
    answer_headers: tuple[str, ...] = (),
) -> Route:
    """An endpoint that shows something and changes nothing."""
    return Route(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        handler=handler,
        scopes=(scope,),
        query=query,
        answers={200: answer},
        answer_headers=answer_headers,
        errors=errors,
    )


def acting(
    path: str,
    name: str,
    summary: str,
    handler: Handler,
    answer: Any,
    *,
    scopes: tuple[Scope, ...] = (Scope.OPERATE,),
    errors: tuple[ErrorCode, ...] = (),
    answer_headers: tuple[str, ...] = (),
) -> Route:
    """An endpoint that does to what its path names what its path says, and needs no body."""
    return Route(
        method="POST",
        path=path,
        name=name,
        summary=summary,
        handler=handler,
        scopes=scopes,
        body=NoBody,
        body_optional=True,
        answers={200: answer},
        answer_headers=answer_headers,
        errors=errors,
    )
