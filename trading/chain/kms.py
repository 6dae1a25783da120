"""A key in AWS KMS (ECC_SECG_P256K1): it never leaves AWS, this process asks for signatures of transaction hashes.

The variable names it: `aws-kms:KEY-ID` or `aws-kms:ARN`. Region and credentials: `maxxit.core.aws`; an ARN names its
region. `AWS_ENDPOINT_URL_KMS` is another address, such as a private endpoint.

Requests and answers: AWS KMS API Reference, GetPublicKey and Sign. MessageType is DIGEST: KMS signs the keccak hash
that it is given and hashes nothing itself, though the algorithm is called ECDSA_SHA_256. Its signatures need not be
deterministic: signing one transaction twice may give two hashes. The outbox relies on none: it sends what it stored.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from maxxit.core import aws
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from trading.chain.signatures import Signed, Unsigned, address_of, signed_by_service

SECONDS = 5.0
"""For one answer. The nonce's row is locked meanwhile, so other transactions of this executor wait."""
SPEC, USAGE, ALGORITHM = "ECC_SECG_P256K1", "SIGN_VERIFY", "ECDSA_SHA_256"
KEY_ID = r"(?:mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
PLACE = re.compile(rf"(?:arn:aws[a-z-]*:kms:([a-z0-9-]+):\d{{12}}:key/)?({KEY_ID})")
LATER = frozenset(
    {
        "ThrottlingException", "Throttling", "LimitExceededException", "RequestLimitExceeded",
        "TooManyRequestsException", "DependencyTimeoutException", "KMSInternalException",
        "KeyUnavailableException", "InternalFailure", "ServiceUnavailable", "ServiceUnavailableException",
    }
)  # fmt: skip
"""Errors that pass by themselves."""
DEAD_CREDENTIALS = frozenset({"ExpiredTokenException", "ExpiredToken"})
FIXES = {
    "AccessDeniedException": "allow this process's identity kms:GetPublicKey and kms:Sign on this key (docs/chain.md)",
    "DisabledException": "enable the key",
    "KMSInvalidStateException": "enable the key, or cancel its deletion",
    "NotFoundException": "correct the key's id, its region and the account of the credentials",
    "InvalidKeyUsageException": f"create a key of spec {SPEC} with usage {USAGE}",
    "UnrecognizedClientException": "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "InvalidSignatureException": "correct AWS_SECRET_ACCESS_KEY and this machine's clock",
    "IncompleteSignatureException": "correct AWS_SECRET_ACCESS_KEY",
}
"""AWS's error -> what an operator does."""


def region_of(variable: str, place: str) -> str:
    """Return the region that an ARN names; empty for a key id. Raises Misconfigured for anything else; asks nobody."""
    named = PLACE.fullmatch(place)
    if named is None:
        raise Misconfigured(
            f"{variable}: {place!r} is no key id or ARN of a key: write aws-kms:KEY-ID or "
            "aws-kms:arn:aws:kms:REGION:ACCOUNT:key/KEY-ID (an alias may come to mean another key)"
        )
    return named[1] or ""


class AwsKmsKey:
    """One key of AWS KMS. Its public key is read once; the address of a key of KMS never changes."""

    kind = "AWS KMS"

    def __init__(self, variable: str, place: str) -> None:
        """Read the public key. `variable` names the setting in errors; `place`: key id or ARN.

        Raises Misconfigured where the key is not one that signs Ethereum transactions or may not be used, Retryable.
        """
        self.variable, self.place = variable, place
        region = region_of(variable, place)
        self._kms = aws.JsonService(
            "kms",
            region=region or aws.region(),
            endpoint=os.environ.get("AWS_ENDPOINT_URL_KMS", ""),
            seconds=SECONDS,
        )
        self.address: str = self._read_address()

    def __repr__(self) -> str:
        return f"<AwsKmsKey {self.address}>"

    def sign(self, tx: Unsigned) -> Signed:
        """Ask KMS to sign.

        Raises Retryable for throttling, an outage or a missing answer: asking again is safe, because a signature that
        did not arrive was neither stored nor sent. Raises Misconfigured naming what to do.
        """
        return signed_by_service(tx, self.address, self._sign_digest)

    def _sign_digest(self, digest: bytes) -> bytes:
        request = {
            "KeyId": self.place,
            "Message": base64.b64encode(digest).decode(),
            "MessageType": "DIGEST",
            "SigningAlgorithm": ALGORITHM,
        }
        return self._bytes_of(self._ask("Sign", request), "Signature")

    def _read_address(self) -> str:
        answer = self._ask("GetPublicKey", {"KeyId": self.place})
        spec = answer.get("KeySpec") or answer.get("CustomerMasterKeySpec")  # the older name, which remains
        for field, found, wanted in (("KeySpec", spec, SPEC), ("KeyUsage", answer.get("KeyUsage"), USAGE)):
            if found != wanted:
                raise Misconfigured(
                    f"{self.variable}: the {field} of {self.place} is {found!r}: create a key of spec {SPEC} with "
                    f"usage {USAGE}"
                )
        if not str(answer.get("KeyId")).endswith(self.place.rpartition("/")[2]):
            raise Misconfigured(
                f"{self.variable}: asked for {self.place}, KMS answered {answer.get('KeyId')!r}"
            )
        try:
            return address_of(self._bytes_of(answer, "PublicKey"))
        except ValueError as error:
            raise Misconfigured(f"{self.variable}: the public key of {self.place}: {error}") from None

    def _bytes_of(self, answer: Mapping[str, Any], field: str) -> bytes:
        try:
            return base64.b64decode(str(answer.get(field) or ""), validate=True)
        except binascii.Error:
            raise Misconfigured(f"{self.variable}: {field} in KMS's answer is not base64") from None

    def _ask(self, operation: str, body: Mapping[str, str]) -> dict[str, Any]:
        try:
            return self._kms.call(f"TrentService.{operation}", body)
        except Rejected as rejection:
            raise self._error(operation, rejection) from None

    def _error(self, operation: str, rejection: Rejected) -> Retryable | Misconfigured:
        """Return the exception of this project for an error of KMS (a 4xx)."""
        name, message = _name_of(rejection.body)
        if name in LATER:
            return Retryable(f"AWS KMS, {operation}: {name}", limited=True)
        if name in DEAD_CREDENTIALS:
            self._kms.forget_credentials()
            if not os.environ.get("AWS_SESSION_TOKEN"):
                return Retryable(f"AWS KMS, {operation}: the credentials expired; new ones are asked for")
        fix = FIXES.get(name, "see the AWS KMS API Reference")
        said = f" ({message})" if message else ""
        return Misconfigured(
            f"{self.variable}: {operation} of {self.place}: {name or rejection}{said}: {fix}"
        )


def _name_of(body: str) -> tuple[str, str]:
    """Return the name and the message of an error of AWS's JSON protocol; the name may follow a namespace and a #."""
    try:
        error = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(error, dict):
        return "", ""
    name = str(error.get("__type") or error.get("code") or "").rpartition("#")[2].partition(":")[0]
    return name, str(error.get("message") or error.get("Message") or "")[:300]


@cache
def open_key(variable: str, place: str) -> AwsKmsKey:
    """Return the key, whose public key is asked for once in the life of a process. Raises as `AwsKmsKey`."""
    return AwsKmsKey(variable, place)
