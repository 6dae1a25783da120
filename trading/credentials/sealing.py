"""The key pair that seals the keys that customers give us for their accounts at venues (`maxxit.sealing`).

Web processes have the public key and can only seal. The environment of the workers that trade names the private key:
`CREDENTIALS_PUBLIC_KEY`, `CREDENTIALS_PRIVATE_KEY_FILE`; `manage.py credentials rotate` changes them.
"""

from maxxit.core import redact
from maxxit.sealing import KeyPair, Sealed, encode, key_id_of, new_key

KEYS = KeyPair("CREDENTIALS", "credentials.key", "keys of customers")
PUBLIC, PRIVATE, PREVIOUS = KEYS.public_name, KEYS.private_name, KEYS.previous_name
seal, public_key, private_keys = KEYS.seal, KEYS.public_key, KEYS.private_keys

__all__ = ["Sealed", "encode", "key_id_of", "new_key", "private_keys", "public_key", "seal", "unseal"]


def unseal(sealed: Sealed, context: str) -> dict[str, str]:
    """Decrypt what `seal` encrypted; its values are masked in logs from now on. Raises as `KeyPair.unseal`."""
    fields = KEYS.unseal(sealed, context)
    for value in fields.values():
        redact.know(value)
    return fields
