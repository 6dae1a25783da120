"""The settings of an account: time zone, password, keys, sessions, wallets, export, closing."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as configured
from django.contrib.auth.models import Group, User
from django.db import connection
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent, Deployment
from maxxit.access import auth, closing, export, sessions, time_zones, wallets
from maxxit.access.models import ADMIN, ApiKey, BrowserSession, LoginAttempts, UserSettings
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.notify.models import PriceRule
from maxxit.streaming import StreamedFile
from maxxit.web.once import new_token
from maxxit.web.settings_pages import SCOPES, SECTIONS, export_zip
from positions.models import Position
from tests import builders
from tests.surface.conftest import World
from tests.tree import PACKAGES
from trading.chain.models import WatchedAddress
from trading.models import LedgerEntry, Order

PASSWORD = "nor is this one 2"
PAGES = [
    f"/{'second-factor' if name == 'second-factor' else name.replace('-', '/', 1)}" for name, _ in SECTIONS
]
WALLET = "0x" + "7" * 40


def errors(answer: Any) -> dict[str, list[str]]:
    """Field -> messages on the page."""
    return {field: list(texts) for field, texts in answer.context["form"].errors.items()}


def shown(page: Any) -> str:
    return str(page.content.decode())


@pytest.mark.parametrize("path", PAGES)
def test_each_page_shows_the_links_to_all_and_nothing_of_others(world: World, path: str) -> None:
    page = world.logged_in(world.alice).get(path)
    assert page.status_code == 200
    assert set(re.findall(r'<a href="([^"]+)"(?: aria-current="page")?>', shown(page))) >= set(PAGES)
    assert f'<a href="{path}" aria-current="page">' in shown(page)
    assert "bob" not in shown(page)
    assert world.of_bob.deployment.account not in shown(page)


def test_each_link_of_the_settings_answers(world: World) -> None:
    browser = world.logged_in(world.alice)
    links = {
        link for path in PAGES for link in re.findall(r'<a [^>]*href="(/[^"]*)"', shown(browser.get(path)))
    }
    assert len(links) > len(PAGES)
    answers = {link: browser.get(link) for link in links}
    assert {link: answer.status_code for link, answer in answers.items()} == dict.fromkeys(links, 200)
    unzipped(answers["/settings/export.zip"])


@pytest.mark.parametrize("path", PAGES)
def test_an_ended_session_leads_to_the_login_and_back(world: World, path: str) -> None:
    assert Client().post(path, {"x": "1"}).headers["Location"] == f"/login?next={path}"


# -- time zone


def test_times_are_shown_in_the_chosen_zone_and_in_utc_on_hover(world: World) -> None:
    browser = world.logged_in(world.alice)
    at = datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC)
    Position.objects.filter(pk=world.of_alice.position.pk).update(closed_at=at)
    assert (
        '<time datetime="2026-03-02T09:15:30+00:00" title="2026-03-02 09:15:30 UTC">03-02 09:15:30</time>'
        in shown(browser.get("/"))
    )
    assert "All times are UTC." in shown(browser.get("/"))
    done = browser.post("/settings", {"time_zone": "Asia/Kolkata"}, follow=True)
    assert "Times are now shown in Asia/Kolkata." in shown(done)
    page = shown(browser.get("/"))
    assert 'title="2026-03-02 09:15:30 UTC">03-02 14:45:30</time>' in page
    assert "All times are in Asia/Kolkata (UTC+05:30)" in page
    other = world.logged_in(world.alice)  # another browser of the same person
    assert "Asia/Kolkata" in shown(other.get("/"))
    assert "All times are UTC." in shown(world.logged_in(world.bob).get("/"))


def test_the_zone_costs_no_further_query(world: World) -> None:
    browser = world.logged_in(world.alice)
    counts = []
    for _ in range(2):
        browser.get("/second-factor")
        with CaptureQueriesContext(connection) as queries:
            browser.get("/second-factor")
        counts.append(len(queries))
        time_zones.choose(world.alice, "Europe/Berlin")
    assert counts[0] == counts[1]


def test_a_zone_ends_with_the_request(world: World) -> None:
    time_zones.choose(world.alice, "Asia/Kolkata")
    world.logged_in(world.alice).get("/")
    assert timezone.get_current_timezone_name() == "UTC"


@pytest.mark.parametrize("name", ["Mars/Base", "../../etc/passwd", ""])
def test_an_unknown_zone_is_refused_at_its_field(world: World, name: str) -> None:
    answer = world.logged_in(world.alice).post("/settings", {"time_zone": name})
    assert list(errors(answer)) == ["time_zone"]
    assert not UserSettings.objects.exists()


def test_a_chosen_zone_is_not_replaced_by_the_browsers(world: World) -> None:
    time_zones.choose(world.alice, "Asia/Kolkata")
    sent = {"username": "alice", "password": PASSWORD, "time_zone": "Europe/Berlin"}
    assert Client().post("/login", sent).status_code == 302
    assert UserSettings.objects.get(user=world.alice).time_zone == "Asia/Kolkata"
    Client().post("/login", sent | {"username": "bob", "time_zone": "Mars/Base"})
    assert not UserSettings.objects.filter(user=world.bob).exists()


def test_the_admin_stays_in_utc(world: World) -> None:
    time_zones.choose(world.staff, "Asia/Kolkata")
    seen = shown(
        world.logged_in(world.staff).get(f"/admin/positions/position/{world.of_alice.position.pk}/change/")
    )
    closed = Position.objects.get(pk=world.of_alice.position.pk).closed_at
    assert closed is not None
    assert f"{closed:%Y-%m-%d %H:%M:%S}" in seen


def test_invoices_stay_in_utc(world: World) -> None:
    """Their months begin at midnight UTC: in New York the first of them would be in the month before."""
    time_zones.choose(world.alice, "America/New_York")
    browser = world.logged_in(world.alice)
    month = f"{clock.now():%Y-%m}"
    assert f"/{month}" in shown(browser.get("/invoices"))
    assert "All times are UTC." in shown(browser.get("/invoices"))


def test_a_time_with_its_zone() -> None:
    at = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    with timezone.override("Europe/Berlin"):
        text = Template("{% load figures %}{{ at|local_time }}|{{ none|local_time }}").render(
            Context({"at": at})
        )
    assert ">2026-07-02 00:30:00 CEST</time>|–" in text


# -- password


def test_a_new_password_ends_the_other_sessions(world: World) -> None:
    here, there = world.logged_in(world.alice), world.logged_in(world.alice)
    new = {"old_password": PASSWORD, "new_password1": "a better one 77", "new_password2": "a better one 77"}
    wrong = here.post("/settings/password", new | {"old_password": "guess"})
    assert list(errors(wrong)) == ["old_password"]
    assert LoginAttempts.objects.get(subject="account:alice").failures == 1
    done = here.post("/settings/password", new, follow=True)
    assert "1 other session ended" in shown(done)
    assert here.get("/").status_code == 200
    assert there.get("/").status_code == 302
    assert not LoginAttempts.objects.get(subject="account:alice").failures
    assert User.objects.get(pk=world.alice.pk).check_password("a better one 77")


def test_guessing_the_password_in_the_settings_is_limited(world: World) -> None:
    browser = world.logged_in(world.alice)
    for _ in range(5):
        browser.post("/settings/password", {"old_password": "guess"})
    blocked = browser.post("/settings/password", {"old_password": PASSWORD})
    assert errors(blocked) == {"old_password": ["Too many failed attempts. Try again later."]}


def test_who_has_only_a_wallet_sets_a_first_password(world: World) -> None:
    world.alice.set_unusable_password()
    world.alice.save()
    browser = world.logged_in(world.alice)
    assert "old_password" not in shown(browser.get("/settings/password"))
    BrowserSession.objects.filter(user=world.alice).update(opened_at=clock.now() - timedelta(minutes=11))
    old = browser.post(
        "/settings/password", {"new_password1": "a better one 77", "new_password2": "a better one 77"}
    )
    assert "within ten minutes" in shown(old)
    assert not User.objects.get(pk=world.alice.pk).has_usable_password()
    browser = world.logged_in(world.alice)
    browser.post(
        "/settings/password", {"new_password1": "a better one 77", "new_password2": "a better one 77"}
    )
    assert User.objects.get(pk=world.alice.pk).check_password("a better one 77")


# -- API keys


def test_a_key_is_shown_once_and_works(world: World) -> None:
    browser = world.logged_in(world.alice)
    page = browser.post("/settings/keys", {"name": "sheet", "scopes": ["read"], "days": "30"})
    key = re.findall(r'<pre id="new-key">(mxk_[\w-]+)</pre>', shown(page))[0]
    assert Client().get("/api/signals", headers={"x-api-key": key}).status_code == 200
    assert key not in shown(browser.get("/settings/keys"))
    row = ApiKey.objects.get(owner=world.alice, name="sheet")
    assert (row.prefix, row.scopes) == (key[:10], ["read"])
    assert row.expires_at is not None
    assert timedelta(days=29) < row.expires_at - clock.now() < timedelta(days=31)
    done = browser.post("/settings/keys", {"revoke": row.prefix}, follow=True)
    assert "The key is revoked." in shown(done)
    assert Client().get("/api/signals", headers={"x-api-key": key}).status_code == 401


def test_a_form_sent_twice_makes_one_key(world: World) -> None:
    browser, sent = world.logged_in(world.alice), {"name": "sheet", "scopes": ["read"], "once": new_token()}
    browser.post("/settings/keys", sent)
    again = browser.post("/settings/keys", sent)
    assert "was sent before" in shown(again)
    assert ApiKey.objects.filter(name="sheet").count() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"scopes": ["admin"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"days": "0"}, "days"),
    ],
)
def test_a_wrong_field_of_a_key_is_named(world: World, change: dict[str, Any], field: str) -> None:
    answer = world.logged_in(world.alice).post("/settings/keys", {"name": "x", "scopes": ["read"]} | change)
    assert list(errors(answer)) == [field]
    assert not ApiKey.objects.exists()


def test_another_users_key_is_not_revoked(world: World) -> None:
    world.key(world.bob)
    row = ApiKey.objects.get(owner=world.bob)
    page = world.logged_in(world.alice).post("/settings/keys", {"revoke": row.prefix}, follow=True)
    assert "There is no such key" in shown(page)
    assert ApiKey.objects.get(pk=row.pk).revoked_at is None


# -- sessions


def test_sessions_are_listed_and_ended(world: World) -> None:
    here = Client(REMOTE_ADDR="203.0.113.1", headers={"user-agent": "Browser of the desk"})
    there = Client(REMOTE_ADDR="198.51.100.2", headers={"user-agent": "Browser of the pocket"})
    for browser in (here, there):
        browser.post("/login", {"username": "alice", "password": PASSWORD})
    of_bob = world.logged_in(world.bob)
    page = shown(here.get("/settings/sessions"))
    for text in ("Browser of the desk", "Browser of the pocket", "203.0.113.1", "198.51.100.2", "this one"):
        assert text in page
    keys = BrowserSession.objects.values_list("session_key", flat=True)
    assert not [key for key in keys if key in page]
    named = re.findall(r'name="end" value="(\w+)"', page)
    assert len(named) == 1
    here.post("/settings/sessions", {"end": named[0]})
    assert there.get("/").status_code == 302
    assert here.get("/").status_code == 200
    third = world.logged_in(world.alice)
    here.post("/settings/sessions", {"others": "1"})
    assert third.get("/").status_code == 302
    assert of_bob.get("/").status_code == 200
    other = sessions.public_id(BrowserSession.objects.get(user=world.bob))
    here.post("/settings/sessions", {"end": other})
    assert of_bob.get("/").status_code == 200


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Safari/537.36",
         "Chrome on Linux"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Safari/604.1",
         "Safari on iPhone"),
        ("curl/8.0", "curl/8.0"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_a_browser_is_named_in_words(agent: str, name: str) -> None:
    assert BrowserSession(browser=agent).browser_name == name


def test_every_scope_of_customers_can_be_chosen() -> None:
    """A scope that is added to the API gets a line on the page, or is kept to the command as `admin` is."""
    assert set(SCOPES) == set(auth.SCOPES) - {ADMIN}


def test_a_session_knows_when_it_was_last_used(world: World) -> None:
    browser = world.logged_in(world.alice)
    BrowserSession.objects.update(last_seen=clock.now() - timedelta(hours=1))
    browser.get("/")
    assert BrowserSession.objects.get(user=world.alice).last_seen > clock.now() - timedelta(minutes=1)


def test_expired_sessions_are_deleted_at_the_next_login(world: World) -> None:
    world.logged_in(world.alice)
    world.logged_in(world.bob)
    BrowserSession.objects.update(expire_date=clock.now() - timedelta(seconds=1))
    world.logged_in(world.alice)
    assert BrowserSession.objects.filter(user=world.alice).count() == 1
    sessions.SessionStore.clear_expired()  # what `manage.py clearsessions` does
    assert not BrowserSession.objects.filter(user=world.bob).exists()


def test_an_operator_ends_all_sessions_of_a_user(world: World) -> None:
    browser, staff = world.logged_in(world.alice), world.logged_in(world.staff)
    staff.post("/admin/auth/user/", {"action": "end_sessions", "_selected_action": [world.alice.pk]})
    assert browser.get("/").status_code == 302
    assert staff.get("/").status_code == 200


# -- wallets


def test_a_wallet_is_unlinked_by_its_owner_alone(world: World) -> None:
    row = world.alice.wallets.get()
    world.logged_in(world.bob).post("/settings/wallets", {"unlink": row.pk})
    assert world.alice.wallets.exists()
    done = world.logged_in(world.alice).post("/settings/wallets", {"unlink": row.pk}, follow=True)
    assert f"{row.address} is unlinked." in shown(done)
    assert not world.alice.wallets.exists()
    for garbage in ("x", "", "9" * 40, "-1"):
        assert world.logged_in(world.alice).post("/settings/wallets", {"unlink": garbage}).status_code == 302


# -- export

ELSEWHERE = {
    "console.invitation": "of those who invite; the invited sees nothing of it",
    "trading.changerequest": "of staff, about the installation",
    "console.apikey": "listed in OWNER_PATHS",
}


def test_the_export_holds_every_table_with_an_owner() -> None:
    """A model with a way to a user, agent or deployment is exported, or stands here with the reason."""
    owned = {"auth.user", "agents.agent", "agents.deployment"}
    forgotten = [
        model._meta.label_lower
        for model in apps.get_models()
        if model.__module__.split(".")[0] in PACKAGES
        and any(field.related_model and field.related_model._meta.label_lower in owned
                for field in model._meta.concrete_fields if field.is_relation)
        and model._meta.label_lower not in export.PATHS
        and model._meta.label_lower not in ELSEWHERE
    ]  # fmt: skip
    assert forgotten == []


def unzipped(answer: Any) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))


def table(archive: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.read(name).decode())))


def test_the_export_holds_what_is_mine_and_nothing_of_others(world: World) -> None:
    builders.webhook(world.alice, "https://alice.example/hook")
    world.key(world.alice)
    answer = world.logged_in(world.alice).get("/settings/export.zip")
    assert answer.headers["Content-Type"] == "application/zip"
    archive = unzipped(answer)
    assert archive.testzip() is None
    mine, theirs = world.of_alice, world.of_bob
    for file, row, other in (
        ("orders.csv", mine.entry, theirs.entry),
        ("fills.csv", mine.fill, theirs.fill),
        ("positions.csv", mine.position, theirs.position),
        ("signals.csv", mine.signal, theirs.signal),
        ("ct_posts.csv", mine.post, theirs.post),
        ("agents.csv", mine.agent, theirs.agent),
        ("agent_deployments.csv", mine.deployment, theirs.deployment),
    ):
        assert file in archive.namelist(), archive.namelist()
        ids = {line["id"] for line in table(archive, file)}
        assert (str(row.pk) in ids, str(other.pk) in ids) == (True, False), file
    entries = LedgerEntry.objects.filter(deployment=mine.deployment)
    assert len(table(archive, "ledger_entries.csv")) == entries.count() > 0
    assert json.loads(archive.read("account.json"))["username"] == "alice"
    assert table(archive, "notify_endpoints.csv")[0]["hint"] == "alice.example/…"
    filled = next(line for line in table(archive, "orders.csv") if line["id"] == str(mine.entry.pk))
    assert filled["notional_usd"] == "800"
    assert filled["created_at"].endswith("Z")


def test_the_export_holds_no_secrets(world: World) -> None:
    key = world.key(world.alice)["x-api-key"]
    builders.webhook(world.alice, "https://a.example", salt="5a17" * 8)
    browser = world.logged_in(world.alice)
    archive = unzipped(browser.get("/settings/export.zip"))
    text = "\n".join(archive.read(name).decode() for name in archive.namelist())
    row = ApiKey.objects.get()
    alice = User.objects.get(pk=world.alice.pk)
    for secret in (key, row.sha256, "5a17" * 8, alice.password, browser.cookies["sessionid"].value):
        assert secret not in text
    assert row.prefix in text


def test_the_export_counts_what_it_sends(world: World) -> None:
    browser = world.logged_in(world.alice)
    page = browser.get("/settings/export")
    counted = dict(page.context["files"])
    archive = unzipped(browser.get("/settings/export.zip"))
    assert counted == {
        name: len(table(archive, name))
        for name in archive.namelist()
        if name.endswith(".csv") and table(archive, name)
    }


def test_the_export_is_sent_in_pieces_of_bounded_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "CHUNK", 2)
    for _ in range(7):
        builders.order(world.of_alice.deployment)
    with CaptureQueriesContext(connection) as queries:
        pieces = list(export.archive(world.alice))
    assert len(pieces) > len(export.models())
    assert len(queries) < 3 * len(export.models()) + 10  # none for each row


def test_the_export_is_made_while_it_is_sent(world: World) -> None:
    """Not gathered in memory first."""
    request = RequestFactory().get("/settings/export.zip")
    request.user = world.alice
    assert isinstance(export_zip(request), StreamedFile)
    made: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"a", b"", b"b"):
            made.append(piece)
            yield piece

    stream = iter(StreamedFile(pieces(), "x.zip", "application/zip"))
    assert [(piece, len(made)) for piece in stream] == [(b"a", 1), (b"", 2), (b"b", 3)]


def test_exports_are_limited(world: World) -> None:
    browser = world.logged_in(world.alice)
    codes = [browser.get("/settings/export.zip").status_code for _ in range(11)]
    assert codes == [200] * 10 + [302]


# -- closing


def end_trading(world: World) -> None:
    """Alice's deployment is revoked and holds nothing."""
    Position.objects.filter(deployment__owner=world.alice).update(
        **{"state": "closed", "closed_at": clock.now()}
    )
    Order.objects.filter(deployment__owner=world.alice).exclude(state="blocked").update(**{"state": "filled"})
    Deployment.objects.filter(owner=world.alice).update(**{"state": "revoked"})


def test_an_account_that_trades_is_not_closed_and_says_what_to_do(world: World) -> None:
    browser = world.logged_in(world.alice)
    page = browser.post("/settings/close", {"username": "alice", "password": PASSWORD})
    assert "cannot be closed yet" in shown(page)
    assert "close this position first" in shown(page)
    assert f"{world.of_alice.deployment} is active: close its positions, then revoke it." in shown(page)
    assert User.objects.get(pk=world.alice.pk).is_active
    with pytest.raises(Rejected):
        closing.close(world.alice)


def test_a_planned_order_and_an_enabled_module_stand_in_the_way(world: World) -> None:
    end_trading(world)
    assert closing.obstacles(world.alice) == []
    order = Order.objects.filter(deployment__owner=world.alice).first()
    assert order is not None
    Order.objects.filter(pk=order.pk).update(**{"state": "planned"})
    assert "1 orders are under way" in closing.obstacles(world.alice)[0]
    Order.objects.filter(pk=order.pk).update(**{"state": "filled"})
    Deployment.objects.filter(owner=world.alice).update(module_enabled=True)
    assert "module is still enabled" in closing.obstacles(world.alice)[0]


def test_closing_asks_for_name_and_password(world: World) -> None:
    end_trading(world)
    browser = world.logged_in(world.alice)
    for sent, field in (({"username": "bob", "password": PASSWORD}, "username"),
                        ({"username": "alice", "password": "guess"}, "password")):  # fmt: skip
        assert list(errors(browser.post("/settings/close", sent))) == [field]
    assert User.objects.get(pk=world.alice.pk).is_active
    assert LoginAttempts.objects.get(subject="account:alice").failures == 1


def test_a_closed_account_is_anonymous_and_the_books_stay(world: World) -> None:
    end_trading(world)
    world.alice.email = "alice@example.org"
    world.alice.save()
    world.alice.groups.add(Group.objects.get_or_create(name="customers")[0])
    builders.webhook(world.alice, "https://a.example")
    time_zones.choose(world.alice, "Asia/Kolkata")
    headers = world.key(world.alice)
    WatchedAddress.objects.create(
        chain_id=31337, address="0x" + "7" * 40, user=world.alice, private=True, created_at=clock.now()
    )
    entries, orders = LedgerEntry.objects.count(), Order.objects.count()
    browser, other = world.logged_in(world.alice), world.logged_in(world.alice)
    done = browser.post("/settings/close", {"username": "alice", "password": PASSWORD}, follow=True)
    assert "Your account is closed." in shown(done)
    person = User.objects.get(pk=world.alice.pk)
    assert (person.username, person.email, person.is_active) == (f"deleted-{person.pk}", "", False)
    assert not person.has_usable_password()
    assert not person.groups.exists()
    for rows in (person.wallets, person.endpoints, person.browser_sessions, person.watchedaddress_set):
        assert not rows.exists()
    assert not UserSettings.objects.filter(user=person).exists()
    assert not PriceRule.objects.filter(user=person, active=True).exists()
    assert other.get("/").status_code == 302
    assert Client().get("/api/signals", headers=headers).status_code == 401
    assert Client().post("/login", {"username": "alice", "password": PASSWORD}).status_code == 200
    assert (LedgerEntry.objects.count(), Order.objects.count()) == (entries, orders)
    assert Deployment.objects.get(pk=world.of_alice.deployment.pk).owner == person
    assert Event.objects.filter(name="account.closed", subject=f"auth.user/{person.pk}").exists()
    assert "alice" not in shown(world.logged_in(world.staff).get("/admin/auth/user/"))


def test_an_account_without_password_is_closed_right_after_a_login(world: World) -> None:
    end_trading(world)
    world.alice.set_unusable_password()
    world.alice.save()
    browser = world.logged_in(world.alice)
    BrowserSession.objects.filter(user=world.alice).update(opened_at=clock.now() - timedelta(minutes=11))
    page = browser.post("/settings/close", {"username": "alice"})
    assert "within ten minutes" in shown(page)
    assert User.objects.get(pk=world.alice.pk).is_active
    fresh = world.logged_in(world.alice)
    assert fresh.post("/settings/close", {"username": "alice"}).status_code == 302
    assert not User.objects.get(pk=world.alice.pk).is_active


def test_the_agents_of_a_closed_account_are_paused_unless_others_trade_with_them(world: World) -> None:
    end_trading(world)
    shared = builders.agent(owner=world.alice)
    builders.deployment(shared, owner=world.bob)
    left = builders.agent(owner=world.alice)
    Deployment.objects.filter(pk=builders.deployment(left, owner=world.bob).pk).update(**{"state": "revoked"})
    closing.close(world.alice)
    states = {row.pk: row.state for row in Agent.objects.filter(owner=world.alice)}
    assert states == {world.of_alice.agent.pk: "paused", shared.pk: "active", left.pk: "paused"}
    paused = Event.objects.filter(name="agent.paused").values_list("data__by", "data__why")
    assert set(paused) == {(f"deleted-{world.alice.pk}", "account closed")}


def test_staff_closes_no_account_here(world: World) -> None:
    assert "in the admin" in shown(world.logged_in(world.staff).get("/settings/close"))


def test_the_wallet_of_a_closed_account_may_open_another(world: World) -> None:
    end_trading(world)
    closing.close(world.alice)
    assert wallets.link(world.bob, WALLET).user == world.bob


def test_sessions_live_in_the_table_that_knows_their_user() -> None:
    assert configured.SESSION_ENGINE == "maxxit.access.sessions"
