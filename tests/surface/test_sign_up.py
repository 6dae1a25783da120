"""Sign-up: who may create an account, invitations, limits, and what an answer reveals."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from maxxit.access import groups, invitations
from maxxit.access.models import BrowserSession, Invitation, UserSettings
from maxxit.core import clock, redact
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.env import read_env
from maxxit.events.models import Event
from maxxit.web.once import new_token
from tests.platform.test_settings import KEY

PASSWORD = "correct horse 41"

pytestmark = pytest.mark.django_db


@pytest.fixture
def now() -> Iterator[Any]:
    """A fixed time."""
    moment = timezone.now()
    with clock.frozen(moment):
        yield moment


def sign_up(
    name: str = "carol", *, browser: Client | None = None, address: str = "203.0.113.5", **more: str
) -> Any:
    """Send the form."""
    sent = {"username": name, "password1": PASSWORD, "password2": PASSWORD} | more
    return (browser or Client()).post("/sign-up", sent, REMOTE_ADDR=address)


def errors(answer: Any) -> dict[str, list[str]]:
    """Field -> messages on the page."""
    return {field: list(texts) for field, texts in answer.context["form"].errors.items()}


def invitation(**span: float) -> str:
    """The code of a new one."""
    code, _ = invitations.create(expires_at=clock.now() + timedelta(**(span or {"days": 7})), by="test")
    return code


def test_a_newcomer_signs_up_and_is_logged_in_as_a_customer(settings: Any) -> None:
    settings.SIGN_UP = "open"
    browser = Client()
    assert browser.get("/sign-up").status_code == 200
    answer = sign_up(browser=browser, time_zone="Europe/Berlin")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    page = browser.get("/").content.decode()
    assert "Welcome, carol" in page
    person = User.objects.get(username="carol")
    assert [group.name for group in person.groups.all()] == [groups.CUSTOMERS]
    assert (person.is_staff, person.is_superuser) == (False, False)
    assert person.check_password(PASSWORD)
    assert UserSettings.objects.get(user=person).time_zone == "Europe/Berlin"
    assert BrowserSession.objects.get(user=person).opened_at is not None
    assert Event.objects.filter(name="account.created", subject=f"auth.user/{person.pk}").exists()


@pytest.mark.parametrize(
    ("name", "first", "second", "field", "says"),
    [
        ("ab", PASSWORD, PASSWORD, "username", "3 to 30 letters"),
        (
            "0x1111111111111111111111111111111111111111",
            PASSWORD,
            PASSWORD,
            "username",
            "beginning with a letter",
        ),
        ("аlice", PASSWORD, PASSWORD, "username", "3 to 30 letters"),  # noqa: RUF001  # the first letter is Cyrillic
        ("deleted-7", PASSWORD, PASSWORD, "username", "3 to 30 letters"),
        ("", PASSWORD, PASSWORD, "username", "required"),
        ("carol", "short1", "short1", "password1", "at least 8 characters"),
        ("carol", "password", "password", "password1", "too common"),
        ("carol", "93847562", "93847562", "password1", "entirely numeric"),
        ("carolcarol", "carolcarol", "carolcarol", "password1", "too similar to the username"),
        ("carol", PASSWORD, PASSWORD + "x", "password2", "differ"),
    ],
)
def test_each_wrong_field_is_named_with_the_reason(
    settings: Any, name: str, first: str, second: str, field: str, says: str
) -> None:
    settings.SIGN_UP = "open"
    answer = sign_up(name, password1=first, password2=second)
    assert answer.status_code == 200
    assert says in " ".join(errors(answer)[field])
    body = answer.content.decode()
    assert f'id="id_{field}_error"' in body
    assert 'aria-invalid="true"' in body
    assert f'value="{name}"' in body or not name
    assert PASSWORD not in body
    assert not User.objects.exists()


def test_a_taken_name_is_refused_in_any_case(settings: Any) -> None:
    settings.SIGN_UP = "open"
    User.objects.create_user("carol")
    assert errors(sign_up("Carol")) == {"username": ["This name is taken: choose another one."]}
    assert User.objects.count() == 1


@pytest.mark.parametrize("mode", ["invitation", "closed"])
def test_without_an_invitation_no_account_is_made_and_no_name_is_revealed(settings: Any, mode: str) -> None:
    settings.SIGN_UP = mode
    User.objects.create_user("carol")
    page = Client().get("/sign-up")
    assert page.status_code == 200
    assert b"<form class" not in page.content
    pages = [sign_up(name) for name in ("carol", "nobody")]
    assert [page.status_code for page in pages] == [403, 403]
    assert pages[0].context["refusal"] == pages[1].context["refusal"]
    assert User.objects.count() == 1


def test_production_is_by_invitation_unless_set_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGN_UP", "sometimes")
    with pytest.raises(Misconfigured, match="SIGN_UP"):
        read_env()
    monkeypatch.setenv("SIGN_UP", "closed")
    assert read_env().sign_up == "closed"
    monkeypatch.delenv("SIGN_UP")
    variables = {"MAXXIT_PROFILE": "production", "ALLOWED_HOSTS": "maxxit.example", "SECRET_KEY": KEY,
                 "DATABASE_URL": "postgresql://x@db/x", "REDIS_URL": "rediss://redis/0"}  # fmt: skip
    for profile, expected in ((variables, "invitation"), ({"MAXXIT_PROFILE": "demo"}, "open")):
        shown = subprocess.run(
            [sys.executable, "-c", "from maxxit import settings; print(settings.SIGN_UP)"],
            env=os.environ | profile, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert shown.stdout.split()[-1] == expected


def test_an_invitation_works_once(settings: Any) -> None:
    settings.SIGN_UP = "invitation"
    code = invitation()
    page = Client().get(f"/sign-up?invitation={code}").content.decode()
    assert f'value="{code}"' in page
    assert sign_up("carol", invitation=code).status_code == 302
    row = Invitation.objects.get()
    assert (row.standing, row.used_by, code in row.sha256) == (
        "used",
        User.objects.get(username="carol"),
        False,
    )
    again = sign_up("dave", invitation=code)
    assert again.status_code == 403
    assert again.context["refusal"] == invitations.REFUSED
    assert not User.objects.filter(username="dave").exists()


def test_a_form_with_a_mistake_does_not_use_the_invitation_up(settings: Any) -> None:
    settings.SIGN_UP = "invitation"
    code = invitation()
    assert errors(sign_up("carol", invitation=code, password2="other"))
    assert sign_up("carol", invitation=code).status_code == 302


def test_expired_withdrawn_and_invented_invitations_get_one_message(settings: Any, now: Any) -> None:
    settings.SIGN_UP = "invitation"
    expired, withdrawn = invitation(seconds=1), invitation()
    assert invitations.withdraw([Invitation.objects.latest("pk").pk], by="test") == 1
    with clock.frozen(now + timedelta(seconds=2)):
        refusals = {
            sign_up("carol", invitation=code).context["refusal"]
            for code in (expired, withdrawn, "mxi_invented")
        }
    assert refusals == {invitations.REFUSED}


def test_an_invitation_is_not_used_when_another_sign_up_was_first(settings: Any) -> None:
    """`use` decides inside the transaction, so that two sign-ups with one link make one account."""
    code = invitation()
    carol, dave = (User.objects.create_user(name) for name in ("carol", "dave"))
    invitations.use(code, carol)
    with pytest.raises(Rejected):
        invitations.use(code, dave)


def test_the_command_prints_the_link_once_and_keeps_its_hash(settings: Any, capsys: Any) -> None:
    settings.SIGN_UP = "invitation"
    call_command("invite", "--email", "carol@example.org", "--days", "2", "--json")
    made = json.loads(capsys.readouterr().out)
    assert made["link"].endswith(f"/sign-up?invitation={made['code']}")
    row = Invitation.objects.get(pk=made["id"])
    assert row.email == "carol@example.org"
    assert timedelta(days=1.9) < row.expires_at - timezone.now() < timedelta(days=2.1)
    assert made["code"] not in str(list(Event.objects.values()))
    assert sign_up("carol", invitation=made["code"]).status_code == 302


def test_a_code_is_masked_in_logs() -> None:
    code = invitation()
    assert code not in redact.text(f"GET {invitations.path(code)}")


def test_staff_invites_in_the_admin_and_withdraws(settings: Any) -> None:
    settings.SIGN_UP = "invitation"
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    done = browser.post(
        "/admin/console/invitation/add/", {"email": "x@example.org", "days": "3"}, follow=True
    )
    assert done.redirect_chain
    codes = re.findall(r"http://testserver/sign-up\?invitation=(mxi_[\w-]+)", done.content.decode())
    assert len(codes) == 1
    row = Invitation.objects.get()
    chosen = {"action": "withdraw", "_selected_action": [row.pk]}
    assert browser.post("/admin/console/invitation/", chosen).status_code == 302
    assert sign_up("carol", invitation=codes[0]).status_code == 403
    assert browser.get(f"/admin/console/invitation/{row.pk}/change/").status_code == 200


def test_sign_ups_of_one_address_are_limited(settings: Any, now: Any) -> None:
    settings.SIGN_UP = "open"
    User.objects.create_user("taken")
    for _ in range(10):
        assert errors(sign_up("taken"))["username"]
    blocked = sign_up("taken")
    assert errors(blocked) == {"__all__": ["Too many sign-ups from your network. Try again in 1 min."]}
    assert sign_up("carol", address="198.51.100.7").status_code == 302
    with clock.frozen(now + timedelta(seconds=61)):
        assert sign_up("dave").status_code == 302


def test_a_form_that_is_sent_twice_makes_one_account(settings: Any) -> None:
    settings.SIGN_UP = "open"
    token = new_token()
    assert sign_up("carol", once=token).status_code == 302
    assert errors(sign_up("dave", once=token))["__all__"][0].startswith("This form was sent before")
    assert User.objects.count() == 1


def test_who_is_logged_in_is_sent_to_the_dashboard() -> None:
    browser = Client()
    browser.force_login(User.objects.create_user("carol"))
    assert browser.get("/sign-up").headers["Location"] == "/"


def test_an_old_form_says_that_nothing_was_sent() -> None:
    answer = Client(enforce_csrf_checks=True).post("/sign-up", {"username": "carol"})
    assert answer.status_code == 403
    assert "Nothing was sent" in answer.content.decode()
