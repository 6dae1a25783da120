"""AWS KMS: boto3 works against our fake, whose check of signatures it passes; moto answers our client.

A request of ours reaches moto by a server on loopback that passes it on by `requests`, which moto answers in place of
AWS.
"""

import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key
from eth_account import Account
from moto import mock_aws
from moto.kms.utils import ECDSAPrivateKey

from tests.conformance.conftest import Fakes

REGION = "eu-west-1"
ONCE = Config(retries={"total_max_attempts": 1})


def client_of(fakes: Fakes) -> Any:
    access_key, secret_key = fakes.kms_credentials()
    return boto3.client(
        "kms", region_name=REGION, endpoint_url=fakes.urls["kms"], aws_access_key_id=access_key,
        aws_secret_access_key=secret_key, config=ONCE,
    )  # fmt: skip


def test_their_client_reads_a_public_key_and_a_signature_of_the_fake(fakes: Fakes) -> None:
    arn = fakes.kms_new_key()
    kms = client_of(fakes)
    found = kms.get_public_key(KeyId=arn)
    assert (found["KeyId"], found["KeySpec"], found["KeyUsage"]) == (arn, "ECC_SECG_P256K1", "SIGN_VERIFY")
    assert found["SigningAlgorithms"] == ["ECDSA_SHA_256"]
    key = load_der_public_key(found["PublicKey"])
    assert isinstance(key, ec.EllipticCurvePublicKey)
    digest = bytes(range(32))
    made = kms.sign(KeyId=arn, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
    assert (made["KeyId"], made["SigningAlgorithm"]) == (arn, "ECDSA_SHA_256")
    key.verify(made["Signature"], digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize(
    "name",
    [
        "DisabledException", "KMSInvalidStateException", "NotFoundException", "KeyUnavailableException",
        "DependencyTimeoutException", "KMSInternalException", "InvalidKeyUsageException",
    ],
)  # fmt: skip
def test_errors_of_the_fake_are_their_exceptions(fakes: Fakes, name: str) -> None:
    arn = fakes.kms_new_key()
    fakes.kms_fails(name=name)
    kms = client_of(fakes)
    with pytest.raises(getattr(kms.exceptions, name)):
        kms.get_public_key(KeyId=arn)


@pytest.mark.parametrize("name", ["ThrottlingException", "AccessDeniedException", "ExpiredTokenException"])
def test_errors_that_no_model_names_keep_their_code(fakes: Fakes, name: str) -> None:
    arn = fakes.kms_new_key()
    fakes.kms_fails(name=name)
    with pytest.raises(ClientError) as error:
        client_of(fakes).sign(
            KeyId=arn, Message=bytes(32), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
        )
    assert error.value.response["Error"]["Code"] == name


def test_our_requests_are_theirs(fakes: Fakes) -> None:
    """The same operations with the same members; the fake has checked the signatures of both."""
    arn = fakes.kms_new_key()
    fakes.kms_sign(key=arn, url=fakes.urls["kms"])
    ours = fakes.kms_requests()
    kms = client_of(fakes)
    kms.get_public_key(KeyId=arn)
    digest = b64encode(bytes(32)).decode()
    kms.sign(KeyId=arn, Message=bytes(32), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
    theirs = fakes.kms_requests()
    ours[1][1]["Message"] = digest
    assert ours == theirs


class ToMoto(BaseHTTPRequestHandler):
    """Passes a request on to AWS, which moto stands in for."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Pass it on, and the answer back."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = requests.post(f"https://kms.{REGION}.amazonaws.com/", content, headers=headers, timeout=20)
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """boto3's client of moto, and the address at which our client finds moto."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": REGION
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ToMoto)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    with mock_aws():
        yield boto3.client("kms", region_name=REGION), f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("named", ["id", "ARN"])
def test_our_client_signs_with_a_key_of_moto(
    fakes: Fakes, moto: tuple[Any, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto does not know MessageType DIGEST and hashes what it is given: here its hash is replaced by none."""
    monkeypatch.setattr(
        ECDSAPrivateKey, "_ECDSAPrivateKey__hash_algorithm", lambda *_: Prehashed(hashes.SHA256())
    )
    kms, url = moto
    made = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    for _ in range(4):
        address, raw = fakes.kms_sign(key=made["KeyId" if named == "id" else "Arn"], url=url)
        assert Account.recover_transaction(raw) == address
    public = load_der_public_key(kms.get_public_key(KeyId=made["KeyId"])["PublicKey"])
    assert isinstance(public, ec.EllipticCurvePublicKey)
    numbers = public.public_numbers()
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    assert address == _address_of(point)


def _address_of(point: bytes) -> str:
    from eth_keys.datatypes import PublicKey

    return str(PublicKey(point).to_checksum_address())


@pytest.mark.parametrize(
    ("spec", "usage"),
    [("ECC_NIST_P256", "SIGN_VERIFY"), ("RSA_2048", "SIGN_VERIFY"), ("RSA_2048", "ENCRYPT_DECRYPT")],
)
def test_our_client_refuses_other_keys_of_moto(
    fakes: Fakes, moto: tuple[Any, str], spec: str, usage: str
) -> None:
    kms, url = moto
    made = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
    with pytest.raises(
        RuntimeError, match=f"Misconfigured: EXECUTOR_KEYSTORE: the KeySpec of .* is '{spec}'"
    ):
        fakes.kms_sign(key=made["KeyId"], url=url)


def test_a_service_that_hashes_the_digest_again_is_refused(fakes: Fakes, moto: tuple[Any, str]) -> None:
    kms, url = moto
    made = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    with pytest.raises(RuntimeError, match=r"signature is not that of 0x\w+: nothing is sent"):
        fakes.kms_sign(key=made["KeyId"], url=url)


def test_a_key_that_moto_does_not_have_is_named(fakes: Fakes, moto: tuple[Any, str]) -> None:
    _, url = moto
    with pytest.raises(RuntimeError, match=r"NotFoundException .*correct the key's id"):
        fakes.kms_sign(key="00000000-0000-0000-0000-000000000000", url=url)
