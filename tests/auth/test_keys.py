import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from jobengine.auth.keys import (
    KeyFileError,
    RetiredKey,
    load_key_ring,
    load_or_create_key,
    ring_files,
    rotate_key,
)


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "key.pem"
    first = load_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path).private_bytes_raw() == first.private_bytes_raw()
    assert [entry.name for entry in path.parent.iterdir()] == ["key.pem"]


def test_starters_at_the_same_time_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(load_or_create_key, [path] * 16))
    assert len({key.private_bytes_raw() for key in keys}) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    load_or_create_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match=r"has mode 0640; run: chmod 600"):
        load_or_create_key(path)


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other = rsa.generate_private_key(65_537, 2_048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for content in (b"", b"nothing", other):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match="holds no unencrypted Ed25519 key"):
            load_or_create_key(path)


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=str(tmp_path)):
        load_or_create_key(tmp_path)


def test_rotation_puts_a_new_key_in_place_and_keeps_the_public_half_of_the_old(
    tmp_path: Path,
) -> None:
    path = tmp_path / "key.pem"
    old = load_or_create_key(path)
    before = ring_files(path)
    made = rotate_key(path, until_at=90_000_000, now_at=1_000_000)
    ring = load_key_ring(path)
    assert ring.signer.private_bytes_raw() == made.signer.private_bytes_raw()
    assert ring.signer.private_bytes_raw() != old.private_bytes_raw()
    assert ring.retired == (RetiredKey(old.public_key(), 90_000_000),)
    assert ring_files(path) != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = (tmp_path / "key.pem.retired.jwks").read_text()
    assert old.private_bytes_raw().hex() not in kept
    assert '"d"' not in kept
    assert sorted(each.name for each in tmp_path.iterdir()) == ["key.pem", "key.pem.retired.jwks"]


def test_a_later_rotation_drops_what_is_over_and_keeps_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    load_or_create_key(path)
    first = rotate_key(path, until_at=5_000_000, now_at=0)
    second = rotate_key(path, until_at=9_000_000, now_at=1_000_000)
    assert [old.until_at for old in second.retired] == [5_000_000, 9_000_000]
    third = rotate_key(path, until_at=6_000_000, now_at=6_000_000)
    assert [old.until_at for old in third.retired] == [9_000_000]
    assert third.retired[0].key == first.signer.public_key()


def test_a_retired_set_that_others_can_write_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    load_or_create_key(path)
    rotate_key(path, until_at=9_000_000, now_at=0)
    retired = tmp_path / "key.pem.retired.jwks"
    retired.chmod(0o666)
    with pytest.raises(KeyFileError, match="chmod 644"):
        load_key_ring(path)
    retired.chmod(0o644)
    retired.write_text('{"keys": [{"x": "AAAA", "exp": 1}]}')
    with pytest.raises(KeyFileError, match="no set of retired keys"):
        load_key_ring(path)
