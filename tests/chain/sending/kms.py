"""A fake of AWS KMS on loopback: GetPublicKey and Sign of keys of secp256k1, over AWS's JSON protocol.

It checks the signature (version 4) of each request. OpenSSL signs, with a random number each time, so the same digest
never has the same signature twice. `tests/conformance/aws_kms.py` has boto3 work against it, and our client with moto.
"""

import base64
import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from maxxit.core.aws import Credentials, sign
from trading.chain.signatures import address_of

REGION, ACCOUNT = "eu-west-1", "111122223333"
WHO = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)"
)
STATUS = {"KMSInternalException": 500, "KeyUnavailableException": 500, "DependencyTimeoutException": 503}
"""Of the others it is 400."""
SILENT = "silent"
"""A fault: no answer."""


@dataclass
class Key:
    """One key."""

    private: ec.EllipticCurvePrivateKey
    spec: str = "ECC_SECG_P256K1"
    usage: str = "SIGN_VERIFY"
    state: str = "Enabled"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def arn(self) -> str:
        return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{self.id}"

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def address(self) -> str:
        return address_of(self.public)


class Refused(Exception):
    """An error of KMS. The arguments: its name and its message."""


@dataclass
class Kms:
    """A running fake."""

    url: str = ""
    keys: dict[str, Key] = field(default_factory=dict)
    faults: deque[str] = field(default_factory=deque)
    """Of the next requests, in order: names of errors, or SILENT."""
    answers: deque[dict[str, Any]] = field(default_factory=deque)
    """Members that replace those of the next answers."""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Operation and body of every request."""
    signed: list[bytes] = field(default_factory=list)
    """The digests that were signed."""

    def new_key(self, **fields: Any) -> Key:
        """Create a key, at the curve that its spec names."""
        curve = ec.SECP256R1() if fields.get("spec") == "ECC_NIST_P256" else ec.SECP256K1()
        key = Key(ec.generate_private_key(curve), **fields)
        self.keys[key.id] = key
        return key

    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process ask it."""
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", self.url)
        monkeypatch.setenv("AWS_REGION", REGION)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", WHO.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WHO.secret_key)

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request. Raises Refused."""
        key = self.keys.get(str(body.get("KeyId")).rpartition("/")[2])
        if key is None:
            raise Refused("NotFoundException", f"Key '{body.get('KeyId')}' does not exist")
        if key.state != "Enabled":
            name = "DisabledException" if key.state == "Disabled" else "KMSInvalidStateException"
            raise Refused(name, f"{key.arn} is {key.state}.")
        if operation == "GetPublicKey":
            return {
                "KeyId": key.arn, "PublicKey": _base64(key.public), "CustomerMasterKeySpec": key.spec,
                "KeySpec": key.spec, "KeyUsage": key.usage, "SigningAlgorithms": ["ECDSA_SHA_256"],
            }  # fmt: skip
        if operation != "Sign":
            raise Refused("UnknownOperationException", "")
        if key.usage != "SIGN_VERIFY":
            raise Refused("InvalidKeyUsageException", f"{key.arn} key usage is {key.usage}")
        digest = base64.b64decode(body["Message"], validate=True)
        if body.get("MessageType") != "DIGEST" or body.get("SigningAlgorithm") != "ECDSA_SHA_256":
            raise Refused("ValidationException", "this fake signs digests with ECDSA_SHA_256 alone")
        if len(digest) != 32:
            raise Refused("ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256.")
        self.signed.append(digest)
        signature = key.private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return {"KeyId": key.arn, "Signature": _base64(signature), "SigningAlgorithm": "ECDSA_SHA_256"}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def der(r: int, s: int) -> bytes:
    """Encode a signature, written out here because `cryptography` refuses numbers that no signature has."""
    parts = b"".join(
        b"\x02" + bytes([len(one)]) + one
        for one in ((n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in (r, s))
    )
    return b"\x30" + bytes([len(parts)]) + parts


class Handler(BaseHTTPRequestHandler):
    """One request."""

    fake: Kms
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer, or refuse."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        body = json.loads(content)
        self.fake.requests.append((operation, body))
        fault = self.fake.faults.popleft() if self.fake.faults else ""
        if fault == SILENT:
            self.close_connection = True
            return
        try:
            self._check_signature(content)
            if fault:
                raise Refused(fault, "as the test wants it")
            answer = self.fake.answer(operation, body)
            if self.fake.answers:
                answer |= self.fake.answers.popleft()
            self._reply(200, answer)
        except Refused as refused:
            name, message = refused.args
            self._reply(STATUS.get(name, 400), {"__type": name, "message": message})

    def _check_signature(self, content: bytes) -> None:
        """Raise Refused unless the request is signed, as AWS computes it, by the key that the fake knows."""
        found = AUTHORIZATION.fullmatch(self.headers["Authorization"] or "")
        if found is None:
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        access_key, region, service, names, signature = found.groups()
        if access_key != WHO.access_key:
            raise Refused(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        at = datetime.strptime(self.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        headers = {
            name: self.headers[name] for name in names.split(";") if name not in ("host", "x-amz-date")
        }
        url = f"http://{self.headers['Host']}{self.path}"
        ours = sign("POST", url, headers, content, WHO, region, service, at)
        if not ours["Authorization"].endswith(f"Signature={signature}"):
            raise Refused("InvalidSignatureException", "The request signature we calculated does not match")

    def _reply(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def fake_kms() -> Iterator[Kms]:
    """A running fake, on a port of the kernel's choice."""
    fake = Kms()
    handler = type("Bound", (Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
