"""Signatures of webhooks, those that we send and those that we take: `t=<unix seconds>,v1=<hex>`.

v1 is HMAC-SHA256 of `<t>.<body>` with the shared secret. A receiver recomputes it over the body as it came, refuses a
`t` that is far from its own clock, and ignores an id that it has seen.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable

HEADER = "X-Maxxit-Signature"
WINDOW = 300
"""Seconds that `t` may differ from the receiver's clock, in both directions."""
_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def signature(secret: str, at: int, body: bytes) -> str:
    """Return the value of the header; `at` is the time of sending in Unix seconds."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def problem(header: str, secrets: Iterable[str], now: float, body: bytes) -> str:
    """Return why a signature does not hold, or an empty string. Compares in constant time.

    Args:
        secrets: the shared secret, during a rotation the previous one too.
        now: the receiver's clock, Unix seconds.
    """
    form = _FORM.fullmatch(header.strip())
    if form is None:
        return f"{HEADER} has not the form t=<unix seconds>,v1=<64 hexadecimal digits>"
    at = int(form[1])
    if not any([hmac.compare_digest(signature(secret, at, body), form[0]) for secret in secrets]):
        return "the signature is not that of this body with the secret of this source"
    if abs(now - at) > WINDOW:
        return (
            f"the signature is {now - at:.0f} s old by our clock; {WINDOW} s are allowed in both directions"
        )
    return ""
