"""The engine's own secret: one Ed25519 key in one file.

I1  The file is created whole, readable by its owner only, and never written again.
I2  A key that others can read is refused, not used.

Two processes that start at once agree on one key: whoever links its file first wins.
"""

import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["KeyFileError", "derived_secret", "load_or_create_key"]

_SECRET_BYTES = 32


class KeyFileError(Exception):
    """The key file cannot be used; the message names it and what to do."""


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """The key in this file, made first where there is none. Blocks on the file system.

    Raises:
        KeyFileError: not an unencrypted Ed25519 key in PEM, readable by others, or not accessible.
    """
    try:
        if not path.exists():
            _create(path)
        return _load(path)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; the key file must be accessible") from None


def derived_secret(key: Ed25519PrivateKey, purpose: str) -> bytes:
    """32 secret bytes that differ by purpose and tell nothing of the key (HKDF, RFC 5869)."""
    return HKDF(
        algorithm=hashes.SHA256(), length=_SECRET_BYTES, salt=None, info=purpose.encode()
    ).derive(key.private_bytes_raw())


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        # A hard link fails where a rename would replace a key that another process has just made.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _load(path: Path) -> Ed25519PrivateKey:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise KeyFileError(f"{path} has mode {mode:04o}; run: chmod 600 {path}")
        pem = file.read()
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds no unencrypted Ed25519 key in PEM")
    return key
