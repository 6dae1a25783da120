"""The executor's key in AWS KMS: which keys are taken, which signatures, and what each failure means."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from django.core.checks import registry as check_registry
from django.core.management import call_command
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable
from maxxit.core.secret_values import key_files, resolve
from maxxit.reports.checks import executors
from tests.chain.sending.kms import SILENT, Key, Kms, der, fake_kms
from tests.chain.sending.test_signer import LOCAL, POLICY, REAL, SAFE, transaction
from tests.chain.sending.test_signer import own_key as own_key
from trading.apps import check_executor_keys
from trading.chain import chains
from trading.chain import kms as kms_module
from trading.chain.signatures import ORDER, address_of, signed_by_service
from trading.chain.signer import Signer, check_boot, executor_address, kind_of, open_deployer, open_signers

SPKI = bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200")
"""DER of a SubjectPublicKeyInfo of secp256k1, before its uncompressed point, as openssl writes it."""


@pytest.fixture(scope="module")
def server() -> Iterator[Kms]:
    with fake_kms() as fake:
        yield fake


@pytest.fixture
def kms(server: Kms, monkeypatch: pytest.MonkeyPatch) -> Kms:
    """A fresh fake, which this process asks; no key is configured."""
    for part in (server.keys, server.faults, server.answers, server.requests, server.signed):
        part.clear()
    server.environment(monkeypatch)
    return server


@pytest.fixture
def key(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> Key:
    """The executor's key."""
    made = kms.new_key()
    monkeypatch.setenv("EXECUTOR_KEYSTORE", f"aws-kms:{made.id}")
    return made


def signer_of(chain_id: int = LOCAL, per_minute: int = 60) -> Signer:
    (found,) = open_signers(chain_id, POLICY, per_minute).values()
    return found


def test_it_signs_with_the_lower_s_and_the_right_recovery_bit(kms: Kms, key: Key) -> None:
    signer = signer_of(REAL)
    assert signer.address == executor_address() == key.address
    bits, raws = set(), set()
    for _ in range(24):  # both bits and both halves occur; that none does has a chance of 1 in 2**22
        made = signer.sign(transaction(chain_id=REAL))
        fields = TypedTransaction.from_bytes(HexBytes(made.raw)).as_dict()
        assert Account.recover_transaction(made.raw) == key.address
        assert fields["s"] <= ORDER // 2
        bits.add(fields["v"])
        raws.add(made.raw)
    assert (bits, len(raws)) == ({0, 1}, 24)
    assert [name for name, _ in kms.requests] == ["GetPublicKey", *["Sign"] * 24]
    unsigned = TypedTransaction.from_dict(
        {"type": 2, "chainId": REAL, "nonce": 0, "to": transaction().to, "value": 0, "data": transaction().data,
         "gas": 1, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1}
    )  # fmt: skip
    assert set(kms.signed) == {bytes(unsigned.hash())}


def test_a_transaction_signed_elsewhere_is_the_one_of_a_local_key() -> None:
    """The same r and s from eth_account's own signer give the same bytes and hash."""
    account = Account.from_key(b"\x07" * 32)
    tx = transaction(chain_id=REAL, nonce=7, value=3)
    fields = {"type": 2, "chainId": REAL, "nonce": 7, "to": tx.to, "value": 3, "data": tx.data, "gas": 1,
              "maxFeePerGas": 1, "maxPriorityFeePerGas": 1}  # fmt: skip
    theirs = account.sign_transaction(fields)
    for s in (theirs.s, ORDER - theirs.s):
        ours = signed_by_service(tx, account.address, lambda _, s=s: der(theirs.r, s))  # type: ignore[misc]
        assert (ours.raw, HexBytes(ours.hash)) == (bytes(theirs.raw_transaction), theirs.hash)


def test_a_public_key_of_openssl_has_the_address_of_its_private_key() -> None:
    account = Account.from_key(b"\x07" * 32)
    point = account._key_obj.public_key.to_bytes()
    assert address_of(SPKI + b"\x04" + point) == account.address
    for wrong in (b"", SPKI, SPKI + b"\x04" + point + b"\x00", SPKI + b"\x04" + bytes(64)):
        with pytest.raises(ValueError, match=r".+"):
            address_of(wrong)


def test_the_policy_and_the_rate_are_checked_before_anything_is_asked(kms: Kms, key: Key) -> None:
    signer = signer_of(per_minute=1)
    kms.requests.clear()
    for refused in ({"to": SAFE}, {"data": b"\x00" * 4}, {"chain_id": REAL}, {"value": 1}):
        with pytest.raises(Rejected):
            signer.sign(transaction(**refused))
    assert kms.requests == []
    signer.sign(transaction())
    with pytest.raises(Retryable, match="signatures in the last minute"):
        signer.sign(transaction())
    assert len(kms.requests) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("another key", "is not that of"),
        ("another digest", "is not that of"),
        ("not DER", "is not DER-encoded"),
        ("more", "is not DER-encoded"),
        ("zero", "is out of range"),
        ("the order", "is out of range"),
        ("no base64", "is not base64"),
    ],
)
def test_a_signature_that_is_not_ours_is_refused(kms: Kms, key: Key, wrong: str, said: str) -> None:
    signer = signer_of()
    signer.sign(transaction())
    [digest] = kms.signed
    ask = {
        "Message": base64.b64encode(digest).decode(),
        "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    }
    good = base64.b64decode(kms.answer("Sign", {"KeyId": key.id, **ask})["Signature"])
    r, _ = decode_dss_signature(good)
    other = kms.answer("Sign", {"KeyId": kms.new_key().id, **ask})["Signature"]
    text = {
        "another key": other,
        "another digest": base64.b64encode(good).decode(),
        "not DER": base64.b64encode(b"\x30\x81" + good[1:]).decode(),
        "more": base64.b64encode(good + b"\x00").decode(),
        "zero": base64.b64encode(der(r, 0)).decode(),
        "the order": base64.b64encode(der(ORDER, 1)).decode(),
        "no base64": "%%%",
    }[wrong]
    kms.answers.append({"Signature": text})
    with pytest.raises(Misconfigured, match=said):
        signer.sign(transaction(nonce=1))  # so the good signature is one of another digest


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"spec": "ECC_NIST_P256"},
            "the KeySpec of .* is 'ECC_NIST_P256': create a key of spec ECC_SECG_P256K1",
        ),
        ({"usage": "KEY_AGREEMENT"}, "the KeyUsage of .* is 'KEY_AGREEMENT'"),
        ({"state": "Disabled"}, "DisabledException .*: enable the key"),
        ({"state": "PendingDeletion"}, "KMSInvalidStateException .* cancel its deletion"),
    ],
)
def test_a_key_of_another_kind_or_state_is_refused_by_name(
    kms: Kms, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str
) -> None:
    made = kms.new_key(**fields)
    monkeypatch.setenv("EXECUTOR_KEYSTORE", f"aws-kms:{made.id}")
    with pytest.raises(Misconfigured, match=f"EXECUTOR_KEYSTORE: .*{said}"):
        open_signers(REAL, POLICY, 60)


def test_an_answer_about_another_key_or_with_another_public_key_is_refused(kms: Kms, key: Key) -> None:
    kms.answers.append({"KeyId": kms.new_key().arn})
    with pytest.raises(Misconfigured, match="KMS answered"):
        open_signers(REAL, POLICY, 60)
    kms.answers.append({"PublicKey": base64.b64encode(kms.new_key(spec="ECC_NIST_P256").public).decode()})
    with pytest.raises(Misconfigured, match="not a public key of secp256k1"):
        open_signers(REAL, POLICY, 60)


@pytest.mark.parametrize("place", ["", "alias/executor", "arn:aws:kms:eu-west-1:1:key/x", "../x", "1234"])
def test_a_place_that_names_no_key_is_refused(kms: Kms, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("EXECUTOR_KEYSTORE", f"aws-kms:{place}")
    with pytest.raises(Misconfigured, match="write aws-kms:KEY-ID"):
        executor_address()
    assert kms.requests == []


def test_an_arn_names_its_region_and_a_stranger_to_https_is_refused(
    kms: Kms, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("EXECUTOR_KEYSTORE", f"aws-kms:{key.arn}")
    assert executor_address() == key.address
    monkeypatch.setenv("EXECUTOR_KEYSTORE", f"aws-kms:{kms.new_key().id}")
    with pytest.raises(Misconfigured, match="set AWS_REGION"):
        executor_address()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.example")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(Misconfigured, match="must begin with https"):
        executor_address()


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("ThrottlingException", Retryable, "ThrottlingException"),
        ("KMSInternalException", Retryable, "answered 500"),
        ("KeyUnavailableException", Retryable, "answered 500"),
        ("DependencyTimeoutException", Retryable, "answered 503"),
        (SILENT, Retryable, "disconnected"),
        ("ExpiredTokenException", Retryable, "the credentials expired"),
        (
            "AccessDeniedException",
            Misconfigured,
            "EXECUTOR_KEYSTORE: Sign of .* kms:GetPublicKey and kms:Sign",
        ),
        ("com.amazonaws.kms#DisabledException", Misconfigured, "enable the key"),
        ("InvalidSignatureException", Misconfigured, "this machine's clock"),
        ("SomethingNewException", Misconfigured, "SomethingNewException .*API Reference"),
    ],
)
def test_each_failure_says_whether_to_try_again_or_what_to_do(
    kms: Kms, key: Key, fault: str, kind: type[MaxxitError], said: str
) -> None:
    signer = signer_of()
    kms.faults.append(fault)
    with pytest.raises(kind, match=said):
        signer.sign(transaction())
    assert Account.recover_transaction(signer.sign(transaction()).raw) == key.address


def test_credentials_of_nobody_are_refused(kms: Kms, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(Misconfigured, match="InvalidSignatureException"):
        open_signers(REAL, POLICY, 60)


def test_a_key_of_kms_is_no_file_has_no_password_and_creates_contracts_too(
    kms: Kms, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"EXECUTOR_KEYSTORE": f"aws-kms:{key.id}"}
    assert key_files(environ) == {}
    assert resolve(environ) == []
    check_boot(REAL)
    assert kind_of() == "aws-kms"
    monkeypatch.setenv("DEPLOYER_KEYSTORE", f"aws-kms:{key.arn}")
    deployer = open_deployer(REAL, b"\x60\x00")
    made = deployer.sign(transaction(chain_id=REAL, to="", data=b"\x60\x00"))
    assert Account.recover_transaction(made.raw) == key.address
    monkeypatch.setenv("PRIVATE_KEY", "0x01")
    with pytest.raises(Misconfigured, match="PRIVATE_KEY holds a plaintext key"):
        check_boot(REAL)


# -- what people see of it


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let config/chains.yaml name an executor for the chain that is traded on."""

    def name(address: str) -> None:
        places = SimpleNamespace(executor=address)
        monkeypatch.setattr(chains, "contracts", lambda stanza: places)

    return name


def test_the_command_and_doctor_show_kind_and_address_of_each_key(
    kms: Kms, key: Key, named: Callable[[str], None], own_key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`own_key` sets a keystore, which is the previous key here."""
    monkeypatch.setenv("EXECUTOR_PREVIOUS_KEYSTORE", os.environ["EXECUTOR_KEYSTORE"])
    monkeypatch.setenv("EXECUTOR_KEYSTORE", f"aws-kms:{key.arn}")
    named(key.address)
    old = Account.from_key(own_key).address
    out = StringIO()
    call_command("safe", "executor", json=True, stdout=out)
    assert json.loads(out.getvalue()) == [
        {"variable": "EXECUTOR_KEYSTORE", "kind": "aws-kms", "address": key.address, "problem": ""},
        {"variable": "EXECUTOR_PREVIOUS_KEYSTORE", "kind": "keystore", "address": old, "problem": ""},
    ]
    assert [(one.name, one.ok) for one in executors()] == [
        ("executor:aws-kms", True),
        ("executor:keystore", True),
    ]
    assert next(executors()).detail == f"EXECUTOR_KEYSTORE: aws-kms, {key.address}"
    assert kms.signed == []


def test_a_key_that_the_configuration_does_not_name_or_kms_refuses_is_red(
    kms: Kms, key: Key, named: Callable[[str], None]
) -> None:
    named(SAFE)
    [check] = executors()
    assert not check.ok
    assert f"names {SAFE}, but this process signs with {key.address}" in check.detail
    with pytest.raises(SystemExit) as end:
        call_command("safe", "executor", stdout=StringIO())
    assert end.value.code == 1
    key.state = "Disabled"
    kms_module.open_key.cache_clear()
    [check] = executors()
    assert "enable the key" in check.detail


def test_a_process_without_a_key_has_no_such_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXECUTOR_KEYSTORE", raising=False)
    assert list(executors()) == []
    out = StringIO()
    call_command("safe", "executor", stdout=out)
    assert "this environment has no executor's key" in out.getvalue()
    assert check_executor_keys() == []


def test_check_deploy_refuses_what_may_not_sign_on_a_public_chain_and_asks_nobody(
    kms: Kms, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_executor_keys in check_registry.registry.deployment_checks
    assert check_executor_keys() == []
    monkeypatch.setenv("EXECUTOR_PREVIOUS_KEYSTORE", "aws-kms:alias/executor")
    [error] = check_executor_keys()
    assert "EXECUTOR_PREVIOUS_KEYSTORE: 'alias/executor' is no key id" in error.msg
    assert kms.requests == []
