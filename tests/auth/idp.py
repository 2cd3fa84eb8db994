"""An identity provider for tests: keys of every kind, their JWKS, and tokens signed with them."""

import json
from typing import Any

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://idp.example"
AUDIENCE = "jobengine"
NOW = 1_767_225_600_000_000
S = 1_000_000

_KINDS: dict[str, Any] = {"EdDSA": OKPAlgorithm, "ES256": ECAlgorithm, "RS256": RSAAlgorithm}


def new_key(algorithm: str) -> Any:
    match algorithm:
        case "EdDSA":
            return Ed25519PrivateKey.generate()
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return rsa.generate_private_key(65537, 2048)


def jwk(algorithm: str, key: Any, key_id: str, **more: Any) -> dict[str, Any]:
    made = json.loads(_KINDS[algorithm].to_jwk(key.public_key()))
    made.pop("key_ops", None)
    return {**made, "kid": key_id, **more}


@attrs.define
class Idp:
    """Signs with ``keys[algorithm]`` under the key id that is the algorithm's name."""

    keys: dict[str, Any] = attrs.field(factory=lambda: {name: new_key(name) for name in _KINDS})

    def jwks(self, *names: str) -> bytes:
        shown = names or tuple(self.keys)
        return json.dumps({"keys": [jwk(name, self.keys[name], name) for name in shown]}).encode()

    def token(
        self,
        algorithm: str = "EdDSA",
        *,
        key_id: str | None = "",
        now_at: int = NOW,
        **changes: Any,
    ) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "tenant": "demo",
            "scope": "openid orch:read",
            "iat": now_at // S,
            "exp": now_at // S + 300,
            "jti": "j-1",
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        headers = {} if key_id is None else {"kid": key_id or algorithm}
        return jwt.encode(kept, self.keys[algorithm], algorithm, headers=headers)
