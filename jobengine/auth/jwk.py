"""JSON Web Keys (RFC 7517): which public keys may verify what.

I1  A key verifies with the one algorithm that its type stands for, whatever a token's header says:
    Ed25519 with EdDSA, P-256 with ES256, RSA with RS256. No key here is ever an HMAC secret.
I2  A set is read whole or refused; keys in it of other types or uses are passed over.
"""

import base64
import binascii
from typing import Any, Final

import attrs
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

__all__ = ["SET_BYTES_MAX", "JwksInvalidError", "PublicKey", "VerifyingKey", "jwk_of", "read_jwks"]

SET_BYTES_MAX: Final = 256 * 1024
_KEYS_MAX: Final = 200
_RSA_BITS: Final = range(2048, 8193)

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class JwksInvalidError(Exception):
    """Not a key set that can be used; the message says what is wrong with it."""


@attrs.frozen
class VerifyingKey:
    """``key_id`` is empty where the set gives none."""

    key_id: str
    algorithm: str
    key: PublicKey


class _Jwk(msgspec.Struct):
    kty: str = ""
    kid: str = ""
    use: str = "sig"
    alg: str | None = None
    key_ops: list[str] | None = None
    crv: str = ""
    x: str = ""
    y: str = ""
    n: str = ""
    e: str = ""


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]


_decoder: Final = msgspec.json.Decoder(_Jwks)


def read_jwks(data: bytes) -> tuple[VerifyingKey, ...]:
    """The keys of a set that verify tokens, in its order.

    Raises:
        JwksInvalidError: too large, not a set, a damaged key, one id twice, or no key for
            signatures.
    """
    if len(data) > SET_BYTES_MAX:
        raise JwksInvalidError(f"more than {SET_BYTES_MAX} bytes")
    try:
        jwks = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise JwksInvalidError("not a JSON Web Key Set") from None
    if len(jwks.keys) > _KEYS_MAX:
        raise JwksInvalidError(f"more than {_KEYS_MAX} keys")
    found: list[VerifyingKey] = []
    for place, jwk in enumerate(jwks.keys):
        try:
            key = _verifying(jwk)
        except (ValueError, binascii.Error, UnsupportedAlgorithm):
            raise JwksInvalidError(f"keys[{place}] is damaged or too weak") from None
        if key is not None:
            found.append(key)
    ids = [key.key_id for key in found if key.key_id]
    if len(set(ids)) < len(ids):
        raise JwksInvalidError("two keys have the same kid")
    if not found:
        raise JwksInvalidError("no key for EdDSA, ES256 or RS256 signatures in it")
    return tuple(found)


def jwk_of(key: Ed25519PublicKey, key_id: str) -> dict[str, Any]:
    """An Ed25519 key as a JWK (RFC 8037 §2)."""
    x = base64.urlsafe_b64encode(key.public_bytes_raw()).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key_id, "use": "sig", "alg": "EdDSA"}


def _verifying(jwk: _Jwk) -> VerifyingKey | None:
    """The key, or None where it is not for signatures that we verify. Raises `ValueError`."""
    if jwk.use != "sig" or (jwk.key_ops is not None and "verify" not in jwk.key_ops):
        return None
    key: PublicKey
    match jwk.kty, jwk.crv, jwk.alg:
        case "OKP", "Ed25519", None | "EdDSA" | "Ed25519":
            algorithm, key = "EdDSA", Ed25519PublicKey.from_public_bytes(_octets(jwk.x))
        case "EC", "P-256", None | "ES256":
            numbers = EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), SECP256R1())
            algorithm, key = "ES256", numbers.public_key()
        case "RSA", _, None | "RS256":
            modulus = _number(jwk.n)
            if modulus.bit_length() not in _RSA_BITS:
                raise ValueError
            algorithm, key = "RS256", RSAPublicNumbers(_number(jwk.e), modulus).public_key()
        case _:
            return None
    return VerifyingKey(jwk.kid, algorithm, key)


def _octets(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _number(text: str) -> int:
    return int.from_bytes(_octets(text), "big")
