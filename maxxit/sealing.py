"""Seal secrets that people give us, so that only the processes that use them can read them.

Hybrid public key encryption (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM). Each `KeyPair` is named by a prefix of
environment variables:

* `<PREFIX>_PUBLIC_KEY`, where secrets are accepted (the web process can only seal);
* `<PREFIX>_PRIVATE_KEY_FILE` (or `<PREFIX>_PRIVATE_KEY`), where they are used;
* `<PREFIX>_PREVIOUS_PRIVATE_KEY_FILE` (or `…_KEY`) there during a rotation.

With the embedded database, and none of them set, a private key is made once in the data folder.
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from django.conf import settings

from maxxit.core import redact, secret_files
from maxxit.core.errors import Misconfigured
from maxxit.embedded.processes import write_secret

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
NEW_KEY = "`manage.py credentials new-key PATH` makes one"


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted set of secrets."""

    content: bytes
    key_id: str
    """Of the public key that sealed it, see `key_id_of`."""


@dataclass(frozen=True)
class KeyPair:
    """One key pair: who has the public key seals, who has the private key opens."""

    prefix: str
    """Of its environment variables."""
    local_file: str
    """The private key's name in the data folder of an embedded installation."""
    holds: str
    """What it seals, for messages: `keys of customers`."""

    @property
    def public_name(self) -> str:
        return f"{self.prefix}_PUBLIC_KEY"

    @property
    def private_name(self) -> str:
        return f"{self.prefix}_PRIVATE_KEY"

    @property
    def previous_name(self) -> str:
        return f"{self.prefix}_PREVIOUS_PRIVATE_KEY"

    def seal(self, fields: Mapping[str, str], context: str) -> Sealed:
        """Encrypt `fields`; only the same `context` opens them. Raises Misconfigured without a key."""
        key = self.public_key()
        return Sealed(SUITE.encrypt(json.dumps(dict(fields)).encode(), key, context.encode()), key_id_of(key))

    def unseal(self, sealed: Sealed, context: str) -> dict[str, str]:
        """Decrypt what `seal` encrypted.

        Raises Misconfigured where this process has not the private key that belongs to it, or the content was changed.
        """
        for key in self.private_keys():
            if key_id_of(key.public_key()) != sealed.key_id:
                continue
            try:
                fields: dict[str, str] = json.loads(SUITE.decrypt(sealed.content, key, context.encode()))
            except InvalidTag as error:
                raise Misconfigured(
                    f"the stored {self.holds} of {context} were changed, or belong to another account: store them again"
                ) from error
            return fields
        raise Misconfigured(
            f"this process has not the private key {sealed.key_id}, which opens the {self.holds} of {context}: "
            f"set {self.private_name}_FILE"
        )

    def public_key(self) -> X25519PublicKey:
        """Return the key that seals. Raises Misconfigured where none is set."""
        if text := os.environ.get(self.public_name, "").strip():
            return X25519PublicKey.from_public_bytes(_raw(self.public_name, text, secret=False))
        for key in self.private_keys():
            return key.public_key()
        raise Misconfigured(f"no {self.holds} can be stored: set {self.public_name}; {NEW_KEY}")

    def private_keys(self) -> Iterator[X25519PrivateKey]:
        """Yield the keys that open: that in force, then that before the rotation. None where this process has none."""
        found = [
            text for name in (self.private_name, self.previous_name) if (text := secret_files.secret(name))
        ]
        if not found and self.public_name not in os.environ and not os.environ.get("DATABASE_URL"):
            found = [self._local()]
        for text in found:
            yield X25519PrivateKey.from_private_bytes(_raw(self.private_name, text, secret=True))

    def _local(self) -> str:
        path = Path(settings.DATA_DIR) / self.local_file
        if not path.exists():
            new_key(path)
        return path.read_text()


def key_id_of(key: X25519PublicKey) -> str:
    """Return the first 16 hex digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def encode(key: X25519PublicKey | X25519PrivateKey) -> str:
    """Return a key as the environment has it: base64 of its 32 raw bytes."""
    raw = key.public_bytes_raw() if isinstance(key, X25519PublicKey) else key.private_bytes_raw()
    return base64.b64encode(raw).decode()


def new_key(path: Path) -> X25519PublicKey:
    """Write a new private key to `path`, which must not exist, readable by its owner alone; return the public key."""
    if path.exists():
        raise Misconfigured(f"{path} exists: choose another name, a key is never overwritten")
    key = X25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_secret(path, encode(key))
    return key.public_key()


def _raw(name: str, text: str, *, secret: bool) -> bytes:
    if secret:
        redact.know(text)
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise Misconfigured(f"{name} is not base64 of 32 bytes; {NEW_KEY}")
    return raw
