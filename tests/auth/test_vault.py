"""The vault: secrets that only its key opens, and only for what they were sealed for."""

import threading
from pathlib import Path

import pytest

from jobengine.auth.vault import Vault, VaultError, load_or_create_vault, vault_path


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return load_or_create_vault(tmp_path / "key.pem.vault")


def test_what_is_sealed_opens_again_also_after_a_restart(tmp_path: Path) -> None:
    path = vault_path(tmp_path / "data" / "key.pem")
    sealed = load_or_create_vault(path).seal("acme", "w1", b"s3cret")
    assert load_or_create_vault(path).open("acme", "w1", sealed) == b"s3cret"
    assert path.name == "key.pem.vault"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_the_same_secret_is_sealed_differently_each_time(vault: Vault) -> None:
    sealed = {vault.seal("acme", "w1", b"s3cret") for _ in range(50)}
    assert len(sealed) == 50
    assert not any(b"s3cret" in each for each in sealed)


@pytest.mark.parametrize(
    ("tenant_id", "webhook_id"), [("globex", "w1"), ("acme", "w2"), ("acme,", "w1"), ("", "acmew1")]
)
def test_a_secret_opens_for_no_other_webhook(vault: Vault, tenant_id: str, webhook_id: str) -> None:
    sealed = vault.seal("acme", "w1", b"s3cret")
    with pytest.raises(VaultError):
        vault.open(tenant_id, webhook_id, sealed)


def test_another_key_does_not_open_it(vault: Vault) -> None:
    sealed = vault.seal("acme", "w1", b"s3cret")
    with pytest.raises(VaultError, match="another key"):
        Vault(bytes(32)).open("acme", "w1", sealed)


def test_any_changed_or_missing_octet_is_found(vault: Vault) -> None:
    sealed = vault.seal("acme", "w1", b"s3cret")
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        for damaged in (changed, sealed[:place]):
            with pytest.raises(VaultError):
                vault.open("acme", "w1", damaged)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vault"
    load_or_create_vault(path)
    path.chmod(0o640)
    with pytest.raises(VaultError, match="chmod 600"):
        load_or_create_vault(path)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_file_that_is_no_key_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vault"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(VaultError, match="32 octets"):
        load_or_create_vault(path)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_reached_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VaultError, match="accessible"):
        load_or_create_vault(tmp_path / "file" / "vault")


def test_processes_that_begin_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "vault"
    vaults: list[Vault] = []
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        vaults.append(load_or_create_vault(path))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = vaults[0].seal("acme", "w1", b"s")
    assert [each.open("acme", "w1", sealed) for each in vaults] == [b"s"] * 8
    assert list(tmp_path.iterdir()) == [path]
