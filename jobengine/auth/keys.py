"""The engine's own key ring: the Ed25519 key that signs, and those that did before it.

The key is one file. Rotation puts a new key in its place and keeps the public half of the old one
in ``<key file>.retired.jwks`` (RFC 7517, with ``exp``), so that tokens it has signed go on being
accepted until then. The old private half is gone: nobody can sign with it any more.

I1  Either file is written whole and put in place at once; the key is readable by its owner only.
I2  A key that others can read, or a retired set that others can write, is refused, not used.
I3  A crash within a rotation leaves a ring that accepts whatever it accepted before.

Two processes that start at once agree on one key: whoever links its file first wins.
"""

import base64
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jobengine.auth.jwk import jwk_of
from jobengine.domain.instant import SECOND

__all__ = [
    "KeyFileError",
    "KeyRing",
    "RetiredKey",
    "key_id_of",
    "load_key_ring",
    "load_or_create_key",
    "ring_files",
    "rotate_key",
]

_RETIRED_BYTES_MAX: Final = 256 * 1024


class KeyFileError(Exception):
    """The key file cannot be used; the message names it and what to do."""


@attrs.frozen
class RetiredKey:
    """A key that signs no more. ``until_at``: its tokens are refused from then on."""

    key: Ed25519PublicKey
    until_at: int


@attrs.frozen
class KeyRing:
    """What signs, and what still verifies."""

    signer: Ed25519PrivateKey
    retired: Sequence[RetiredKey] = ()

    def jwks(self, now_at: int) -> dict[str, Any]:
        """The public keys that verify at this instant, the one that signs first."""
        public = self.signer.public_key()
        retired = [_retired_jwk(old) for old in self.retired if old.until_at > now_at]
        return {"keys": [jwk_of(public, key_id_of(public)), *retired]}


class _RetiredJwk(msgspec.Struct):
    x: str
    exp: int


class _RetiredSet(msgspec.Struct):
    keys: list[_RetiredJwk]


_decoder: Final = msgspec.json.Decoder(_RetiredSet)


def key_id_of(key: Ed25519PublicKey) -> str:
    """The ``kid`` of one of our keys: the first 64 bits of its SHA-256, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """The key in this file, made first where there is none. Blocks on the file system.

    Raises:
        KeyFileError: not an unencrypted Ed25519 key in PEM, readable by others, or not accessible.
    """
    with _explained(path):
        if not path.exists():
            _create(path)
        return _load(path)


def load_key_ring(path: Path) -> KeyRing:
    """The key in this file and the retired ones beside it. Blocks on the file system.

    Raises `KeyFileError`, as `load_or_create_key` does, also where the retired set is damaged.
    """
    with _explained(path):
        return KeyRing(_load(path), _load_retired(_retired_path(path)))


def rotate_key(path: Path, until_at: int, now_at: int) -> KeyRing:
    """Replace the key in this file; what it has signed is accepted until ``until_at``.

    Retired keys past their time are dropped. Blocks on the file system, and while another rotation
    of the same directory is under way. Raises `KeyFileError`.
    """
    with _explained(path), _locked(path.parent):
        before = load_key_ring(path)
        retired = [old for old in before.retired if old.until_at > now_at]
        if until_at > now_at:
            retired.append(RetiredKey(before.signer.public_key(), until_at))
        text = msgspec.json.format(msgspec.json.encode({"keys": list(map(_retired_jwk, retired))}))
        # Retired first (I3): a key that stands in both files is accepted once as the signer.
        _replace(_retired_path(path), text, 0o644)
        signer = Ed25519PrivateKey.generate()
        _replace(path, _pem(signer), 0o600)
    return KeyRing(signer, tuple(retired))


def ring_files(path: Path) -> tuple[tuple[int, int, int], ...]:
    """What changes whenever a file of the ring is replaced; zeros for one that is not there."""
    found = []
    for each in (path, _retired_path(path)):
        try:
            state = each.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((state.st_ino, state.st_mtime_ns, state.st_size))
    return tuple(found)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; the key file must be accessible") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _retired_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.retired.jwks")


def _retired_jwk(old: RetiredKey) -> dict[str, Any]:
    return jwk_of(old.key, key_id_of(old.key)) | {"exp": old.until_at // SECOND}


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _draft(path, _pem(Ed25519PrivateKey.generate()), 0o600)
    try:
        # A hard link fails where a rename would replace a key that another process has just made.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _replace(path: Path, data: bytes, mode: int) -> None:
    draft = _draft(path, data, mode)
    try:
        if path.exists():
            state = path.stat()
            if os.geteuid() == 0:
                os.chown(draft, state.st_uid, state.st_gid)
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(path: Path, data: bytes, mode: int) -> Path:
    """A file beside ``path`` whose content has reached the disk."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return draft


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


def _load_retired(path: Path) -> tuple[RetiredKey, ...]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_RETIRED_BYTES_MAX)
    except FileNotFoundError:
        return ()
    if mode & 0o022:
        raise KeyFileError(f"{path} has mode {mode:04o}; run: chmod 644 {path}")
    try:
        return tuple(_retired(jwk) for jwk in _decoder.decode(data).keys)
    except (msgspec.DecodeError, ValueError):
        raise KeyFileError(f"{path} is no set of retired keys; restore or remove it") from None


def _retired(jwk: _RetiredJwk) -> RetiredKey:
    octets = base64.urlsafe_b64decode(jwk.x + "=" * (-len(jwk.x) % 4))
    return RetiredKey(Ed25519PublicKey.from_public_bytes(octets), jwk.exp * SECOND)
