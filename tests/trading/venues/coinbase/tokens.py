"""Keys as Coinbase gives them, and the check of a request's JWT as Coinbase makes it."""

import json
from base64 import b64encode, urlsafe_b64decode
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HOST = "api.coinbase.com"
LEEWAY = 5
"""Seconds that a clock may be ahead."""


@dataclass(frozen=True)
class Issued:
    """An API key: what its owner gets, and what the fake keeps to check signatures."""

    secret: str
    private: EllipticCurvePrivateKey | Ed25519PrivateKey


def issue(kind: str = "ES256") -> Issued:
    """Make a key: a PEM text (ES256), base64 of seed and public key (EdDSA), or of the seed alone (EdDSA short)."""
    if kind == "ES256":
        ecdsa = generate_private_key(SECP256R1())
        pem = ecdsa.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        return Issued(pem.decode(), ecdsa)
    key = Ed25519PrivateKey.generate()
    raw = key.private_bytes_raw() + (b"" if kind == "EdDSA short" else key.public_key().public_bytes_raw())
    return Issued(b64encode(raw).decode(), key)


def key_name(token: str) -> str:
    """Return whose key a token names; empty where it is none."""
    try:
        return str(_json(token.split(".")[0])["kid"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


def is_valid(token: str, issued: Issued, uri: str, now: datetime) -> bool:
    """Return whether a token was signed with the key for this request (`uri` empty: a stream) and has not ended."""
    try:
        head, claims, signature = token.split(".")
        header, payload = _json(head), _json(claims)
    except ValueError:
        return False
    at = now.timestamp()
    return (
        _is_signed(f"{head}.{claims}".encode(), _bytes(signature), header, issued)
        and len(header.get("nonce", "")) >= 16
        and payload.get("sub") == header.get("kid")
        and payload.get("iss") == "cdp"
        and payload.get("uri", "") == uri
        and payload["nbf"] <= at + LEEWAY
        and at < payload["exp"] <= payload["nbf"] + 120
    )


def _is_signed(content: bytes, signature: bytes, header: dict[str, Any], issued: Issued) -> bool:
    key = issued.private
    try:
        if isinstance(key, Ed25519PrivateKey):
            key.public_key().verify(signature, content)
            return header.get("alg") == "EdDSA"
        if len(signature) != 64:
            return False
        halves = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        key.public_key().verify(encode_dss_signature(*halves), content, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return header.get("alg") == "ES256"


def _json(part: str) -> Any:
    return json.loads(_bytes(part))


def _bytes(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
