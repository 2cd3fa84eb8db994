"""The signature of a JWT (RFC 7515, 7519), and what can be read of one before it is verified.

I1  The algorithm comes from the key. A header that names another one is refused before any
    arithmetic, so neither ``none`` nor an HMAC over a public key can stand for a signature.
I2  Tokens that say the same have the same id, whatever became of their signatures: those of ES256
    can be written in two ways.
"""

import hashlib
import re
from typing import Any, Final

import attrs
import jwt
import msgspec

from jobengine.auth.claims import TokenInvalidError
from jobengine.auth.jwk import PublicKey
from jobengine.domain.instant import SECOND

__all__ = [
    "TOKEN_CHARACTERS_MAX",
    "Unverified",
    "read_unverified",
    "signed_id",
    "unverified_id",
    "verified_claims",
]

TOKEN_CHARACTERS_MAX: Final = 8_192
_EXP_MAX: Final = 253_000_000_000
_ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_jws: Final = jwt.PyJWS(algorithms=list(_ALGORITHMS))
_claims: Final = msgspec.json.Decoder(dict[str, Any])


@attrs.frozen
class Unverified:
    """What a token says of itself: good for choosing a key, and for nothing else."""

    algorithm: str
    key_id: str
    issuer: str
    token_id: object
    expires: object


def read_unverified(token: str) -> Unverified:
    """Raises `TokenInvalidError` for what is no signed JWT of a size that we read."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise TokenInvalidError(f"the token is longer than {TOKEN_CHARACTERS_MAX} characters")
    if _COMPACT.fullmatch(token) is None:
        raise TokenInvalidError("the token is malformed")
    try:
        parts = _jws.decode_complete(token, options={"verify_signature": False})
        claims = _claims.decode(parts["payload"])
    except (jwt.PyJWTError, msgspec.DecodeError, ValueError, TypeError, RecursionError):
        raise TokenInvalidError("the token is malformed") from None
    header = parts["header"]
    algorithm, key_id, issuer = header.get("alg"), header.get("kid", ""), claims.get("iss")
    if algorithm not in _ALGORITHMS:
        raise TokenInvalidError(f"the token is not signed with {', '.join(_ALGORITHMS)}")
    if not isinstance(key_id, str) or header.get("crit") is not None:
        raise TokenInvalidError("the token's header has a kid or crit that is not understood")
    if not isinstance(issuer, str):
        raise TokenInvalidError("the token lacks the claim iss")
    return Unverified(algorithm, key_id, issuer, claims.get("jti"), claims.get("exp"))


def unverified_id(token: str) -> tuple[str, int | None]:
    """By what a token is revoked, and when it says that it expires (UTC microseconds).

    Raises `TokenInvalidError` for what is no JWT.
    """
    said = read_unverified(token)
    expires_at = None
    if isinstance(said.expires, int | float) and 0 <= said.expires < _EXP_MAX:
        expires_at = round(said.expires * SECOND)
    if isinstance(said.token_id, str) and said.token_id:
        return said.token_id, expires_at
    return signed_id(token), expires_at


def signed_id(token: str) -> str:
    """The id of a token that names none (``jti``): a hash of what is signed."""
    signed = token.rpartition(".")[0]
    return f"sha256:{hashlib.sha256(signed.encode()).hexdigest()}"


def verified_claims(token: str, algorithm: str, key: PublicKey) -> dict[str, Any]:
    """The claims of a token that this key signed with this algorithm, else `TokenInvalidError`."""
    try:
        parts = _jws.decode_complete(token, key, algorithms=[algorithm])
    except jwt.InvalidAlgorithmError:
        raise TokenInvalidError(
            f"the token is not signed with {algorithm}, as its key is for"
        ) from None
    except jwt.InvalidSignatureError:
        raise TokenInvalidError("the token's signature is not that of its key") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenInvalidError("the token is malformed") from None
    return _claims.decode(parts["payload"])
