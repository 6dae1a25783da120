"""Leverage, liquidation price, margin ratio and funding of a position: pages, commands, API, CSV and statement."""

import csv
import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from maxxit.core.money import plain
from maxxit.events.models import Event
from maxxit.reports.owners import exports
from maxxit.reports.scope import scope_of
from maxxit.reports.statement import BEGINNING, statement
from maxxit.reports.trades import trade
from positions import book, liquidations
from positions.margins import attach
from positions.models import Position
from positions.tasks import margin_pass
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.passes import execute_pass
from trading import settle
from trading.perps.margin import MarginFacts
from trading.venues.paper import PaperVenue

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def held(perps: PaperVenue, deployment: Any, time: RecordedClock) -> Position:
    """A long with leverage 5 that paid funding once, at 1,800 USD."""
    make.signal(deployment.agent, leverage=D(5), stop_loss_pct=D(10), take_profit_pct=D(20))
    execute_pass()
    book.book()
    time.to(T0 + timedelta(hours=4))
    make.price("ETH", "1800")
    margin_pass()
    return Position.objects.get()


@pytest.fixture
def facts(held: Position) -> MarginFacts:
    """What is shown of it."""
    [row] = attach(Position.objects.select_related("entry_order"))
    assert row.margin is not None
    return row.margin


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(get_user_model().objects.create_superuser("root"))
    return client


def ended(position: Position) -> Position:
    """The price falls through everything."""
    make.price("ETH", "1000")
    assert liquidations.adopt() == 1
    settle.settle_due("close")
    book.book()
    position.refresh_from_db()
    return position


def test_the_figures_are_those_of_the_venue(held: Position, facts: MarginFacts) -> None:
    assert facts.held is not None
    assert facts.leverage == facts.held.leverage == 5
    level, ratio, room = facts.liquidation_price, facts.ratio, facts.room
    assert level is not None
    assert ratio is not None
    assert room is not None
    assert held.entry_price * D("0.84") < level < held.entry_price * D("0.85")
    assert abs(ratio - D("0.05") * 1800 * held.quantity / facts.held.margin) < D("0.0001")
    assert abs(room - (1800 - level) * 5 / held.entry_price) < D("1e-9")
    assert facts.funding == -(D("0.0005") * held.quantity * 1800).quantize(D("0.000001"), "ROUND_CEILING")


def test_the_pages_show_them(held: Position, facts: MarginFacts, staff: Client) -> None:
    level = f"{facts.liquidation_price:,.2f}"
    page = staff.get("/").content.decode()
    assert f"5×, liquidation {level}, margin ratio " in page
    assert f"funding {facts.funding:+,.2f}" in page
    page = staff.get(f"/trades/{held.pk}").content.decode()
    for text in (
        "Leverage, isolated margin",
        "Liquidation, USD",
        level,
        "Margin ratio",
        "PnL with funding, USDC",
    ):
        assert text in page
    ended(held)
    page = staff.get("/").content.decode()
    assert f"with funding {facts.funding:+,.2f}: {held.net + facts.funding:+,.2f}" in page


def test_a_trades_pnl_says_how_much_of_it_is_funding(held: Position, facts: MarginFacts) -> None:
    told, funding = trade.trade(held.pk).as_json(), trade.signed(facts.funding)
    assert D(told["result_with_funding"]) - D(told["result"]) == facts.funding == D(told["margin"]["funding"])
    assert told["chart"]["levels"]["liquidation"] == told["margin"]["liquidation_price"]
    assert f"funding so far {funding} USDC" in " ".join(told["steps"][-1]["lines"])
    ended(held)
    told = trade.trade(held.pk).as_json()
    assert D(told["result"]) == held.net
    assert D(told["result_with_funding"]) == held.net + facts.funding
    lines = " ".join(told["steps"][-1]["lines"])
    assert "closed by liquidated" in lines
    assert f"funding {funding} USDC beside it: " in lines


def test_api_and_commands_show_them(held: Position, facts: MarginFacts, staff: Client) -> None:
    shown = facts.as_json()
    [item] = staff.get("/api/db/positions").json()["items"]
    assert item["margin"] == shown
    [row] = [one for one in staff.get("/api/holdings").json()["items"] if one["asset"] == "ETH"] or [None]
    assert row is None or row["margin"] == [shown]
    for command in ("positions", "portfolio"):
        out = StringIO()
        call_command(command, stdout=out)
        text = out.getvalue()
        for head in ("leverage", "liquidation (USD)", "margin ratio", "funding (USDC)"):
            assert head in text, command
        assert f"{facts.ratio * 100:.1f} %" in text  # type: ignore[operator]
    out = StringIO()
    call_command("positions", "--json", stdout=out)
    holdings = {one["asset"]: one for one in json.loads(out.getvalue())["holdings"]}
    assert holdings["ETH"]["margin"] == [shown]
    assert holdings["USDC"]["margin"] == []


def test_the_csv_of_trades_has_them(held: Position, facts: MarginFacts) -> None:
    [row] = csv.DictReader(exports.trades_csv(scope_of(None)))
    assert (D(row["leverage"]), D(row["funding_usdc"])) == (5, facts.funding)
    assert D(row["liquidation_price_usd"]) == facts.liquidation_price
    assert D(row["margin_ratio_pct"]) == D(facts.as_json()["margin_ratio_pct"])
    assert row["pnl_with_funding_usdc"] == ""
    ended(held)
    [row] = csv.DictReader(exports.trades_csv(scope_of(None)))
    assert D(row["pnl_with_funding_usdc"]) == D(row["pnl_usdc"]) + facts.funding
    assert (row["liquidation_price_usd"], row["margin_ratio_pct"]) == ("", "")


def test_the_statement_names_funding_and_the_positions_with_margin(
    held: Position, facts: MarginFacts, time: RecordedClock
) -> None:
    time.move(seconds=1)
    told = statement(held.deployment, BEGINNING, time.now).as_json()
    [line] = [line for line in told["lines"] if line["kind"] == "funding"]
    assert (line["what"], line["amount"]) == ("funding ETH", plain(facts.funding))
    [row] = told["margin"]
    assert row == {"position": held.pk, "symbol": "ETH", "side": "long", "status": "open"} | facts.as_json()
    out = StringIO()
    call_command("statement", str(held.deployment_id), stdout=out)
    assert "positions with margin:" in out.getvalue()
    later = statement(held.deployment, time.now, time.now + timedelta(days=1))
    assert [row.pk for row in later.margin] == [held.pk], "it is still open"


def test_without_a_venue_with_margin_nothing_of_it_is_shown(
    db: None, time: RecordedClock, staff: Client
) -> None:
    make.price("ETH", "2000")
    deployment = make.deployment(make.agent())
    make.position(deployment)
    assert attach(Position.objects.all())[0].margin is None
    assert "liquidation" not in staff.get("/").content.decode()
    [row] = csv.DictReader(exports.trades_csv(scope_of(None)))
    assert (row["leverage"], row["funding_usdc"]) == ("", "")
    assert statement(deployment, BEGINNING, time.now + timedelta(days=1)).as_json()["margin"] == []
    out = StringIO()
    call_command("portfolio", stdout=out)
    assert "margin ratio" not in out.getvalue()


def test_a_liquidation_is_told_to_its_owner(held: Position) -> None:
    ended(held)
    event = Event.objects.get(name="position.liquidated")
    assert event.data["severity"] == "critical"
    assert event.data["text"].startswith("Liquidated: paper_perps closed ")
    assert f"/trades/{held.pk}" in event.data["text"]
