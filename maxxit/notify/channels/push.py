"""Web push channel: a notification of the browser that the user subscribed on the page Notifications.

Encrypted to the browser (RFC 8291, aes128gcm) and signed with the installation's key (VAPID, RFC 8292). The address is
the subscription as the browser gives it: endpoint and keys. Push services answer 201; 404 and 410 end a subscription.

* `PUSH_PUBLIC_KEY` where browsers subscribe, `PUSH_PRIVATE_KEY_FILE` (or `PUSH_PRIVATE_KEY`) in the notify worker:
  P-256, base64url of the raw bytes. With the embedded database, and none of them set, a key is made once in the data
  folder.
"""

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from maxxit.core import clock, egress, redact, untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.embedded.processes import write_secret
from maxxit.notify.channels import outbound
from maxxit.notify.channels.base import GONE, AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS

RULES = egress.Rules(
    max_seconds=SEND_SECONDS,
    hosts=(
        "fcm.googleapis.com",
        "updates.push.services.mozilla.com",
        "web.push.apple.com",
        ".push.apple.com",
        ".notify.windows.com",
    ),
)
"""The push services of the browsers."""
PUBLIC, PRIVATE = "PUSH_PUBLIC_KEY", "PUSH_PRIVATE_KEY"
LOCAL_FILE = "push.key"
"""Its name in the data folder."""
RECORD = 4096
"""Bytes of the whole body at most, all in one record."""
MAX_TEXT = 900
"""Characters; 4 bytes each at most, so that a message fits into a record."""
KEPT_SECONDS = 24 * 3600
"""How long a push service keeps a message for a browser that is off."""
TOKEN_SECONDS = 12 * 3600
URGENCY = {"info": "low", "warning": "normal", "critical": "high"}


def decode(text: str) -> bytes:
    """Return the bytes of base64url with or without padding. Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def encode(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def encrypt(content: bytes, browser: bytes, auth: bytes) -> bytes:
    """Return `content` encrypted to a browser's public key and authentication secret (RFC 8291), as one record."""
    ours = ec.generate_private_key(ec.SECP256R1())
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), browser)
    point, salt = _point(ours.public_key()), os.urandom(16)
    secret = _hkdf(auth, ours.exchange(ec.ECDH(), theirs), b"WebPush: info\0" + browser + point, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    head = salt + RECORD.to_bytes(4, "big") + bytes([len(point)]) + point
    return head + AESGCM(key).encrypt(nonce, content + b"\x02", None)


def authorization(url: str, key: ec.EllipticCurvePrivateKey, subject: str) -> str:
    """Return the Authorization header of VAPID for the push service of `url`; `subject` is our https or mailto URL."""
    target = egress.parse(url, RULES)
    claims = {
        "aud": f"{target.scheme}://{target.authority}",
        "exp": int(clock.now().timestamp()) + TOKEN_SECONDS,
        "sub": subject,
    }
    parts = [
        json.dumps(part, separators=(",", ":")).encode() for part in ({"typ": "JWT", "alg": "ES256"}, claims)
    ]
    signed = ".".join(map(encode, parts))
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    token = f"{signed}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
    return f"vapid t={token},k={encode(_point(key.public_key()))}"


def public_key() -> str:
    """Return the key that browsers subscribe with. Raises Misconfigured where none is set."""
    return variable(PUBLIC) or encode(_point(_private_key().public_key()))


def new_key() -> tuple[str, str]:
    """Return a new private key and its public key as the environment has them."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = encode(key.private_numbers().private_value.to_bytes(32, "big"))
    return private, encode(_point(key.public_key()))


def _private_key() -> ec.EllipticCurvePrivateKey:
    text = variable(PRIVATE)
    try:
        if file := variable(f"{PRIVATE}_FILE"):
            text = Path(file).read_text().strip()
        elif not text and not variable(PUBLIC) and not os.environ.get("DATABASE_URL"):
            local = Path(settings.DATA_DIR) / LOCAL_FILE
            if not local.exists():
                write_secret(local, new_key()[0])
            text = local.read_text().strip()
        redact.know(text)
        return ec.derive_private_key(int.from_bytes(decode(text), "big"), ec.SECP256R1())
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise Misconfigured(
            f"{PRIVATE}_FILE: set it to a file with the base64url of a P-256 private key; "
            "`manage.py credentials new-push-key` prints one"
        ) from None


class Push(Channel):
    title = "Browser"
    about = "A notification of this browser, also while no page of ours is open."
    form = AddressField("Subscription", "Replaces the browser that you subscribed before.", kind="push")

    def verify(self, address: str) -> str:
        """Return the subscription with its endpoint and keys alone. Raises Rejected for what is none."""
        url, browser, auth = _parts(address)
        outbound.verified(url, RULES)
        return json.dumps({"endpoint": url, "keys": {"p256dh": encode(browser), "auth": encode(auth)}})

    def shown(self, address: str) -> str:
        return f"a browser ({egress.parse(_parts(address)[0], RULES).host})"

    def send(self, message: Message) -> None:
        url, browser, auth = _parts(message.address)
        try:
            key = _private_key()
        except Misconfigured as error:  # an operator repairs it
            raise Retryable(str(error)) from None
        content = json.dumps(
            {
                "id": message.ident,
                "title": message.title,
                "text": message.text[:MAX_TEXT],
                "severity": message.severity,
                "at": message.at,
            },
            ensure_ascii=False,
        ).encode()
        headers = {
            "authorization": authorization(url, key, settings.PUBLIC_URL),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(KEPT_SECONDS),
            "urgency": URGENCY[message.severity],
            # A second try of a message replaces the first where the browser has not got it yet.
            "topic": encode(hashlib.sha256(message.ident.encode()).digest())[:32],
        }
        try:
            outbound.post(url, RULES, content=encrypt(content, browser, auth), headers=headers)
        except Rejected as error:
            if error.code in {"http_404", "http_410"}:
                raise Rejected(str(error), code=GONE) from None
            if error.code in {"http_401", "http_403"}:  # of our key: an operator repairs it
                raise Retryable(str(error)) from None
            raise


def _parts(address: str) -> tuple[str, bytes, bytes]:
    """Return endpoint, public key and authentication secret of a subscription. Raises Rejected for what is none."""
    try:
        value: Any = untrusted.loads(address)
        url, keys = value["endpoint"], value["keys"]
        browser, auth = decode(keys["p256dh"]), decode(keys["auth"])
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), browser)
        if not isinstance(url, str) or len(browser) != 65 or len(auth) != 16:
            raise ValueError("wrong sizes")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Rejected("this is no push subscription of a browser", code="bad_address") from None
    return url, browser, auth
