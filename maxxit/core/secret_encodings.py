"""The encodings in which a known secret may appear in text (hex, base64, JSON escapes, URL quoting, …)."""

import base64
import html
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

_HEX = re.compile(r"(?:0x)?((?:[0-9a-f]{2}){16,})", re.IGNORECASE)


def forms(secret: str) -> Iterator[str]:
    """Yield every encoding of `secret`. The search ignores case, which covers upper-case hex."""
    yield from _of_text(secret)
    yield from _of_bytes(secret.encode())
    match = _HEX.fullmatch(secret)
    if not match:
        return
    digits = match[1].lower()
    raw = bytes.fromhex(digits)
    yield digits  # also matches inside 0x…
    yield str(int(digits, 16))
    yield ", ".join(str(byte) for byte in raw)
    yield ",".join(str(byte) for byte in raw)
    yield ":".join(f"{byte:02x}" for byte in raw)
    yield " ".join(f"{byte:02x}" for byte in raw)
    yield "".join(f"\\x{byte:02x}" for byte in raw)
    yield from _of_bytes(raw)
    yield from _of_bytes(digits.encode())


def _of_text(secret: str) -> Iterator[str]:
    yield secret
    yield secret[::-1]
    once = quote(secret, safe="")
    yield from (once, quote_plus(secret), quote(once, safe=""))
    yield "".join(f"%{byte:02x}" for byte in secret.encode())
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield from (escaped, json.dumps(escaped)[1:-1])
    yield repr(secret)[1:-1]
    yield html.escape(secret)
    yield "".join(f"\\u{ord(character):04x}" for character in secret)
    if len(words := secret.split()) >= 12:  # a mnemonic
        yield from (separator.join(words) for separator in ("\n", ",", ", ", "-", "_", "  ", ""))


def _of_bytes(raw: bytes) -> Iterator[str]:
    yield raw.hex()
    yield base64.b32encode(raw).decode().rstrip("=")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for shift in (1, 2):
            # Inside longer base64 text the secret may start at any of three offsets; the characters at either end
            # encode neighbouring bytes too and are left out.
            shifted = encode(b"\0" * shift + raw).decode().rstrip("=")
            yield shifted[shift + 1 : len(shifted) - 1]
        yield encode(raw).decode().rstrip("=")[:-1]
