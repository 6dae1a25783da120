"""The executor's key: what it signs, where it may come from, and that it shows nowhere."""

import json
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from tests.chain.sending.conftest import PASSWORD
from trading.chain.signer import (
    CLOSE_SELECTOR,
    OPEN_SELECTOR,
    SigningPolicy,
    Unsigned,
    check_boot,
    executor_address,
    executor_addresses,
    keystore,
    open_signers,
    write_keystore,
)
from trading.venues.safe.contract import module as m

MODULE = to_checksum_address("0x" + "aa" * 20)
SAFE = "0x" + "0" * 39 + "1"
LOCAL, REAL = 31337, 42161
POLICY = SigningPolicy(frozenset({MODULE}))


def transaction(**changes: object) -> Unsigned:
    data = m.open_data(SAFE, bytes(32), SAFE, 1, 1, 1)
    values = {"chain_id": LOCAL, "nonce": 0, "to": MODULE, "data": data, "gas": 1, "max_fee": 1, "tip": 1}
    return Unsigned(**values | changes)  # type: ignore[arg-type]


@pytest.fixture
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A key of one's own in the environment, as production has it."""
    key = bytes(Account.create().key)
    write_keystore(tmp_path / "own.json", key, "a good long password", iterations=1_000)
    monkeypatch.setenv("EXECUTOR_KEYSTORE", str(tmp_path / "own.json"))
    monkeypatch.setenv("EXECUTOR_PASSWORD", "a good long password")
    return key


def test_the_selectors_are_the_modules() -> None:
    assert m.open_data(SAFE, bytes(32), SAFE, 1, 1, 1)[:4] == OPEN_SELECTOR
    assert m.close_data(SAFE, bytes(32), 1, 1)[:4] == CLOSE_SELECTOR


def test_it_signs_open_and_close_of_our_module_and_nothing_else(own_key: bytes) -> None:
    (signer,) = open_signers(LOCAL, POLICY, 60).values()
    made = signer.sign(transaction())
    assert Account.recover_transaction(made.raw) == signer.address == executor_address()
    assert TypedTransaction.from_bytes(HexBytes(made.raw)).as_dict()["value"] == 0
    signer.sign(transaction(data=m.close_data(SAFE, bytes(32), 1, 1)))
    for changes, code in (
        ({"to": SAFE}, "signer_target"),
        ({"data": m.call_data("stop", SAFE, m.HALTED)}, "signer_selector"),
        ({"data": m.call_data("revoke")}, "signer_selector"),
        ({"chain_id": REAL}, "signer_chain"),
    ):
        with pytest.raises(Rejected) as refused:
            signer.sign(transaction(**changes))
        assert refused.value.code == code


def test_during_a_rotation_both_keys_sign(
    own_key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Account.create()
    write_keystore(tmp_path / "old.json", bytes(old.key), "another good long password", iterations=1_000)
    monkeypatch.setenv("EXECUTOR_PREVIOUS_KEYSTORE", str(tmp_path / "old.json"))
    monkeypatch.setenv("EXECUTOR_PREVIOUS_PASSWORD", "another good long password")
    current = Account.from_key(own_key).address

    assert executor_addresses() == (current, old.address)
    signers = open_signers(REAL, POLICY, 60)
    assert list(signers) == [current, old.address]
    for address, signer in signers.items():
        assert Account.recover_transaction(signer.sign(transaction(chain_id=REAL)).raw) == address

    monkeypatch.setenv("EXECUTOR_PREVIOUS_PASSWORD", "short")
    with pytest.raises(Misconfigured, match="EXECUTOR_PREVIOUS_PASSWORD_FILE"):
        check_boot(REAL)


def test_more_signatures_than_make_sense_are_refused(own_key: bytes) -> None:
    (signer,) = open_signers(LOCAL, POLICY, 3).values()
    for _ in range(3):
        signer.sign(transaction())
    with pytest.raises(Retryable, match="signatures in the last minute"):
        signer.sign(transaction())


def test_a_call_pays_no_more_than_the_policy_allows(own_key: bytes) -> None:
    (frugal,) = open_signers(LOCAL, POLICY, 60).values()
    pays = SigningPolicy(frozenset({MODULE}), max_value=10**16)
    (paying,) = open_signers(LOCAL, pays, 60).values()

    assert (
        TypedTransaction.from_bytes(HexBytes(paying.sign(transaction(value=10**16)).raw)).as_dict()["value"]
        == 10**16
    )
    for signer, value in ((frugal, 1), (paying, 10**16 + 1)):
        with pytest.raises(Rejected, match=r"pays at most \d+ wei") as refused:
            signer.sign(transaction(value=value))
        assert refused.value.code == "signer_value"
    with pytest.raises(Rejected, match="does not sign calls"):
        paying.sign(transaction(to=paying.address, data=b"", value=1))


def test_the_key_shows_nowhere(own_key: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (signer,) = open_signers(LOCAL, POLICY, 60).values()
    logging.getLogger("test").warning("%s %r", signer, signer)
    shown = f"{signer!r} {signer} {caplog.text} {executor_address()}"
    for form in (own_key.hex(), own_key.hex().upper(), str(int.from_bytes(own_key, "big"))):
        assert form not in shown
    with pytest.raises(TypeError, match="must not leave this process"):
        pickle.dumps(signer)
    from django.conf import settings

    assert own_key.hex() not in repr({name: getattr(settings, name) for name in dir(settings)})


def test_boot_takes_a_key_of_ones_own(own_key: bytes) -> None:
    check_boot(REAL)
    (signer,) = open_signers(REAL, POLICY, 60).values()
    assert signer.chain_id == REAL


def test_boot_refuses_anvils_key_outside_the_local_chain(
    executor_keystore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECUTOR_KEYSTORE", str(executor_keystore))
    monkeypatch.setenv("EXECUTOR_PASSWORD", PASSWORD)
    check_boot(LOCAL)
    with pytest.raises(Misconfigured, match="which is public"):
        check_boot(REAL)


@pytest.mark.parametrize("key", [b"\x00" * 31 + b"\x01", b"\x00" * 16 + b"\x7f" * 16])
def test_boot_refuses_a_guessable_key(key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_keystore(tmp_path / "key.json", key, "a good long password", iterations=1_000)
    monkeypatch.setenv("EXECUTOR_KEYSTORE", str(tmp_path / "key.json"))
    monkeypatch.setenv("EXECUTOR_PASSWORD", "a good long password")
    with pytest.raises(Misconfigured, match="default key"):
        open_signers(REAL, POLICY, 60)


@pytest.mark.parametrize("name", ["EXECUTOR_KEY", "EXECUTOR_PRIVATE_KEY", "PRIVATE_KEY"])
def test_boot_refuses_a_plaintext_key(name: str, own_key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, own_key.hex())
    with pytest.raises(Misconfigured, match=f"{name} holds a plaintext key") as refused:
        check_boot(REAL)
    assert own_key.hex() not in str(refused.value)


def test_boot_refuses_what_is_missing_empty_or_no_keystore(
    own_key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECUTOR_PASSWORD", "short")
    with pytest.raises(Misconfigured, match="fewer than 12"):
        check_boot(REAL)
    monkeypatch.setenv("EXECUTOR_PASSWORD", "a wrong long password")
    with pytest.raises(Misconfigured, match="cannot be decrypted"):
        open_signers(REAL, POLICY, 60)
    (tmp_path / "plain").write_text(own_key.hex())
    (tmp_path / "other").write_text(json.dumps({"version": 1}))
    for value, why in (
        ("", "is not set"),
        (str(tmp_path / "away"), "No such file"),
        (str(tmp_path / "plain"), "not a keystore v3"),
        (str(tmp_path / "other"), "only version 3 is supported"),
    ):
        monkeypatch.setenv("EXECUTOR_KEYSTORE", value)
        with pytest.raises(Misconfigured, match=why) as refused:
            check_boot(REAL)
        assert own_key.hex() not in str(refused.value)


def test_the_password_comes_from_a_file_too(
    own_key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXECUTOR_PASSWORD")
    (tmp_path / "password").write_text("a good long password\n")
    monkeypatch.setenv("EXECUTOR_PASSWORD_FILE", str(tmp_path / "password"))
    assert list(open_signers(REAL, POLICY, 60)) == [Account.from_key(own_key).address]


DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "no parameters": ({"kdfparams": None}, "crypto.kdfparams is not an object"),
    "no vector": ({"cipherparams": {}}, "crypto.cipherparams.iv is not hex"),
    "letters": ({"ciphertext": "zz"}, "crypto.ciphertext is not hex"),
    "a number": ({"mac": 7}, "crypto.mac is not hex"),
}
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "no salt": ({"salt": None}, "crypto.kdfparams.salt is not hex"),
    "text for a number": ({"c": "1000"}, "crypto.kdfparams.c is '1000'"),
    "true for a number": ({"c": True}, "crypto.kdfparams.c is True"),
    "a short key": ({"dklen": 16}, "crypto.kdfparams.dklen is not 32"),
    "days of work": ({"c": 10**12}, "crypto.kdfparams c is 1000000000000, more than"),
    "another hash": ({"prf": "hmac-sha1"}, "crypto.kdfparams.prf is 'hmac-sha1'"),
}


@pytest.mark.parametrize("how", [*DAMAGE, *PARAMETERS])
def test_a_damaged_keystore_names_its_field(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Account.encrypt(b"\x07" * 32, "a good long password", kdf="pbkdf2", iterations=2)
    change, why = DAMAGE.get(how) or PARAMETERS[how]
    spoiled = change if how in DAMAGE else {"kdfparams": found["crypto"]["kdfparams"] | change}
    monkeypatch.setenv("EXECUTOR_KEYSTORE", json.dumps(found | {"crypto": found["crypto"] | spoiled}))
    with pytest.raises(Misconfigured, match=re.escape(why)):
        keystore()


def test_a_scrypt_that_takes_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Account.encrypt(b"\x07" * 32, "a good long password", kdf="scrypt", iterations=2)
    found["crypto"]["kdfparams"]["n"] = 2**30
    monkeypatch.setenv("EXECUTOR_KEYSTORE", json.dumps(found))
    with pytest.raises(Misconfigured, match=r"n\*r\*p is \d+, more than 8388608"):
        keystore()
