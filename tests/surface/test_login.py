"""Guessing passwords, codes and keys: limited, reported to staff, and the same for known and unknown accounts."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from maxxit.access import attempts
from maxxit.access.models import LoginAttempts
from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.notify import alerts
from maxxit.notify.models import Alert
from maxxit.web.login import Login
from tests.surface.conftest import World
from tests.surface.test_access import views_of

RIGHT, WRONG = "nor is this one 2", "guess"


@pytest.fixture
def now() -> Iterator[Any]:
    """A fixed time."""
    moment = timezone.now()
    with clock.frozen(moment):
        yield moment


def login(name: str, password: str, *, address: str = "203.0.113.5", code: str = "") -> Any:
    """One attempt in a browser of its own."""
    sent = {"username": name, "password": password, "otp_token": code}
    return Client(REMOTE_ADDR=address).post("/login", sent)


def said(answer: Any) -> list[str]:
    """The errors on the page."""
    return list(answer.context["form"].non_field_errors())


def guess(name: str, times: int, address: str = "203.0.113.5") -> None:
    """Wrong passwords."""
    for _ in range(times):
        login(name, WRONG, address=address)


def test_five_wrong_passwords_block_the_account_from_every_address(world: World, now: Any) -> None:
    guess("alice", 5)
    answer = login("alice", RIGHT, address="198.51.100.7")
    assert answer.status_code == 200
    assert said(answer) == ["Too many failed attempts. Try again in 1 min."]


def test_a_block_ends_by_itself_and_grows_with_each_further_failure(world: World, now: Any) -> None:
    guess("alice", 5)
    with clock.frozen(now + timedelta(seconds=61)):
        guess("alice", 1)
        row = LoginAttempts.objects.get(subject="account:alice")
        assert row.blocked_until == clock.now() + timedelta(seconds=120)
        guess("alice", 50)  # attempts during the block do not lengthen it
        row.refresh_from_db()
        assert (row.failures, row.blocked_until) == (6, clock.now() + timedelta(seconds=120))
    with clock.frozen(now + timedelta(seconds=61 + 121)):
        assert login("alice", RIGHT).status_code == 302
    assert not LoginAttempts.objects.get(subject="account:alice").failures


def test_the_longest_block_is_an_hour() -> None:
    assert attempts.policy().block("account", 10_000) == timedelta(hours=1)


def test_one_address_that_tries_many_accounts_is_blocked(world: World, now: Any) -> None:
    for number in range(20):
        login(f"someone{number}", WRONG)
    assert said(login("alice", RIGHT)) == ["Too many failed attempts. Try again in 1 min."]
    assert login("alice", RIGHT, address="198.51.100.7").status_code == 302


def test_addresses_of_one_ipv6_network_count_together(world: World, now: Any) -> None:
    for number in range(20):
        login(f"someone{number}", WRONG, address=f"2001:db8::{number + 1:x}")
    assert said(login("alice", RIGHT, address="2001:db8::ffff:1"))
    assert login("alice", RIGHT, address="2001:db8:0:1::1").status_code == 302


def test_known_and_unknown_accounts_get_the_same_answers(world: World, now: Any) -> None:
    """Answers, and how often a password is hashed: what an attacker can time."""
    answers = {}
    for name in ("alice", "nobody-of-that-name"):
        answers[name] = [said(login(name, WRONG, address=f"198.51.100.{len(name)}")) for _ in range(7)]
    assert answers["alice"] == answers["nobody-of-that-name"]


def test_an_unknown_account_costs_a_hash_as_well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    for name in ("alice", "nobody-of-that-name"):
        hashed.clear()
        login(name, WRONG)
        assert hashed == [WRONG], name


def test_an_unknown_name_is_not_stored(world: World, now: Any) -> None:
    """It may be a password that was typed into the wrong field."""
    guess("hunter2-my-password", 6)
    kept = [
        *LoginAttempts.objects.values_list("subject", flat=True),
        *map(str, Event.objects.values_list("data")),
    ]
    assert not [text for text in kept if "hunter2" in text]


def test_staff_is_alerted_when_guessing_is_seen(world: World, now: Any) -> None:
    guess("alice", 4)
    alerts.write()
    assert not Alert.objects.filter(event__name="login.blocked").exists()
    guess("alice", 1)
    alerts.write()
    alert = Alert.objects.filter(event__name="login.blocked", user=world.staff).get()
    assert "account:alice" in alerts.message_of(alert).text
    assert (
        Event.objects.filter(name="login.failed", subject__startswith="console.loginattempts/").count() == 10
    )


def test_attempts_are_counted_before_the_password_is_checked(world: World, now: Any) -> None:
    """Parallel guesses: each is counted when it begins, so the sixth finds the block although none has failed yet."""
    names = attempts.subjects("alice", "203.0.113.5")
    assert [attempts.begin(names) is None for _ in range(6)] == [True] * 5 + [False]


def test_a_day_without_failures_starts_from_zero(world: World, now: Any) -> None:
    guess("alice", 4)
    with clock.frozen(now + timedelta(days=1, seconds=1)):
        guess("alice", 1)
        assert LoginAttempts.objects.get(subject="account:alice").failures == 1
        assert LoginAttempts.objects.get(subject="address:203.0.113.5").failures == 1


def test_guessing_keys_is_limited_by_address_and_reported(world: World, now: Any) -> None:
    browser = Client(REMOTE_ADDR="203.0.113.5")
    codes = [
        browser.get("/api/signals", headers={"x-api-key": f"mxk_{number}"}).status_code
        for number in range(32)
    ]
    assert codes == [401] * 30 + [429] * 2
    assert Event.objects.filter(name="login.blocked", data__who="keys:203.0.113.5").count() == 1
    assert browser.get("/api/signals", headers=world.key(world.alice)).status_code == 200
    assert browser.get("/metrics", headers={"authorization": "Bearer mxk_0"}).status_code in (200, 401)
    for further, seconds in ((1, 120), (2, 240)):
        row = LoginAttempts.objects.get(subject="keys:203.0.113.5")
        assert row.blocked_until is not None
        with clock.frozen(row.blocked_until + timedelta(seconds=1)):
            wrong = browser.get("/api/signals", headers={"x-api-key": f"mxk_further_{further}"})
            assert wrong.status_code == 401
            row.refresh_from_db()
            assert row.blocked_until == clock.now() + timedelta(seconds=seconds)


def test_there_is_one_login_page() -> None:
    """Every view that checks a password is the limited one; the admin's own is out of reach."""
    assert [view for view in views_of(get_resolver().url_patterns, "/login") if view.view_class is Login]
    answer = Client().get("/admin/login/?next=/admin/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login?next=/admin/")
    assert Client().post("/admin/login/", {"username": "root", "password": RIGHT}).status_code == 302


# -- the second factor


def set_up(person: User) -> tuple[Client, TOTPDevice, list[str]]:
    """A browser in which `person` has turned it on; the device; the recovery codes."""
    browser = Client()
    browser.force_login(person)
    page = browser.get("/second-factor").content.decode()
    assert "data:image/svg+xml" in page
    device = TOTPDevice.objects.get(user=person)
    done = browser.post("/second-factor", {"code": code_of(device)})
    codes = re.findall(
        r"^(?:<pre>)?([0-9a-f]{10})$", done.content.decode().replace("<pre>", "\n"), re.MULTILINE
    )
    device.refresh_from_db()
    assert device.confirmed
    return browser, device, codes


def code_of(device: TOTPDevice, steps: int = 0) -> str:
    """What the app shows, `steps` half-minutes from now."""
    return f"{totp(device.bin_key, drift=steps):06d}"


def test_a_password_alone_does_not_open_an_account_with_a_second_factor(world: World) -> None:
    _, device, codes = set_up(world.alice)
    assert len(codes) == 10
    wrong = login("alice", RIGHT)
    assert said(wrong) == said(login("alice", WRONG))
    TOTPDevice.objects.update(throttling_failure_count=0)
    assert login("alice", RIGHT, code=code_of(device)).status_code == 200  # used already, when it was set up
    TOTPDevice.objects.update(throttling_failure_count=0)
    assert login("alice", RIGHT, code=code_of(device, 1)).status_code == 302


def test_a_recovery_code_works_once(world: World) -> None:
    _, _, codes = set_up(world.alice)
    assert login("alice", RIGHT, code=codes[0]).status_code == 302
    assert login("alice", RIGHT, code=codes[0]).status_code == 200


def test_guessing_codes_blocks_the_account(world: World, now: Any) -> None:
    set_up(world.alice)
    for number in range(5):
        login("alice", RIGHT, code=f"{number:06d}")
    assert said(login("alice", RIGHT, code="123456")) == ["Too many failed attempts. Try again in 1 min."]


def test_staff_without_a_second_factor_reaches_only_its_setup(world: World, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = True
    browser = Client()
    browser.force_login(world.staff)
    for url in ("/", "/admin/", "/admin/trading/order/", "/admin/stop", "/api/signals", "/api/docs"):
        answer = browser.get(url)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/second-factor"), url
    assert browser.post("/api/admin/run-pipeline").status_code == 302
    browser, _, _ = set_up(world.staff)
    assert browser.get("/admin/").status_code == 200
    again = Client()
    again.force_login(world.staff)  # a session that has not shown a code
    assert again.get("/admin/").headers["Location"] == "/second-factor"


def test_a_customer_may_do_without(world: World, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = True
    assert world.logged_in(world.alice).get("/").status_code == 200


def test_removing_it_asks_for_a_code(world: World) -> None:
    browser, device, _ = set_up(world.alice)
    assert b"wrong" in browser.post("/second-factor", {"code": "000000", "remove": ""}).content
    assert TOTPDevice.objects.filter(user=world.alice).exists()
    TOTPDevice.objects.update(throttling_failure_count=0)
    browser.post("/second-factor", {"code": code_of(device, 1), "remove": ""})
    assert not TOTPDevice.objects.filter(user=world.alice).exists()


def test_the_admin_removes_it_for_who_lost_the_phone_and_shows_no_secret(world: World) -> None:
    _, device, _ = set_up(world.alice)
    browser = world.logged_in(world.staff)
    assert browser.get(f"/admin/otp_totp/totpdevice/{device.pk}/change/").status_code == 404
    chosen = {"action": "remove_second_factor", "_selected_action": [world.alice.pk]}
    assert browser.post("/admin/auth/user/", chosen).status_code == 302
    assert not TOTPDevice.objects.filter(user=world.alice).exists()
    assert login("alice", RIGHT).status_code == 302
