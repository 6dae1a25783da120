"""Log in, sign up and link with a wallet: what the server checks of the signed message."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from eth_account import Account
from eth_account.messages import encode_defunct

from maxxit.access import wallets
from maxxit.access.models import BrowserSession, UserSettings, WalletLogin
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.models import Event

pytestmark = pytest.mark.django_db

KEY = Account.from_key("0x" + "11" * 32)
OTHER = Account.from_key("0x" + "22" * 32)
LOCAL = 31337
ADDRESS = "203.0.113.5"


@pytest.fixture
def now() -> Iterator[Any]:
    """A fixed time."""
    moment = timezone.now()
    with clock.frozen(moment):
        yield moment


@pytest.fixture
def alice() -> User:
    """A customer with a linked wallet and a password."""
    person = User.objects.create_user("alice", password="nor is this one 2")
    wallets.link(person, KEY.address)
    return person


class Tab:
    """A browser that asks for messages and answers them."""

    def __init__(self, host: str = "testserver") -> None:
        self.client, self.host = Client(REMOTE_ADDR=ADDRESS), host

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.client.post(
            f"/wallet/{path}", body, content_type="application/json", headers={"host": self.host}
        )

    def message(
        self, purpose: str = "sign-in", address: str = KEY.address, chain_id: int = LOCAL, **more: Any
    ) -> str:
        asked = self.post("message", {"purpose": purpose, "address": address, "chain_id": chain_id} | more)
        assert asked.status_code == 200, asked.content
        return str(asked.json()["message"])

    def answer(self, text: str, purpose: str = "sign-in", key: Any = KEY, **more: Any) -> Any:
        return self.post("answer", {"purpose": purpose, "message": text, "signature": sign(text, key)} | more)

    @property
    def user(self) -> str:
        return str(self.client.session.get("_auth_user_id", ""))


def sign(text: str, key: Any = KEY) -> str:
    return "0x" + bytes(key.sign_message(encode_defunct(text=text)).signature).hex()


def refused(answer: Any) -> str:
    """The code of a refusal."""
    assert answer.status_code >= 400, answer.content
    return str(answer.json()["code"])


def test_the_holder_of_a_linked_wallet_logs_in(alice: User) -> None:
    tab = Tab()
    session = tab.client.session
    session["before"] = 1
    session.save()
    old = session.session_key
    text = tab.message()
    assert text.startswith("testserver wants you to sign in with your Ethereum account:\n" + KEY.address)
    assert "\nURI: http://testserver\nVersion: 1\nChain ID: 31337\n" in text
    done = tab.answer(text, time_zone="Europe/Berlin")
    assert (done.status_code, done.json()) == (200, {"next": "/"})
    assert tab.user == str(alice.pk)
    assert tab.client.session.session_key != old  # rotated
    assert not BrowserSession.objects.filter(session_key=old).exists()
    assert WalletLogin.objects.get(user=alice).last_used is not None
    assert UserSettings.objects.get(user=alice).time_zone == "Europe/Berlin"


def test_a_message_works_once(alice: User) -> None:
    tab = Tab()
    text = tab.message()
    assert tab.answer(text).status_code == 200
    assert refused(Tab().answer(text)) == "nonce"


def test_a_wrong_signature_uses_the_nonce_up(alice: User) -> None:
    tab = Tab()
    text = tab.message()
    assert refused(tab.answer(text, key=OTHER)) == "signature"
    assert refused(tab.answer(text)) == "nonce"
    assert not tab.user


def test_two_answers_at_once_take_one_nonce(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have read what is kept under the nonce; the one that removes it second is refused."""
    text = Tab().message()
    nonce = text.partition("Nonce: ")[2][:20]
    kept = cache.get(f"siwe:{nonce}")
    assert wallets._take(nonce) is not None
    monkeypatch.setattr(wallets.cache, "get", lambda key: kept)
    assert wallets._take(nonce) is None


def test_a_message_works_for_five_minutes(alice: User, now: Any) -> None:
    tab = Tab()
    early, late = tab.message(), tab.message()
    with clock.frozen(now + timedelta(minutes=4, seconds=59)):
        assert tab.answer(early).status_code == 200
    with clock.frozen(now + timedelta(minutes=5)):
        assert refused(Tab().answer(late)) == "time"


def test_a_nonce_is_gone_from_the_server_after_five_minutes(alice: User) -> None:
    text = Tab().message()
    key = "siwe:" + text.partition("Nonce: ")[2][:20]
    redis: Any = cache
    assert 0 < redis._cache.get_client().ttl(cache.make_key(key)) <= 300


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("testserver wants", "evil.example wants", "message"),
        ("testserver wants", "https://testserver wants", "message"),
        ("http://testserver", "https://evil.example", "message"),
        ("http://testserver", "http://testserver/login", "message"),
        ("Version: 1", "Version: 2", "message"),
        ("Chain ID: 31337", "Chain ID: 1", "message"),
        ("Log in to Maxxit.", "Give away everything.", "message"),
        (KEY.address, OTHER.address, "message"),
        ("Nonce: ", "Nonce: aaaaaaaa", "nonce"),
        ("Expiration Time: 2", "Expiration Time: 3", "message"),
        ("Issued At: 2", "Issued At: 1", "message"),
        ("\nExpiration", "\nNot After", "message"),
    ],
)
def test_each_field_of_the_signed_message_is_checked(alice: User, old: str, new: str, code: str) -> None:
    """The changed message carries a good signature of the changed text."""
    tab = Tab()
    text = tab.message()
    assert old in text
    key = OTHER if new == OTHER.address else KEY
    assert refused(tab.answer(text.replace(old, new, 1), key=key)) == code
    assert not tab.user


def test_a_further_field_is_refused(alice: User) -> None:
    tab = Tab()
    assert refused(tab.answer(tab.message() + "\nRequest ID: 1")) == "message"


def test_a_message_of_another_host_is_refused(alice: User, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver", "other.example"]
    text = Tab("other.example").message()
    assert refused(Tab().answer(text)) == "message"


def test_a_message_of_another_browser_is_refused(alice: User) -> None:
    mine, theirs = Tab(), Tab()
    for tab in (mine, theirs):
        tab.client.get("/login")  # sets the CSRF cookie
    text = mine.message()
    assert refused(theirs.answer(text)) == "nonce"


def test_a_message_for_one_purpose_serves_no_other(alice: User, settings: Any) -> None:
    settings.SIGN_UP = "open"
    tab = Tab()
    text = tab.message("sign-up", address=OTHER.address, username="carol")
    assert "Create the Maxxit account carol." in text
    assert refused(tab.answer(text, key=OTHER)) == "message"
    text = tab.message("sign-up", address=OTHER.address, username="carol")
    assert refused(tab.answer(text, "sign-up", key=OTHER, username="mallory")) == "message"


def test_an_unlinked_wallet_is_told_so_only_after_it_has_signed(alice: User) -> None:
    tab = Tab()
    asked = tab.post("message", {"purpose": "sign-in", "address": OTHER.address, "chain_id": LOCAL})
    assert asked.status_code == 200
    assert refused(tab.answer(asked.json()["message"], key=OTHER)) == "no_account"


def test_an_account_that_is_switched_off_does_not_log_in(alice: User) -> None:
    User.objects.update(is_active=False)
    tab = Tab()
    assert refused(tab.answer(tab.message())) == "no_account"


def test_a_second_factor_is_asked_of_a_wallet_too(alice: User) -> None:
    device = TOTPDevice.objects.create(user=alice, confirmed=True)
    tab = Tab()
    answer = tab.answer(tab.message())
    assert (refused(answer), answer.json()["field"]) == ("otp_token", "otp_token")
    TOTPDevice.objects.update(throttling_failure_count=0)
    assert tab.answer(tab.message(), otp_token=f"{totp(device.bin_key):06d}").status_code == 200


def test_guessing_codes_with_a_wallet_blocks_the_account(alice: User, now: Any) -> None:
    TOTPDevice.objects.create(user=alice, confirmed=True)
    tab = Tab()
    codes = [refused(tab.answer(tab.message(), otp_token="000000")) for _ in range(6)]
    assert codes == ["otp_token"] * 5 + ["limited"]
    assert Event.objects.filter(name="login.blocked", data__who="account:alice").exists()


def test_wrong_signatures_block_the_address(alice: User, now: Any) -> None:
    tab = Tab()
    for _ in range(20):
        refused(tab.answer(tab.message(), key=OTHER))
    answer = tab.answer("x")
    assert (answer.status_code, refused(answer)) == (429, "limited")


def test_messages_are_limited_by_address(alice: User, now: Any) -> None:
    body = {"purpose": "sign-in", "address": KEY.address, "chain_id": LOCAL}
    codes = [Tab().post("message", body).status_code for _ in range(31)]
    assert codes == [200] * 30 + [429]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"address": "0x12"}, "address"),
        ({"address": ""}, "address"),
        ({"chain_id": 1}, "chain"),
        ({"chain_id": -1}, "invalid"),
        ({"purpose": "own"}, "invalid"),
        ({"surprise": 1}, "invalid"),
        ({"purpose": "link"}, "anonymous"),
    ],
)
def test_what_cannot_be_signed_is_refused_with_the_reason(body: dict[str, Any], code: str) -> None:
    asked = Tab().post("message", {"purpose": "sign-in", "address": KEY.address, "chain_id": LOCAL} | body)
    assert refused(asked) == code
    assert asked.json()["message"].endswith(".")


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff", b'"x"', b"[" * 5000])
def test_garbage_is_422(body: bytes) -> None:
    for path in ("/wallet/message", "/wallet/answer"):
        assert Client().post(path, body, content_type="application/json").status_code == 422


def test_production_does_not_accept_the_local_chain(settings: Any) -> None:
    assert LOCAL in wallets.accepted_chains()
    settings.PRODUCTION = True
    assert LOCAL not in wallets.accepted_chains()
    assert wallets.accepted_chains()


def test_a_newcomer_signs_up_with_a_wallet_alone(settings: Any) -> None:
    settings.SIGN_UP = "open"
    tab = Tab()
    text = tab.message("sign-up", username="carol")
    assert tab.answer(text, "sign-up", username="carol").json() == {"next": "/"}
    person = User.objects.get(username="carol")
    assert not person.has_usable_password()
    assert [one.address for one in person.wallets.all()] == [KEY.address]
    assert tab.user == str(person.pk)
    again = Tab()
    text = again.message("sign-up", username="carol2")
    assert refused(again.answer(text, "sign-up", username="carol2")) == "wallet"


def test_sign_up_with_a_wallet_needs_the_invitation_too(settings: Any) -> None:
    settings.SIGN_UP = "invitation"
    body = {"purpose": "sign-up", "address": KEY.address, "chain_id": LOCAL, "username": "carol"}
    assert refused(Tab().post("message", body)) == "invitation"
    assert not User.objects.exists()


def test_a_taken_name_is_refused_before_anything_is_signed(alice: User, settings: Any) -> None:
    settings.SIGN_UP = "open"
    body = {"purpose": "sign-up", "address": OTHER.address, "chain_id": LOCAL, "username": "Alice"}
    answer = Tab().post("message", body)
    assert (refused(answer), answer.json()["field"]) == ("username", "username")


def test_a_wallet_is_linked_to_the_account_that_is_logged_in_and_to_no_second_one(alice: User) -> None:
    bob = User.objects.create_user("bob", password="nor is this one 2")
    tab = Tab()
    tab.client.force_login(bob)
    text = tab.message("link", address=OTHER.address)
    assert "Link this wallet to the Maxxit account bob." in text
    assert tab.answer(text, "link", key=OTHER).status_code == 200
    assert bob.wallets.get().address == OTHER.address
    assert refused(tab.answer(tab.message("link"), "link")) == "wallet"  # alice has it
    assert WalletLogin.objects.get(address=KEY.address).user == alice


def test_the_last_way_to_log_in_stays(alice: User) -> None:
    alice.set_unusable_password()
    alice.save()
    row = alice.wallets.get()
    with pytest.raises(Rejected, match="only way"):
        wallets.unlink(alice, row.pk)
    wallets.link(alice, OTHER.address)
    assert wallets.unlink(alice, row.pk) == KEY.address
    with pytest.raises(Rejected, match="not linked"):
        wallets.unlink(User.objects.create_user("bob"), alice.wallets.get().pk)


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_the_next_page_is_of_this_site(alice: User, path: str) -> None:
    tab = Tab()
    assert tab.answer(tab.message(), next=path).json() == {"next": "/"}


def test_the_next_page_is_the_one_that_was_asked_for(alice: User) -> None:
    tab = Tab()
    assert tab.answer(tab.message(), next="/market?symbol=ETH").json() == {"next": "/market?symbol=ETH"}


def test_without_the_cache_a_password_still_works(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise ConnectionError("down")

    monkeypatch.setattr(wallets.cache, "set", down)
    answer = Tab().post("message", {"purpose": "sign-in", "address": KEY.address, "chain_id": LOCAL})
    assert (answer.status_code, refused(answer)) == (503, "unavailable")
    sent = {"username": "alice", "password": "nor is this one 2"}
    assert Client().post("/login", sent).status_code == 302
