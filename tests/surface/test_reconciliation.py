"""The commands reconcile, positions, portfolio and ops-snapshot, the page and the API of discovered holdings."""

import json
import re
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from agents.models import Agent, Deployment
from maxxit.core import clock, redact
from maxxit.pipeline.models import StageRun
from maxxit.reports.operators import checklist
from positions.models import Position
from tests import builders
from tests.surface.conftest import World
from trading.models import PaperBalance, VenueHolding


@pytest.fixture
def account(world: World) -> str:
    """Alice's paper account, with 3 SOL that nobody booked."""
    made = world.of_alice.deployment.account
    PaperBalance.objects.create(account=made, asset="SOL", amount=3)
    builders.price("SOL", "20")
    return made


def said(*words: str, code: int = 0) -> str:
    out = StringIO()
    if code:
        with pytest.raises(SystemExit) as ended:
            call_command(*words, stdout=out, no_color=True)
        assert ended.value.code == code
    else:
        call_command(*words, stdout=out, no_color=True)
    return out.getvalue()


def read(*words: str, code: int = 0) -> Any:
    return json.loads(said(*words, "--json", code=code))


# --- commands


def test_positions_reads_the_venues_and_says_what_was_opened_elsewhere(world: World, account: str) -> None:
    text = said("positions", "--account", account)
    assert "AUTO_DISCOVERED" in text
    assert f"{account} at paper: 3 SOL: opened or moved in elsewhere: the owner's own, and not traded" in text
    stored = read("positions", "--stored", "--account", account)
    assert stored["read"] == {}
    sol = next(row for row in stored["holdings"] if row["asset"] == "SOL")
    assert (sol["quantity"], sol["booked"], sol["origin"], sol["positions"]) == (
        "3",
        "0",
        "AUTO_DISCOVERED",
        [],
    )


def test_positions_asks_the_venues_for_the_accounts_of_its_scope_alone(world: World, account: str) -> None:
    assert read("positions", "--account", account)["read"]["accounts"] == 1
    assert {row.account for row in VenueHolding.objects.filter(venue="paper")} == {account}
    assert read("positions")["read"]["accounts"] > 1


def test_portfolio_shows_the_venues_and_the_pnl(world: World, account: str) -> None:
    said("positions")
    text = said("portfolio")
    assert "at the venues, as last read" in text
    assert "PnL today" in text
    shown = read("portfolio")
    assert {row["asset"] for row in shown["venues"] if row["account"] == account} >= {"SOL", "USDC"}


def test_reconcile_once_prints_the_cycle_and_fails_on_a_difference(world: World, account: str) -> None:
    text = said("reconcile", "--once", code=1)
    assert "RECONCILE_CYCLE pending_found=" in text
    assert "do: adopt it, so that it is closed by stop and target" in text
    found = read("reconcile", "--once", code=1)
    assert found["ok"] is False
    assert any(row["asset"] == "SOL" for row in found["differences"])


@pytest.mark.parametrize("what", ["--once", "--eod", "--chain"])
def test_an_interval_is_of_the_watch_alone(what: str) -> None:
    with pytest.raises(CommandError, match="--interval is of --watch"):
        said("reconcile", what, "--interval", "30")


def test_reconcile_adopts_with_a_reason(world: World, account: str) -> None:
    with pytest.raises(CommandError, match="needs a reason"):
        said("reconcile", "--adopt", account, "SOL", "3")
    made = read("reconcile", "--adopt", account, "SOL", "3", "--reason", "bought by hand")
    position = Position.objects.get(pk=made["position"])
    assert (position.symbol, position.quantity) == ("SOL", 3)
    staff = world.logged_in(world.staff)
    for url in (
        f"/trades/{position.pk}",
        reverse("activity"),
        f"/admin/positions/position/{position.pk}/change/",
    ):
        assert staff.get(url).status_code == 200, url


def test_reconcile_eod_ends_what_is_due_and_says_how(world: World) -> None:
    out = StringIO()
    with clock.frozen(clock.now() + timedelta(days=1)), suppress(SystemExit):
        call_command("reconcile", "--eod", "--json", stdout=out)
    done = json.loads(out.getvalue())
    assert [row["market"] for row in done["days"]] == ["crypto"]
    assert len(done["days"][0]["steps"]) == 5
    assert done["days"][0]["day"] > "2026-01-31"


def test_a_snapshot_has_every_section_and_no_secret(world: World, account: str, tmp_path: Path) -> None:
    redact.know("a-key-of-a-customer-at-a-venue")
    StageRun.objects.create(
        stage="execute", started_at=clock.now(), error="refused a-key-of-a-customer-at-a-venue"
    )
    path = tmp_path / "shift" / "now.md"
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("ops-snapshot", "--out", str(path), stdout=out)
    text = path.read_text()
    for name in ("Checks", "Jobs", "Gates", "Orders", "Positions", "Reconciliation", "Errors"):
        assert f"## {name}\n" in text
    assert "refused" in text
    assert "a-key-of-a-customer" not in text
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    shown = read("ops-snapshot", "--out", "-", "--format", "json", code=1)
    assert shown["path"] is None
    assert shown["snapshot"]["positions"]["open"] == Position.objects.exclude(state="closed").count()


def test_a_section_that_cannot_be_read_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maxxit.reports.operators import snapshot

    monkeypatch.setitem(snapshot.SECTIONS, "orders", lambda now: 1 / 0)
    taken = snapshot.snapshot()
    assert taken["orders"] == {"error": "cannot be read: division by zero"}
    assert "cannot be read: division by zero" in snapshot.markdown(taken)


# --- API and pages


def test_the_api_lists_holdings_of_ones_own_accounts(world: World, account: str) -> None:
    said("positions")
    mine = Client().get("/api/holdings?unexplained=true", headers=world.key(world.alice)).json()["items"]
    assert (account, "SOL") in {(row["account"], row["asset"]) for row in mine}
    assert {row["account"] for row in mine} == {account}
    assert not [row for row in mine if re.search(r"adopt|book", row["fix"])], "only staff can"
    staffs = Client().get("/api/holdings?unexplained=true", headers=world.key(world.staff)).json()["items"]
    assert "adopt it" in next(row["fix"] for row in staffs if row["asset"] == "SOL")
    others = Client().get("/api/holdings", headers=world.key(world.bob)).json()["items"]
    assert account not in {row["account"] for row in others}
    assert Client().get("/api/holdings?nope=1", headers=world.key(world.alice)).status_code == 422


def test_the_api_adopts_once(world: World, account: str) -> None:
    key = world.key(world.staff, "read", "admin")
    body = {"account": account, "asset": "SOL", "amount": "3", "reason": "bought by hand"}
    sent: dict[str, Any] = {"content_type": "application/json", "headers": key}
    made = Client().post("/api/admin/reconciliation/adopt", body, **sent)
    assert made.status_code == 200, made.content
    assert made.json()["symbol"] == "SOL"
    assert Client().post("/api/admin/reconciliation/adopt", body | {"amount": "1"}, **sent).status_code == 409


def test_the_page_shows_and_adopts_what_was_opened_elsewhere(world: World, account: str) -> None:
    said("positions")
    staff, url = world.logged_in(world.staff), reverse("operator-reconciliation")
    assert "AUTO_DISCOVERED" in staff.get(url).content.decode()
    shown = staff.post(url, {"do": "compare"}).content.decode()
    assert "Adopt 3 SOL as a position with stop and target" in shown
    sent = {"do": "adopt", "account": account, "asset": "SOL", "amount": "3", "reason": "bought by hand"}
    done = staff.post(url, sent, follow=True).content.decode()
    assert f"Adopted 3 SOL of {account} as position" in done


def test_an_owner_sees_what_is_not_traded(world: World, account: str) -> None:
    said("positions")
    page = world.logged_in(world.alice).get(reverse("my-agents")).content.decode()
    assert "3 SOL: yours, not traded by this agent" in page
    assert (
        "not traded by this agent"
        not in world.logged_in(world.bob).get(reverse("my-agents")).content.decode()
    )


def test_an_account_of_the_same_name_at_another_venue_stays_its_owners(world: World, account: str) -> None:
    """Bob's account at Alpaca has the name of Alice's paper account."""
    said("positions")
    bobs = world.of_bob.deployment
    Deployment.objects.filter(pk=bobs.pk).update(account=account)
    Agent.objects.filter(pk=bobs.agent_id).update(venue="alpaca")
    now = clock.now()
    amounts = {"quantity": 7, "booked": 7, "since": now, "seen_at": now}
    VenueHolding.objects.create(venue="alpaca", account=account, asset="ETH", **amounts)
    shown = Client().get("/api/holdings", headers=world.key(world.bob)).json()["items"]
    assert [(row["venue"], row["asset"]) for row in shown] == [("alpaca", "ETH")]
    assert shown[0]["positions"] == [world.of_bob.open_position.pk]
    alices = Client().get("/api/holdings", headers=world.key(world.alice)).json()["items"]
    assert {row["venue"] for row in alices} == {"paper"}
    page = world.logged_in(world.bob).get(reverse("my-agents")).content.decode()
    assert "not traded by this agent" not in page


# --- the checklist


@pytest.mark.django_db
def test_the_failed_passes_of_a_day_are_found_by_their_own_index() -> None:
    from django.db import connection

    StageRun.objects.create(stage="settle", started_at=clock.now(), error="boom")
    StageRun.objects.create(stage="execute", started_at=clock.now())
    since = clock.now().replace(hour=0, minute=0)
    assert checklist.failed_stages(since) == ["settle"]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = StageRun.objects.exclude(error="").filter(started_at__gt=since).explain()
    assert "stage_runs_failed" in plan
