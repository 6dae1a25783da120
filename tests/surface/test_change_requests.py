"""The page Change requests, and what commands, API and admin do of changes that need a second person."""

import json
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import NoReverseMatch, get_resolver, reverse

from maxxit.access import groups
from maxxit.market import venues
from maxxit.notify import alerts
from maxxit.notify.models import Alert
from maxxit.reports.checks import gates
from tests.surface.conftest import World
from tests.surface.test_operator_pages import staff, text
from trading import gate
from trading.models import ChangeRequest
from trading.operations import limit_overrides

PAGE = "operator-change-requests"


@pytest.fixture
def olga(world: World) -> Client:
    """An operator."""
    return world.logged_in(staff("olga", groups.OPERATORS))


@pytest.fixture
def rita(world: World) -> Client:
    """A risk officer."""
    return world.logged_in(staff("rita", groups.RISK_OFFICERS))


def told(*words: str) -> Any:
    out = StringIO()
    call_command(*words, "--json", stdout=out)
    return json.loads(out.getvalue())


def newest() -> ChangeRequest:
    return ChangeRequest.objects.latest("pk")


def send(browser: Client, do: str, **more: str) -> Any:
    row = newest()
    return browser.post(
        reverse(PAGE), {"do": do, "request": str(row.pk), "sha256": row.sha256} | more, follow=True
    )


def ask(browser: Client) -> Any:
    sent = {"limit": "max_trade_usd", "value": "9000", "reason": "a calm week"}
    step = browser.post(reverse("operator-limits"), sent | {"do": "check"}).content.decode()
    assert "Ask to set max_trade_usd to 9000" in step
    return browser.post(reverse("operator-limits"), sent | {"do": "set"}, follow=True)


def test_one_asks_on_the_page_of_limits_and_another_approves(olga: Client, rita: Client) -> None:
    answer = ask(olga).content.decode()
    assert "waits until another person approves it" in answer
    assert "another person has to approve it" in answer
    assert 'value="approve"' not in answer
    assert limit_overrides.overrides() == {}
    assert send(olga, "approve").status_code == 422
    page = text(rita, PAGE)
    assert "Approve max_trade_usd: 5000 → 9000" in page
    assert "a calm week" in page
    assert 'value="withdraw"' not in page
    done = send(rita, "approve").content.decode()
    assert f"Request {newest().pk} is applied." in done
    assert limit_overrides.overrides()["max_trade_usd"].value == 9000
    again = send(rita, "approve")
    assert again.status_code == 200
    assert ChangeRequest.objects.filter(state="applied").count() == 1


def test_refusing_and_withdrawing(olga: Client, rita: Client) -> None:
    ask(olga)
    assert send(olga, "refuse", reason="mine").status_code == 403
    assert send(rita, "withdraw").status_code == 422
    assert send(rita, "refuse", reason="").status_code == 422
    assert "is refused" in send(rita, "refuse", reason="too much").content.decode()
    ask(olga)
    assert "is withdrawn" in send(olga, "withdraw").content.decode()
    page = text(rita, PAGE)
    assert "too much" in page
    assert limit_overrides.overrides() == {}


def test_bad_forms_are_refused(olga: Client) -> None:
    for sent in ({"do": "approve"}, {"do": "x", "request": "1"}, {"do": "approve", "request": "9" * 30}, {}):
        assert olga.post(reverse(PAGE), sent).status_code == 422, sent
    for sent in (
        {"kind": "raise_limit", "venue": "paper"},
        {"kind": "open_gate", "venue": "*"},
        {"kind": "open_gate", "venue": "moon"},
        {"kind": "approve_orders", "venue": "paper", "hours": "0"},
    ):
        answer = olga.post(reverse(PAGE), {"do": "ask", "reason": "drill"} | sent)
        assert answer.status_code == 422, sent


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> str:
    stanza = venues.VenuePolicy(adapter="alpaca", shorts=False, max_leverage=Decimal(1), paper=False)
    both = venues.venues() | {"alpaca": stanza}
    for module in ("maxxit.market", "trading", "trading.operations", "maxxit.web"):
        name = {"maxxit.market": "venues", "trading": "second_person", "trading.operations": "changes"}.get(
            module, "change_requests"
        )
        monkeypatch.setattr(f"{module}.{name}.venues", lambda: both)
    return "alpaca"


def test_a_gate_of_real_money_is_asked_for_on_the_page(olga: Client, rita: Client, real: str) -> None:
    for kind in ("open_gate", "approve_orders"):
        sent = {"do": "ask", "kind": kind, "venue": real, "hours": "2", "reason": "go live"}
        assert "waits until another person" in olga.post(reverse(PAGE), sent, follow=True).content.decode()
        assert "is applied" in send(rita, "approve").content.decode()
    assert not gate.read(real).dry_run
    assert gate.is_approved(real)


def test_commands_ask_and_two_people_who_are_logged_in_decide(olga: Client, rita: Client, real: str) -> None:
    asked = told("approve", real, "--hours=2", "--reason=watching", "--by=rita")["change_request"]
    assert (asked["state"], asked["confirmed"]) == ("requested", False)
    assert not gate.is_approved(real)
    assert told("gate", "open", real, "--reason=go live")["change_request"]["kind"] == "open_gate"
    limit = told("limits", "set", "max_trade_usd", "9000", "--reason=test")["change_request"]
    assert limit["changes"] == [{"what": "max_trade_usd", "old": "5000", "new": "9000"}]
    assert [row["id"] for row in told("approvals", "list")] == [asked["id"] + step for step in range(3)]
    assert "is refused" not in send(rita, "approve").content.decode()  # rita may not change limits
    assert "confirmed" in send(olga, "approve").content.decode()
    assert limit_overrides.overrides() == {}
    assert "is applied" in send(rita, "approve").content.decode()
    assert told("approvals", "show", str(limit["id"]))["decided_by"] == "rita"
    assert told("approvals", "refuse", str(asked["id"]), "--reason=not now", "--by=me")["state"] == "refused"
    assert told("approvals", "withdraw", str(asked["id"] + 1))["state"] == "withdrawn"
    assert told("approvals", "list") == []
    assert len(told("approvals", "list", "--all")) >= 3
    with pytest.raises(CommandError, match="invalid choice"):
        told("approvals", "approve", "1")
    with pytest.raises(CommandError, match="no request 999"):
        told("approvals", "show", "999999")
    assert told("gate", "close", real, "--reason=stop")["dry_run"] is True


def test_an_api_key_asks_and_identifies_nobody(world: World, olga: Client, rita: Client) -> None:
    key = world.key(world.staff, "admin")
    url, body = "/api/admin/limits/max_trade_usd", {"value": "9000", "reason": "test"}
    answer = Client().put(url, body, headers=key, content_type="application/json")
    assert (answer.status_code, answer.json()["confirmed"]) == (202, False)
    repeated = Client().put(url, body, headers=key, content_type="application/json")
    assert repeated.status_code == 409
    stricter = Client().put(url, body | {"value": "100"}, headers=key, content_type="application/json")
    assert stricter.status_code == 200
    own = world.logged_in(world.staff)
    send(own, "approve")
    assert newest().state == "stale"  # the stricter value came between
    assert limit_overrides.overrides()["max_trade_usd"].value == 100
    paths = [str(pattern.pattern) for pattern in get_resolver().url_patterns]
    assert [path for path in paths if "change-request" in path] == ["admin/change-requests"]
    withkey = Client().post(reverse(PAGE), {"do": "approve"}, headers=key)
    assert (withkey.status_code, "login" in withkey.headers["Location"]) == (302, True)


def test_a_superuser_edits_no_request_in_the_admin(world: World) -> None:
    boss = world.logged_in(world.staff)
    row = newest()
    url = reverse("admin:trading_changerequest_change", args=[row.pk])
    assert boss.get(url).status_code == 200
    assert boss.post(url, {"state": "applied"}).status_code == 403
    with pytest.raises(NoReverseMatch):
        reverse("admin:trading_changerequest_approve", args=[row.pk])
    assert boss.get(reverse("admin:trading_changerequest_add")).status_code == 403


def test_staff_is_alerted_and_health_says_where_one_person_suffices(
    olga: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(olga)
    alerts.write()
    heard = set(
        Alert.objects.filter(event__name="change_request.requested").values_list("user__username", flat=True)
    )
    assert heard == set(User.objects.filter(is_staff=True).values_list("username", flat=True))
    assert [check.name for check in gates() if check.name.startswith("second person")] == []
    why = "Ann runs this alone and decided so on 2026-11-30."
    monkeypatch.setattr("maxxit.reports.checks.one_person", lambda kind: why if kind == "raise_limit" else "")
    [check] = [check for check in gates() if check.name.startswith("second person")]
    assert (check.name, check.ok) == ("second person:raise_limit", True)
    assert why in check.detail


def test_an_owner_sets_their_limits_without_waiting_and_staff_does_not_raise_theirs_alone(
    world: World, real: str
) -> None:
    deployment = world.of_alice.deployment
    type(deployment.agent).objects.filter(pk=deployment.agent_id).update(venue=real)
    url = reverse("limits", args=[deployment.pk])
    for most in ("100", "200"):
        world.logged_in(world.alice).post(url, {"max_daily_usd": most})
        deployment.refresh_from_db()
        assert deployment.max_daily_usd == int(most)
    type(deployment).objects.filter(pk=deployment.pk).update(owner=world.staff)
    boss = world.logged_in(world.staff)
    answer = boss.post(url, {"max_daily_usd": "300"}, follow=True).content.decode()
    assert "waits until another person approves it" in answer
    boss.post(url, {"max_daily_usd": "50"})
    deployment.refresh_from_db()
    assert deployment.max_daily_usd == 50
    key = world.key(world.staff, "trade")
    api = Client().patch(
        f"/api/deployments/{deployment.pk}/limits", {"max_daily_usd": "60"}, headers=key,
        content_type="application/json",
    )  # fmt: skip
    assert (api.status_code, api.json()["kind"]) == (202, "raise_owner_limit")
    form = boss.get(reverse("admin:agents_deployment_change", args=[deployment.pk])).content.decode()
    assert 'name="max_daily_usd"' not in form


def test_a_key_in_a_header_does_not_spare_staff_the_second_factor(world: World, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = True
    browser = Client()
    browser.force_login(world.staff)
    for headers in ({}, {"Authorization": "Bearer x"}, {"X-API-Key": "x"}):
        answer = browser.get(reverse(PAGE), headers=headers)
        assert answer.headers.get("Location") == "/second-factor", headers
    key = world.key(world.staff, "read", "admin")
    assert Client().get("/api/admin/checklist", headers=key).status_code == 200
