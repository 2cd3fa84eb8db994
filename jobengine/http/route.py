"""A row of the route table: everything about an endpoint that is not its code.

Routing, authorisation, validation and the published description are read from rows; a handler gets
a request that has passed all of them.

I1  A row with scopes is answered to a token that has one of them. The first of them that it has is
    the one it acts under, and that scope's audit rule is the request's.
I2  Unknown query parameters and unknown fields are refused before the handler runs.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Generic, TypeVar

import attrs
import msgspec

from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Identity
from jobengine.domain.errors import ErrorCode
from jobengine.http.answer import JSON, Answer, AnyAnswer
from jobengine.http.callbacks import CallbackPlace
from jobengine.http.front import Front
from jobengine.messages.lease_shard import Actor, IdempotencyClaim

__all__ = [
    "BASE",
    "Call",
    "Handler",
    "NoBody",
    "NoQuery",
    "OctetBody",
    "OpenRoute",
    "Paging",
    "RawBody",
    "Route",
    "SignedCall",
    "SignedRoute",
]

BASE = "/api/v1/jobengine"

Q = TypeVar("Q")
B = TypeVar("B")


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """An endpoint without query parameters."""


class NoBody(msgspec.Struct, forbid_unknown_fields=True):
    """An endpoint whose body may be absent or `{}`."""


class Paging(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """The parameters of every list."""

    page_size: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    page_token: str | None = None


@attrs.frozen
class RawBody:
    """A body that the handler decodes itself, with the media type it came under."""

    data: bytes
    media_type: str


@attrs.frozen
class OctetBody:
    """A body of any bytes that the handler reads as they come. `length` is what the client says.
    `read`: the next so many bytes, fewer at the end, none behind it; raises if they do not come."""

    media_type: str
    length: int | None
    read: Callable[[int], Awaitable[bytes]]


@attrs.frozen(kw_only=True)
class Call(Generic[Q, B]):
    """One admitted request. `project_id` is what X-Stella-Project says, `path` the values in the
    path by name, `headers` those given of the row's own, `filter_key` what a page token of this
    list is bound to. Where the body is read by the handler, `claim` does not cover it yet."""

    front: Front
    identity: Identity
    tenant_id: str
    project_id: str | None
    actor: Actor
    path: dict[str, str]
    query: Q
    body: B
    claim: IdempotencyClaim | None
    correlation_id: str
    traceparent: str | None
    trace_id: str
    last_event_id: str | None
    filter_key: tuple[str, ...]
    headers: Mapping[str, str] = attrs.field(factory=dict)


Handler = Callable[[Call[Any, Any]], Awaitable[AnyAnswer]]


@attrs.frozen(kw_only=True)
class Route:
    """An endpoint of a tenant. `answers` maps a status to the type of its body (None: no JSON but
    `media_type`); `errors` names the codes beyond those that every endpoint can answer with.

    `direct`: asked so often that it is answered without the web framework (`direct`). It has no
    name in its path, and its handler waits for a commit and nothing else.

    `bytes` as the type of a body is any bytes: those of a request come as an `OctetBody`, under any
    media type. `headers`: request headers that this row reads beside those of every row;
    `answer_headers`: what its answers tell beside them.

    `creates_work`: what it asks for is new work, which an overloaded engine refuses before it reads
    the body; its answers tell of the load.

    `of_platform`: what it is about is no tenant's, so it is answered to the system tenant alone.
    `tenantless`: what a request that names no tenant is refused with.

    `location`: the answer names what was created in `Location`. `successor`: the endpoint is
    deprecated, and this path (below `BASE`) answers in its place."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    scopes: tuple[Scope, ...]
    answers: dict[int, Any]
    query: type[msgspec.Struct] = NoQuery
    body: Any = None
    body_optional: bool = False
    body_raw: bool = False
    consumes: tuple[str, ...] = (JSON,)
    headers: tuple[str, ...] = ()
    answer_headers: tuple[str, ...] = ()
    errors: tuple[ErrorCode, ...] = ()
    base: str = BASE
    media_type: str = JSON
    direct: bool = False
    creates_work: bool = False
    location: bool = False
    of_platform: bool = False
    tenantless: ErrorCode = ErrorCode.TENANT_REQUIRED
    successor: str | None = None


@attrs.frozen(kw_only=True)
class SignedCall(Generic[B]):
    """One admitted request to a signed address, which names its ``place``."""

    front: Front
    place: CallbackPlace
    body: B


@attrs.frozen(kw_only=True)
class SignedRoute:
    """An endpoint for whoever holds an address that the engine has signed: `{token}` in the path
    says for which tenant and what, in place of a bearer, a tenant's header and a scope. Its body
    may be absent."""

    path: str
    name: str
    summary: str
    handler: Callable[[SignedCall[Any]], Awaitable[Answer]]
    body: type[msgspec.Struct]
    answers: dict[int, Any]
    errors: tuple[ErrorCode, ...]
    method: str = "POST"
    base: str = BASE


@attrs.frozen(kw_only=True)
class OpenRoute:
    """An endpoint outside the base path, for whoever can reach the port: no token, no tenant. Its
    handler is given the values in the path by name.

    `described`: it is a part of the API, and so of its published description."""

    path: str
    name: str
    summary: str
    handler: Callable[..., Awaitable[Answer]]
    answers: dict[int, Any]
    method: str = "GET"
    media_type: str = JSON
    described: bool = True
