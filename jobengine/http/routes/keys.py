"""The engine's public keys, for whoever verifies what it has signed."""

from typing import Any, Final

import msgspec

from jobengine.http.answer import Answer
from jobengine.http.front import Front
from jobengine.http.route import OpenRoute

__all__ = ["ROUTES", "JsonWebKeys"]


class JsonWebKeys(msgspec.Struct):
    """A JSON Web Key Set (RFC 7517). A key with `exp` signs no more, and verifies until then."""

    keys: list[dict[str, Any]]


async def show_keys(front: Front) -> Answer:
    body = msgspec.json.encode(front.identities.jwks())
    return Answer(body, headers={"Cache-Control": "public, max-age=300"})


ROUTES: Final = (
    OpenRoute(
        path="/.well-known/jobengine/keys",
        name="listPublicKeys",
        summary="The public keys that verify the engine's tokens and envelopes",
        handler=show_keys,
        answers={200: JsonWebKeys},
    ),
)
