"""The vault: what has to be kept and used again, such as the secret of a webhook, sealed with a key
that is not in the database.

Form: one octet that names the form, a nonce of 12 random octets, and what AES-256-GCM makes of the
plaintext (NIST SP 800-38D). Purpose, tenant and the name of what it belongs to are associated data:
what is sealed for one opens for no other.

I1  The key is 32 random octets in a file of its own, beside the engine's key, and is not rotated
    with that. It is readable by its owner only; a file that others can read is refused, not used.
I2  Two processes that begin at once agree on one key: whoever links its file first wins.
I3  Neither a wrong key, nor a damaged text, nor another name tells anything but `VaultError`.

Random nonces are good for 2**32 values under one key, which is more than a node ever seals.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Vault", "VaultError", "load_or_create_vault", "vault_path"]

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FORM: Final = b"\x01"
_PURPOSE: Final = "webhook secret"


class VaultError(Exception):
    """The key file cannot be used, or a text was not sealed with this key for this webhook; the
    message says what to do."""


class Vault:
    """Seals and opens the secrets of webhooks. ``key``: 32 octets."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, tenant_id: str, webhook_id: str, secret: bytes) -> bytes:
        """The secret such that only this vault reads it, and for this webhook only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORM + nonce + self._cipher.encrypt(nonce, secret, _bound_to(tenant_id, webhook_id))

    def open(self, tenant_id: str, webhook_id: str, sealed: bytes) -> bytes:
        """The secret that was sealed. Raises `VaultError`."""
        begin = len(_FORM) + _NONCE_BYTES
        nonce, text = sealed[len(_FORM) : begin], sealed[begin:]
        if not sealed.startswith(_FORM) or len(nonce) < _NONCE_BYTES:
            raise VaultError("this is no sealed secret; set a new one")
        try:
            return self._cipher.decrypt(nonce, text, _bound_to(tenant_id, webhook_id))
        except InvalidTag:
            raise VaultError(
                "the secret was sealed with another key; restore the vault file or set a new secret"
            ) from None


def vault_path(key_file: Path) -> Path:
    """Where the vault of the engine with this key file has its own."""
    return key_file.with_name(f"{key_file.name}.vault")


def load_or_create_vault(path: Path) -> Vault:
    """The vault with the key in this file, made first where there is none. Blocks on the file
    system. Raises `VaultError`."""
    try:
        if not path.exists():
            _create(path)
        return Vault(_load(path))
    except OSError as error:
        raise VaultError(f"{path}: {error.strerror}; the vault file must be accessible") from None


def _bound_to(tenant_id: str, webhook_id: str) -> bytes:
    # Encoded as JSON, the parts cannot run into each other.
    return msgspec.json.encode([_PURPOSE, tenant_id, webhook_id])


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A hard link fails where a rename would replace a key that another process has just made.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise VaultError(f"{path} has mode {mode:04o}; run: chmod 600 {path}")
        key = file.read(_KEY_BYTES + 1)
    if len(key) != _KEY_BYTES:
        raise VaultError(f"{path} does not hold a key of {_KEY_BYTES} octets; restore it")
    return key
