"""The page Notifications, its API and its command: channels, kinds, quiet hours, rules and the delivery log."""

import json
from datetime import time, timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from maxxit.core import egress
from maxxit.events.record import record
from maxxit.notify import alerts, endpoints, policy, worker
from maxxit.notify.channels import CHANNELS, push
from maxxit.notify.kinds import DEFAULT
from maxxit.notify.models import Alert, Endpoint, NotificationSettings, PriceRule, RuleDelivery, RuleMatch
from maxxit.reports import notifications
from tests.surface.conftest import World
from trading.chain import transfers
from trading.chain.models import WatchedAddress

HOOK = "https://hooks.example.com/a-secret-path"


@pytest.fixture(autouse=True)
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host has a public address."""
    monkeypatch.setattr(egress, "locate", lambda *_: "203.0.113.1")


@pytest.fixture
def alice(world: World) -> Client:
    return world.logged_in(world.alice)


def send(browser: Client, do: str, **values: Any) -> Any:
    return browser.post("/notifications", {"do": do, **values}, follow=True)


def test_an_address_is_set_its_secret_shown_once_and_removed(world: World, alice: Client) -> None:
    answer = send(alice, "address", channel="webhook", address=HOOK)
    shown = "hooks.example.com/…path"
    assert shown in answer.content.decode()
    assert "mxw_" in answer.content.decode()
    again = alice.get("/notifications").content.decode()
    assert shown in again
    assert HOOK not in again
    assert "mxw_" not in again
    assert shown not in world.logged_in(world.bob).get("/notifications").content.decode()
    send(alice, "remove", channel="webhook")
    assert not Endpoint.objects.filter(active=True).exists()


def test_an_address_that_cannot_be_sent_to_is_refused_and_kept_in_its_field(alice: Client) -> None:
    answer = send(alice, "address", channel="webhook", address="http://example.com/x")
    assert answer.status_code == 422
    assert "https" in answer.content.decode()
    assert 'value="http://example.com/x"' in answer.content.decode()
    assert send(alice, "address", channel="inbox", address="x").status_code == 404


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation offers every channel."""
    every = policy.policy().model_copy(update={"offered": tuple(CHANNELS)})
    monkeypatch.setattr(endpoints, "policy", lambda: every)
    monkeypatch.setenv("PUSH_PRIVATE_KEY", push.new_key()[0])


def test_an_address_that_needs_a_code_is_confirmed_on_the_page(
    world: World, alice: Client, offered: None
) -> None:
    page = send(alice, "address", channel="email", address="ann@example.org").content.decode()
    assert "A code was sent to" in page
    assert "mxw_" not in page
    endpoint = Endpoint.objects.get()
    assert endpoints.code_of(endpoint) not in alice.get("/notifications").content.decode()
    assert "is not confirmed" in send(alice, "test", channel="email").content.decode()
    wrong = send(alice, "confirm", channel="email", code="000000")
    assert wrong.status_code == 422
    assert "4 tries left" in wrong.content.decode()
    done = send(alice, "confirm", channel="email", code=endpoints.code_of(endpoint)).content.decode()
    assert "is confirmed" in done
    assert "On its way" in send(alice, "test", channel="email").content.decode()


def test_the_api_confirms_a_code(world: World, offered: None) -> None:
    key, browser = world.key(world.alice, "read", "rules"), Client()

    def call(method: str, path: str, **body: str) -> Any:
        return getattr(browser, method)(f"/api/{path}", body, content_type="application/json", headers=key)

    assert call("put", "market/endpoints", channel="email", address="ann@example.org").json()["secret"] == ""
    assert call("post", "notifications/confirm", channel="email", code="1").status_code == 422
    code = endpoints.code_of(Endpoint.objects.get())
    said = call("post", "notifications/confirm", channel="email", code=code).json()
    assert (said["address"], said["confirmed"]) == ("ann@example.org", True)


def test_an_installation_without_a_key_says_so(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_PRIVATE_KEY")
    answer = send(alice, "address", channel="webhook", address=HOOK)
    assert answer.status_code == 422
    assert "cannot store addresses yet" in answer.content.decode()
    assert not Endpoint.objects.exists()


def test_a_link_unsubscribes_by_post_alone_and_only_its_address(world: World, alice: Client) -> None:
    send(alice, "address", channel="webhook", address=HOOK)
    endpoint = Endpoint.objects.get()
    path = urlsplit(endpoints.unsubscribe_link(endpoint)).path
    stranger = Client(enforce_csrf_checks=True)
    assert "Send no more notifications to" in stranger.get(path).content.decode()
    assert Endpoint.objects.filter(active=True).exists(), "mail scanners open every link"
    assert stranger.post(path[:-1] + "_").status_code == 404
    assert stranger.post(path, {"List-Unsubscribe": "One-Click"}).status_code == 200
    assert not Endpoint.objects.filter(active=True).exists()
    assert stranger.get(path).status_code == 404


def test_the_service_worker_is_served_at_the_top(alice: Client) -> None:
    answer = alice.get("/push-worker.js")
    assert answer.headers["content-type"] == "text/javascript"
    assert "showNotification" in answer.content.decode()


def test_a_test_of_a_channel_is_in_the_log(world: World, alice: Client) -> None:
    page = send(alice, "test", channel="inbox").content.decode()
    assert "On its way" in page
    assert "Test message for alice on the channel Inbox" in page
    assert "data-under-way" in page
    worker.deliver()
    rows = alice.get("/notifications/log").content.decode()
    assert "sent" in rows
    assert "data-under-way" not in rows
    assert "<html" not in rows
    assert "alice" not in world.logged_in(world.bob).get("/notifications/log").content.decode()


def test_a_test_without_an_address_sends_nothing_and_says_what_to_do(alice: Client) -> None:
    assert (
        "has no webhook address: set one on the page"
        in send(alice, "test", channel="webhook").content.decode()
    )
    assert not Alert.objects.filter(event__name="notification.tested").exists()


def test_kinds_and_quiet_hours_are_kept_and_wrong_ones_named(world: World, alice: Client) -> None:
    send(alice, "address", channel="webhook", address=HOOK)
    chosen = {
        "kinds_webhook": ["stops"],
        "severity_webhook": "warning",
        "quiet_from": "22:00",
        "quiet_to": "07:00",
        "time_zone": "Europe/Berlin",
    }
    assert (
        "Quiet hours are 22:00 to 07:00 Europe/Berlin" in send(alice, "settings", **chosen).content.decode()
    )
    row = NotificationSettings.objects.get()
    assert (row.user, row.quiet_from, row.quiet_to) == (world.alice, time(22), time(7))
    assert row.by_channel == {"webhook": {"kinds": ["stops"], "severity": "warning"}}
    assert row.kinds == DEFAULT
    wrong = send(alice, "settings", **chosen | {"quiet_to": "", "time_zone": "Europe/Berlin"})
    assert wrong.status_code == 422
    assert "need both a begin and an end" in wrong.content.decode()
    assert 'value="22:00"' in wrong.content.decode()
    assert "No time zone" in send(alice, "settings", **chosen | {"time_zone": "Mars"}).content.decode()
    assert NotificationSettings.objects.get().time_zone == "Europe/Berlin"


def test_a_snooze_and_a_fallback_are_set_and_ended(world: World, alice: Client) -> None:
    send(alice, "address", channel="webhook", address=HOOK)
    page = send(alice, "settings", time_zone="UTC", fallback="webhook").content.decode()
    assert "Saved" in page
    assert NotificationSettings.objects.get().fallback == "webhook"
    assert send(alice, "settings", time_zone="UTC", fallback="slack").status_code == 422
    assert "Only critical messages are sent until" in send(alice, "snooze", hours="8").content.decode()
    assert "End the snooze" in alice.get("/notifications").content.decode()
    assert "The snooze is over" in send(alice, "snooze", hours="0").content.decode()
    assert send(alice, "snooze", hours="x").status_code == 404
    assert "Snooze for 1 to 72 hours" in send(alice, "snooze", hours="999").content.decode()


def test_a_rule_is_added_tested_paused_resumed_and_deleted(world: World, alice: Client) -> None:
    PriceRule.objects.all().delete()
    page = send(alice, "rule", symbols="btc, eth", condition="gt", threshold="70000", channel="inbox")
    rule = PriceRule.objects.get()
    assert f"Rule {rule.rule_id} is active" in page.content.decode()
    assert rule.symbols == ["BTC", "ETH"]
    assert "it does not match" in send(alice, "test-rule", rule=rule.rule_id).content.decode()
    for do, state in (("pause-rule", "paused"), ("resume-rule", "active"), ("delete-rule", "deleted")):
        assert (
            world.logged_in(world.bob).post("/notifications", {"do": do, "rule": rule.rule_id}).status_code
            == 404
        )
        send(alice, do, rule=rule.rule_id)
        rule.refresh_from_db()
        assert rule.state == state
    assert f"<code>{rule.rule_id}" not in alice.get("/notifications").content.decode()


def test_a_rule_combines_two_conditions_and_is_tested(alice: Client) -> None:
    PriceRule.objects.all().delete()
    second = {"condition_2": "change_pct", "threshold_2": "5", "window_minutes_2": "1440"}
    values = {"symbols": "ETH", "condition": "volume_usd", "threshold": "1000000", "channel": "inbox"}
    page = send(alice, "rule", combine="all", **values, **second).content.decode()
    rule = PriceRule.objects.get()

    assert (rule.condition, [part["condition"] for part in rule.parts]) == (
        "all",
        ["volume_usd", "change_pct"],
    )
    assert rule.parts[1]["window_seconds"] == 86_400
    assert "volume of the last 24 hours above 1000000 USD and price changes by percent" in page
    assert "it does not match" in send(alice, "test-rule", rule=rule.rule_id).content.decode()
    refused = send(
        alice, "rule", combine="any_of", **{**values, "condition": "any", "threshold": ""}, **second
    )
    assert refused.status_code == 422
    assert "cannot be combined" in refused.content.decode()


def test_a_rule_that_cannot_match_names_its_field_and_keeps_what_was_typed(alice: Client) -> None:
    answer = send(alice, "rule", symbols="NOPE", condition="gt", threshold="1", channel="inbox")
    assert answer.status_code == 422
    assert "No such symbol: NOPE" in answer.content.decode()
    assert 'value="NOPE"' in answer.content.decode()
    missing = send(
        alice, "rule", symbols="ETH", condition="gt", threshold="", channel="inbox"
    ).content.decode()
    assert "needs a threshold above 0" in missing


def test_a_double_click_adds_one_rule_and_sends_one_test(alice: Client) -> None:
    PriceRule.objects.all().delete()
    values = {"symbols": "ETH", "condition": "any", "channel": "inbox", "once": "a-token-of-a-form"}
    for _ in range(2):
        assert send(alice, "rule", **values).status_code == 200
        send(alice, "test", channel="inbox", once="a-token-of-another")
    assert PriceRule.objects.count() == 1
    assert Alert.objects.filter(event__name="notification.tested").count() == 1


def test_staff_without_the_permission_look_and_change_nothing(world: World) -> None:
    world.bob.is_staff = True
    world.bob.save()
    clerk = world.logged_in(world.bob)
    assert clerk.get("/notifications").status_code == 403
    assert clerk.post("/notifications", {"do": "test", "channel": "inbox"}).status_code == 403


def log_rows(world: World, count: int) -> None:
    """Alerts and deliveries of rules of alice, some at the same time."""
    rule, now = PriceRule.objects.filter(user=world.alice).latest("pk"), timezone.now()
    for number in range(count):
        at = now - timedelta(minutes=number // 3)
        if number % 2:
            event = record("kill_switch.pulled", world.alice, owner_id=world.alice.pk, number=number)
            Alert.objects.create(event=event, user=world.alice, channel="inbox", at=at, due_at=at)
        else:
            bucket = now + timedelta(minutes=5 * number)
            match = RuleMatch.objects.create(
                rule=rule, symbol="ETH", price=number, value=1, at=at, bucket=bucket
            )
            RuleDelivery.objects.create(
                match=match, rule=rule, user=world.alice, symbol="ETH", channel="inbox", bucket=bucket, at=at
            )


def test_the_log_is_read_page_by_page_each_row_once(world: World, alice: Client) -> None:
    log_rows(world, 40)
    alerts.write()
    total = (
        Alert.objects.filter(user=world.alice).count() + RuleDelivery.objects.filter(user=world.alice).count()
    )
    seen, before = [], ""
    while True:
        page = notifications.log_of(world.alice, before=before, limit=7)
        seen += page.rows
        before = page.next_before
        if not before:
            break
    assert len({row.id for row in seen}) == len(seen) == total > 40
    assert [row.at for row in seen] == sorted((row.at for row in seen), reverse=True)
    assert "Older" in alice.get("/notifications").content.decode()
    assert alice.get("/notifications", {"before": "nonsense"}).status_code == 200


def test_the_page_asks_a_constant_number_of_queries(world: World, alice: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert alice.get("/notifications").status_code == 200
        return len(asked)

    alice.get("/notifications")
    few = queries()
    log_rows(world, 40)
    for _ in range(10):
        PriceRule.objects.create(user=world.alice, symbols=["ETH"], condition="any")
    assert queries() == few <= 12


def test_the_api_shows_and_sets_and_pages(world: World) -> None:
    key = world.key(world.alice, "read", "rules")
    browser = Client()
    shown = browser.get("/api/notifications/settings", headers=key).json()
    assert shown["kinds"] == DEFAULT
    assert {one["channel"] for one in shown["channels"]} == {"inbox", "slack", "teams", "discord", "webhook"}
    body = {"kinds": ["stops"], "quiet_from": "22:00", "quiet_to": "07:00", "time_zone": "Europe/Berlin"}
    put = browser.put("/api/notifications/settings", body, content_type="application/json", headers=key)
    assert put.json()["kinds"] == ["stops"]
    choice = {"webhook": {"kinds": ["limits"], "severity": "critical"}}
    put = browser.put(
        "/api/notifications/settings",
        body | {"by_channel": choice},
        content_type="application/json",
        headers=key,
    )
    assert put.json()["by_channel"] == choice
    until = browser.put(
        "/api/notifications/snooze", {"hours": 2}, content_type="application/json", headers=key
    ).json()["snoozed_until"]
    assert until.endswith("Z")
    wrong = browser.put(
        "/api/notifications/settings", body | {"kinds": ["x"]}, content_type="application/json", headers=key
    )
    assert wrong.status_code == 422
    tested = browser.post(
        "/api/notifications/test", {"channel": "inbox"}, content_type="application/json", headers=key
    )
    assert tested.status_code == 202
    page = browser.get("/api/notifications/log?limit=1", headers=key).json()
    assert page["items"][0]["id"] == tested.json()["id"]
    assert browser.get("/api/notifications/log", {"before": page["next_before"]}, headers=key).json()["items"]
    assert browser.get("/api/notifications/log?before=x", headers=key).status_code == 422


def test_the_api_pauses_resumes_and_fires_a_rule(world: World) -> None:
    key, rule = world.key(world.alice, "read", "rules"), PriceRule.objects.get(user=world.alice)
    for action, state in (("pause", "PAUSED"), ("resume", "ACTIVE")):
        answer = Client().post(f"/api/market/rules/{rule.rule_id}/{action}", headers=key)
        assert answer.json()["state"] == state
    fired = Client().post(f"/api/market/rules/{rule.rule_id}/fire", headers=key)
    assert fired.status_code == 202
    assert "it matches now, ETH is at 2050 USD" in fired.json()["text"]
    other = world.key(world.bob, "read", "rules")
    assert Client().post(f"/api/market/rules/{rule.rule_id}/fire", headers=other).status_code == 404


def test_the_command_shows_sets_tests_and_lists(world: World) -> None:
    def run(*words: str) -> Any:
        out = StringIO()
        call_command("notifications", *words, "--user", "alice", "--json", stdout=out)
        return json.loads(out.getvalue())

    assert run("show")["quiet"] == "none"
    assert run("set", "--quiet", "22:00-07:00", "--zone", "Europe/Berlin", "--kinds", "stops") == {
        "user": "alice", "kinds": "stops", "quiet": "22:00 to 07:00 Europe/Berlin", "channels": "inbox",
    }  # fmt: skip
    assert run("set", "--quiet", "none", "--kinds", "none")["quiet"] == "none"
    assert run("test", "--channel", "inbox")["text"].startswith("Test message for alice")
    assert run("log")[0]["what"] == "Test message"
    with pytest.raises(CommandError, match="use 22:00-07:00"):
        run("set", "--quiet", "late")


ADDRESS = "0x52908400098527886E0F7030069857D2E4169EE7"


@pytest.fixture
def a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local chain has an endpoint."""
    monkeypatch.setenv("MAXXIT_LOCAL_RPC", "http://127.0.0.1:1")


def test_a_customer_watches_an_address_and_ends_it(world: World, alice: Client, a_chain: None) -> None:
    answer = send(alice, "watch", chain="local", address=ADDRESS, label="Cold", min_usd="1000")
    assert "Transfers of Cold are reported from now on." in answer.content.decode()
    row = WatchedAddress.objects.get(address=ADDRESS)
    assert (row.user, row.private, row.min_usd, row.chain_id) == (world.alice, True, 1000, 31337)
    page = alice.get("/notifications").content.decode()
    assert ADDRESS in page
    assert "from 1,000.00 USD" in page
    bob = world.logged_in(world.bob)
    assert ADDRESS not in bob.get("/notifications").content.decode()
    assert send(bob, "end-watch", watched=row.pk).status_code == 404
    for garbage in ("", "x", "9" * 40):
        assert send(alice, "end-watch", watched=garbage).status_code == 404
    assert "are reported no more" in send(alice, "end-watch", watched=row.pk).content.decode()
    assert not WatchedAddress.objects.filter(pk=row.pk).exists()


def test_an_address_that_cannot_be_watched_is_refused_beside_its_field(alice: Client, a_chain: None) -> None:
    wrong = send(alice, "watch", chain="local", address=ADDRESS.lower(), min_usd="-1")
    assert wrong.status_code == 422
    form = wrong.context["watched_form"]
    assert "checksum" in str(form.errors["address"])
    assert "give 0 or more" in str(
        send(alice, "watch", chain="local", address=ADDRESS, min_usd="-1")
        .context["watched_form"]
        .errors["min_usd"]
    )
    assert "chain" in send(alice, "watch", chain="moon", address=ADDRESS).context["watched_form"].errors
    assert f'value="{ADDRESS.lower()}"' in wrong.content.decode()


def test_without_a_chain_that_is_read_the_page_offers_none(alice: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(transfers, "watchable", dict)
    assert "No chain is read here" in alice.get("/notifications").content.decode()


def test_the_api_watches_an_address_for_its_user_alone(world: World, a_chain: None) -> None:
    def call(who: Any, method: str, path: str = "", **body: str) -> Any:
        key = world.key(who, "read", "rules")
        return getattr(Client(), method)(
            f"/api/market/addresses{path}", body or None, content_type="application/json", headers=key
        )

    made = call(world.alice, "post", chain="local", address=ADDRESS, label="Cold", min_usd="5")
    assert made.status_code == 201
    assert (made.json()["chain"], made.json()["private"]) == ("local", True)
    listed = Client().get("/api/market/addresses", headers=world.key(world.alice, "read")).json()
    assert ([one["address"] for one in listed["items"]], "local" in listed["chains"]) == ([ADDRESS], True)
    assert Client().get("/api/market/addresses", headers=world.key(world.bob, "read")).json()["count"] == 0
    again = call(world.alice, "post", chain="local", address=ADDRESS)
    assert (again.status_code, again.json()["detail"][0]["where"]) == (422, "address")
    where = f"/{made.json()['id']}"
    assert call(world.bob, "delete", where).status_code == 404
    assert call(world.alice, "delete", where).json()["address"] == ADDRESS
    assert call(world.alice, "delete", where).status_code == 404
