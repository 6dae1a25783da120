"""Signatures: both kinds of keys, what a token names, and that no key is shown."""

import json
from base64 import b64encode, urlsafe_b64decode
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from maxxit.core import redact
from maxxit.core.errors import Rejected
from tests.builders import T0, RecordedClock
from tests.trading.venues.coinbase.tokens import is_valid, issue
from trading.venues.coinbase.token import Keys

NAME = "organizations/0c1/apiKeys/9f2"
PATH = "/api/v3/brokerage/orders"


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))))


@pytest.mark.parametrize("kind", ["ES256", "EdDSA", "EdDSA short"])
def test_a_token_is_signed_for_one_request(time: RecordedClock, kind: str) -> None:
    issued = issue(kind)
    keys = Keys.parse(NAME, issued.secret)
    token = keys.token("POST", PATH)

    assert is_valid(token, issued, f"POST api.coinbase.com{PATH}", T0)
    assert not is_valid(token, issued, f"GET api.coinbase.com{PATH}", T0)
    assert not is_valid(token, issue(kind), f"POST api.coinbase.com{PATH}", T0)
    assert not is_valid(token, issued, f"POST api.coinbase.com{PATH}", T0 + timedelta(seconds=120))
    assert token != keys.token("POST", PATH), "each has a nonce of its own"
    assert "uri" not in claims(keys.token())
    assert is_valid(keys.token(), issued, "", T0)


@pytest.mark.parametrize(("seconds", "lifetime"), [(30, 30), (600, 120)])
def test_a_token_ends_with_its_order_and_after_two_minutes_at_most(
    time: RecordedClock, seconds: int, lifetime: int
) -> None:
    token = Keys.parse(NAME, issue().secret).token("POST", PATH, T0 + timedelta(seconds=seconds))
    assert claims(token)["exp"] - claims(token)["nbf"] == lifetime


@pytest.mark.parametrize(
    "change", [str, lambda pem: pem.replace("\n", "\\n"), lambda pem: pem.replace("\n", " ")]
)
def test_line_breaks_of_a_pem_text_may_be_lost(time: RecordedClock, change: Any) -> None:
    issued = issue()
    token = Keys.parse(NAME, change(issued.secret)).token("GET", PATH)
    assert is_valid(token, issued, f"GET api.coinbase.com{PATH}", T0)


def other_curve() -> str:
    key = generate_private_key(SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "not a key",
        b64encode(b"x" * 31).decode(),
        "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----",
        other_curve(),
    ],
)
def test_anything_else_is_no_key_and_is_not_repeated(secret: str) -> None:
    with pytest.raises(Rejected, match="neither a PEM text") as refusal:
        Keys.parse(NAME, secret)
    assert refusal.value.code == "credentials_refused"
    assert not secret or secret not in str(refusal.value)


def test_a_key_is_never_shown() -> None:
    issued = issue()
    keys = Keys.parse(NAME, issued.secret)
    body = "".join(issued.secret.splitlines()[1:-1])
    assert f"{keys!r} {keys}" == "Keys(…/9f2) Keys(…/9f2)"
    assert redact.text(f"key {body}") == "key [redacted]"
