"""Web push: pywebpush is taken by our fake of a push service; http_ece opens and py_vapid accepts what we send."""

import base64
import json
from urllib.parse import urlsplit

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02
from pywebpush import WebPushException, webpush

from tests.conformance.conftest import Fakes


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_their_message_is_taken_and_decrypted(fakes: Fakes) -> None:
    fakes.channels_say()
    key = Vapid02()
    key.generate_keys()
    answer = webpush(
        json.loads(fakes.channels_address(channel="push")),
        json.dumps({"text": "hello"}),
        vapid_private_key=key,
        vapid_claims={"sub": "mailto:ops@maxxit.example"},
        ttl=60,
    )
    assert answer.status_code == 201
    assert fakes.channels_got() == [["push", {"text": "hello"}]]


def test_a_subscription_that_ended_is_their_exception(fakes: Fakes) -> None:
    fakes.channels_say(what="gone", channel="push")
    key = Vapid02()
    key.generate_keys()
    with pytest.raises(WebPushException) as error:
        webpush(
            json.loads(fakes.channels_address(channel="push")),
            "x",
            vapid_private_key=key,
            vapid_claims={"sub": "mailto:ops@maxxit.example"},
        )
    assert error.value.response.status_code == 410


@pytest.mark.parametrize("size", [0, 1, 100, 3900])
def test_what_we_encrypt_their_library_opens(fakes: Fakes, size: int) -> None:
    key = ec.derive_private_key(int(fakes.push_browser_key(), 16), ec.SECP256R1())
    sealed = _bytes(fakes.push_ours(text="é" * (size // 2)))
    auth = _bytes(json.loads(fakes.channels_address(channel="push"))["keys"]["auth"])
    opened = http_ece.decrypt(sealed, private_key=key, auth_secret=auth, version="aes128gcm")
    assert opened.decode() == "é" * (size // 2)


def test_our_token_is_accepted(fakes: Fakes) -> None:
    header = fakes.push_authorization()
    origin = urlsplit(fakes.urls["channels"])
    assert Vapid02.verify(auth=header)
    claims = json.loads(_bytes(header.split("t=")[1].split(".")[1]))
    assert claims["aud"] == f"{origin.scheme}://{origin.netloc}"
