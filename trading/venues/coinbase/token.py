"""Sign requests to Coinbase: one JWT each, by an ECDSA (ES256) or an Ed25519 (EdDSA) key of the CDP portal.

The token names the method, the host and the path without its query, and ends after two minutes at most.
"""

import json
import re
import secrets
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key

from maxxit.core import clock, redact
from maxxit.core.errors import Rejected
from trading.reasons import Reason

HOST = "api.coinbase.com"
LIFETIME_SECONDS = 120
"""The most that Coinbase accepts between `nbf` and `exp`."""
PEM = re.compile(r"-----BEGIN [A-Z ]+-----(.+?)-----END [A-Z ]+-----", re.DOTALL)
COORDINATE_BYTES = 32
"""Of each half of an ES256 signature (RFC 7518, 3.4)."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The API key that signs the requests of one account."""

    name: str
    private_key: EllipticCurvePrivateKey | Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"Keys(…{self.name[-4:]})"

    @classmethod
    def parse(cls, name: str, secret: str) -> "Keys":
        """Parse the key as Coinbase gives it: a PEM text (line breaks may be written as `\\n`), or base64 of 32 or 64
        bytes. Raises Rejected (`credentials_refused`) for anything else.
        """
        return cls(name, _private_key(secret))

    def token(self, method: str = "", path: str = "", expires_at: datetime | None = None) -> str:
        """Return a new JWT for one request; without a method and a path one for a stream.

        `expires_at`: when it ends, if that is sooner than its lifetime.
        """
        now = int(clock.now().timestamp())
        end = now + LIFETIME_SECONDS
        claims: dict[str, str | int] = {
            "sub": self.name,
            "iss": "cdp",
            "nbf": now,
            "exp": min(end, int(expires_at.timestamp())) if expires_at else end,
        }
        if method:
            claims["uri"] = f"{method} {HOST}{path}"
        ecdsa = isinstance(self.private_key, EllipticCurvePrivateKey)
        header = {
            "alg": "ES256" if ecdsa else "EdDSA",
            "typ": "JWT",
            "kid": self.name,
            "nonce": secrets.token_hex(),
        }
        signed = f"{_part(header)}.{_part(claims)}"
        return f"{signed}.{_base64(self._sign(signed.encode()))}"

    def _sign(self, content: bytes) -> bytes:
        if isinstance(self.private_key, Ed25519PrivateKey):
            return self.private_key.sign(content)
        halves = decode_dss_signature(self.private_key.sign(content, ECDSA(SHA256())))
        return b"".join(half.to_bytes(COORDINATE_BYTES) for half in halves)


def _private_key(secret: str) -> EllipticCurvePrivateKey | Ed25519PrivateKey:
    """Return the key of a PEM text or of raw base64."""
    pem = PEM.search(secret.replace("\\n", "\n"))
    text = "".join((pem[1] if pem else secret).split())
    redact.know(text)
    try:
        raw = b64decode(text, validate=True)
        if not pem and len(raw) in (32, 64):
            return Ed25519PrivateKey.from_private_bytes(raw[:32])
        key = load_der_private_key(raw, password=None) if pem else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise Rejected(
        "private_key is neither a PEM text of an ECDSA P-256 key nor base64 of an Ed25519 key: copy `privateKey` of the"
        " file that Coinbase gave",
        code=Reason.CREDENTIALS_REFUSED,
    )


def _part(content: object) -> str:
    return _base64(json.dumps(content, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
