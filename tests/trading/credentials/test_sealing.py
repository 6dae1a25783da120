"""Customers' keys: only a process with the private key opens them, as the keys of one account and unchanged."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import redact
from maxxit.core.errors import Misconfigured
from trading.credentials import sealing
from trading.credentials.sealing import PREVIOUS, PRIVATE, PUBLIC, Sealed

FIELDS = {"key_id": "PK-1234567890", "secret": "s3cr3t/with+signs="}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> X25519PrivateKey:
    key = X25519PrivateKey.generate()
    for name in (PUBLIC, PRIVATE, PREVIOUS, f"{PRIVATE}_FILE", f"{PREVIOUS}_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/maxxit")
    monkeypatch.setenv(PRIVATE, sealing.encode(key))
    return key


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=4), st.text(max_size=60))
def test_what_was_sealed_opens_and_never_looks_the_same(fields: dict[str, str], context: str) -> None:
    first, second = sealing.seal(fields, context), sealing.seal(fields, context)
    assert sealing.unseal(first, context) == fields
    assert first.content != second.content


def test_a_process_with_the_public_key_alone_seals_and_does_not_open(
    keys: X25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PUBLIC, sealing.encode(keys.public_key()))
    monkeypatch.delenv(PRIVATE)
    sealed = sealing.seal(FIELDS, "alpaca|1")
    assert b"s3cr3t" not in sealed.content
    with pytest.raises(Misconfigured, match=r"this process has not the private key [0-9a-f]{16}"):
        sealing.unseal(sealed, "alpaca|1")


@pytest.mark.parametrize("at", [0, 33, -1])
def test_changed_content_and_another_account_are_refused(at: int) -> None:
    sealed = sealing.seal(FIELDS, "alpaca|1")
    changed = bytearray(sealed.content)
    changed[at] ^= 1
    for content, context in ((bytes(changed), "alpaca|1"), (sealed.content, "alpaca|2")):
        with pytest.raises(Misconfigured, match="store them again"):
            sealing.unseal(Sealed(content, sealed.key_id), context)


def test_opened_secrets_are_masked_in_logs() -> None:
    redact.forget()
    sealing.unseal(sealing.seal(FIELDS, "a"), "a")
    assert "s3cr3t" not in redact.text(f"answer: {FIELDS['secret']}")


def test_the_key_before_a_rotation_still_opens(
    keys: X25519PrivateKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sealed = sealing.seal(FIELDS, "a")
    file = tmp_path / "new.key"
    sealing.new_key(file)
    monkeypatch.setenv(PREVIOUS, sealing.encode(keys))
    monkeypatch.setenv(f"{PRIVATE}_FILE", str(file))
    assert sealing.unseal(sealed, "a") == FIELDS
    assert sealing.seal(FIELDS, "a").key_id != sealed.key_id
    assert oct(file.stat().st_mode)[-3:] == "600"
    with pytest.raises(Misconfigured, match="exists"):
        sealing.new_key(file)


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_wrong_key_is_named_and_never_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRIVATE, text)
    with pytest.raises(Misconfigured, match=r"manage.py credentials new-key") as error:
        sealing.seal(FIELDS, "a")
    assert not text or text not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PRIVATE}_FILE", "/nowhere/credentials.key")
    with pytest.raises(Misconfigured, match=r"/nowhere/credentials\.key cannot be read"):
        sealing.seal(FIELDS, "a")


def test_the_embedded_installation_makes_its_key_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: object
) -> None:
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path)
    for name in (PRIVATE, "DATABASE_URL"):
        monkeypatch.delenv(name)
    sealed = sealing.seal(FIELDS, "a")
    assert sealing.unseal(sealed, "a") == FIELDS
    assert [file.name for file in tmp_path.iterdir()] == ["credentials.key"]
