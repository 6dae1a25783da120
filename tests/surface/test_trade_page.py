"""The trade page: six steps, costs, PnL at the newest quote, and a button that closes once."""

import json
import re
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from maxxit.access import groups
from maxxit.events.models import Event
from maxxit.reports.trades.trade import trade
from maxxit.reports.trades.trade import trade as trade_figures
from positions.models import Position
from positions.performance import pnl
from tests import builders
from tests.surface.conftest import World
from trading import gate, ledger
from trading.models import Fill, JournalKind, Order


def filled(position: Position, fee: str = "0.8") -> Position:
    """The entry fill of a position that `builders.position` made."""
    entry = position.entry_order
    Order.objects.filter(pk=entry.pk).update(reference_price=Decimal(1990), notional_usd=Decimal(800))
    Fill.objects.create(
        order=entry, venue_fill_id=f"v{entry.pk}", quantity=position.quantity, price=position.entry_price,
        cash=position.quantity * position.entry_price, fee=Decimal(fee), at=position.opened_at,
    )  # fmt: skip
    return position


@pytest.fixture
def open_position(world: World) -> Position:
    """Alice's open position: 0.4 ETH bought at 2000, quoted at 2050."""
    return filled(world.of_alice.open_position)


def test_pnl_now_is_what_is_left_at_the_quote_less_the_fees_so_far(
    world: World, open_position: Position
) -> None:
    row = trade(open_position.pk, world.alice)
    assert row.now is not None
    assert (row.now.value, row.now.pnl, row.result) == (Decimal(820), Decimal("19.2"), Decimal("19.2"))
    assert row.close_text == "Close 0.4 ETH, about 820 USD, PnL +19.20"
    (slip,) = row.charges.slippage
    assert (slip.reference, slip.usd) == (Decimal(1990), Decimal("4.0"))
    builders.price("ETH", "1900")
    assert trade(open_position.pk).close_text == "Close 0.4 ETH, about 760 USD, PnL −40.80"


def test_the_step_of_the_signal_names_the_forecasts_that_were_used_or_lacking(
    world: World, open_position: Position
) -> None:
    signal = open_position.signal
    assert signal is not None
    signal.risk_model = {"inputs": {"forecast": {"reason": "no_model"}}}
    signal.save()
    [step] = [one for one in trade(open_position.pk, world.alice).steps if one.name == "signal"]
    assert step.lines[-1].startswith("Direction forecast: none, counts as 0 (no_model: ")


def test_fills_that_are_not_booked_yet_do_not_count(world: World, open_position: Position) -> None:
    """Of the entry none beyond the position's quantity; of the closing order they are sold already."""
    Position.objects.filter(pk=open_position.pk).update(quantity=Decimal("0.2"))
    row = trade(open_position.pk)
    assert row.now is not None
    assert row.now.pnl == Decimal("9.2")  # 0.2 × 50 less the fee of 0.8
    out = builders.order(
        open_position.deployment, purpose="close", side="sell", state="partially_filled",
        closes=open_position.entry_order, quantity=Decimal("0.2"), filled_quantity=Decimal("0.1"),
    )  # fmt: skip
    Fill.objects.create(
        order=out, venue_fill_id="half", quantity=Decimal("0.1"), price=Decimal(2050), cash=Decimal(205),
        fee=Decimal("0.2"), at=open_position.opened_at,
    )  # fmt: skip
    Position.objects.filter(pk=open_position.pk).update(**{"state": "closing"}, exit_order=out)
    row = trade(open_position.pk)
    assert row.now is not None
    assert (row.now.quantity, row.now.pnl) == (Decimal("0.1"), Decimal("9.0"))


def test_a_short_gains_when_the_price_falls(world: World) -> None:
    short = filled(builders.position(world.of_alice.deployment, side="short"))
    assert trade(short.pk).result == Decimal("-20.8")
    assert pnl.gross("short", Decimal(800), Decimal(820)) == Decimal(-20)


def test_the_result_of_a_closed_trade_is_after_the_profit_share(world: World) -> None:
    own = world.of_alice
    Position.objects.filter(pk=own.position.pk).update(profit_share=Decimal("7.63"))
    Order.objects.filter(pk=own.exit.pk).update(closes=own.entry)
    row = trade(world.of_alice.position.pk, world.alice)
    assert (row.result, row.now, row.close_text) == (Decimal("30.53"), None, "")
    assert (row.charges.venue_fee, row.charges.total) == (Decimal("1.6"), Decimal("9.47"))
    assert {mark.what for mark in row.marks} == {"POST", "ENTRY", "EXIT"}


def test_gas_is_shown_as_paid_by_the_platform(world: World, open_position: Position) -> None:
    order = open_position.entry_order
    move = ledger.Move("executor:0x1", "gas:31337", "ETH", Decimal("0.0003"), "gas")
    ledger.post(JournalKind.GAS, "test-gas", [move], order=order)
    assert trade(open_position.pk).charges.gas == {"ETH": Decimal("0.0003")}
    assert "paid by Maxxit" in page(world, open_position.pk)


def page(world: World, position_id: int, who: User | None = None) -> str:
    return str(world.logged_in(who or world.alice).get(f"/trades/{position_id}").content.decode())


def test_the_page_shows_six_steps_with_prompt_answer_and_events_folded(world: World) -> None:
    shown = page(world, world.of_alice.position.pk)
    for text in (
        "what does it say", "<details", "read as a call: long ETH", "says buy", "+38.16", "take profit", "2100",
        'class="step post"', 'class="step reading"', 'class="step signal"', 'class="step order"',
        'class="step fill"', 'class="step result"', "position.closed", "trade-data",
    ):  # fmt: skip
        assert text in shown, text
    assert "Close 0.4" not in shown


def test_another_customers_trade_is_not_found(world: World) -> None:
    theirs = world.of_bob.open_position.pk
    browser = world.logged_in(world.alice)
    assert browser.get(f"/trades/{theirs}").status_code == 404
    assert browser.get(f"/trades/{theirs}/figures").status_code == 404
    assert browser.post(f"/trades/{theirs}").status_code == 404
    headers = world.key(world.alice, "read", "trade")
    assert Client().get(f"/api/trades/{theirs}", headers=headers).status_code == 404
    assert Client().post(f"/api/trades/{theirs}/close", headers=headers).status_code == 404
    assert Position.objects.get(pk=theirs).state == "open"


def test_a_double_click_closes_once_and_says_so(world: World, open_position: Position) -> None:
    browser = world.logged_in(world.alice)
    url = f"/trades/{open_position.pk}"
    first = browser.post(url, follow=True).content.decode()
    assert f"Position {open_position.pk} (ETH) is closing: the order is on its way." in first
    second = browser.post(url, follow=True).content.decode()
    assert "is closing already (manual): nothing was done." in second
    assert Order.objects.filter(closes=open_position.entry_order).count() == 1
    assert [event.data["by"] for event in Event.objects.filter(name="position.close_requested")] == ["alice"]
    third = browser.post(f"/trades/{world.of_alice.position.pk}", follow=True).content.decode()
    assert "is closed already" in third


def test_the_form_of_the_page_takes_effect_once(world: World, open_position: Position) -> None:
    browser, url = world.logged_in(world.alice), f"/trades/{open_position.pk}"
    token = re.search(r'name="once" value="([^"]+)"', page(world, open_position.pk))
    assert token is not None
    assert "is closing" in browser.post(url, {"once": token[1]}, follow=True).content.decode()
    Position.objects.filter(pk=open_position.pk).update(**{"state": "open"})  # its closing order was refused
    assert "sent before" in browser.post(url, {"once": token[1]}, follow=True).content.decode()
    assert Order.objects.filter(closes=open_position.entry_order).count() == 1


def test_a_closed_gate_keeps_the_position_open_and_names_the_reason(
    world: World, open_position: Position
) -> None:
    gate.set_dry_run("paper", True, by="test", reason="lunch")
    shown = world.logged_in(world.alice).post(f"/trades/{open_position.pk}", follow=True).content.decode()
    assert "stays open: dry run is on for the venue" in shown
    assert not Event.objects.filter(name="position.close_requested").exists()
    answer = Client().post(f"/api/trades/{open_position.pk}/close", headers=world.key(world.alice, "trade"))
    assert (answer.status_code, answer.json()["code"]) == (409, "not_closed")


def test_closing_needs_the_token_the_owner_or_the_permission(world: World, open_position: Position) -> None:
    url = f"/trades/{open_position.pk}"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(world.alice)
    assert strict.post(url).status_code == 403
    support = User.objects.create_user("support", is_staff=True)
    support.groups.add(Group.objects.get(name=groups.SUPPORT))
    assert '<form method="post" action="/trades/' not in page(world, open_position.pk, support)
    assert world.logged_in(support).post(url).status_code == 403
    assert Client().post(f"/api{url}/close", headers=world.key(world.alice, "read")).status_code == 403
    assert Position.objects.get(pk=open_position.pk).state == "open"
    assert world.logged_in(world.staff).post(url).status_code == 302
    assert Position.objects.get(pk=open_position.pk).state == "closing"


def test_api_and_command_give_the_same_trade(world: World, open_position: Position) -> None:
    answer = Client().get(f"/api/trades/{open_position.pk}", headers=world.key(world.alice)).json()
    out = StringIO()
    call_command("trade", "show", str(open_position.pk), "--json", stdout=out)
    printed = json.loads(out.getvalue())
    answer["now"].pop("at"), printed["now"].pop("at")
    answer["chart"].pop("before"), printed["chart"].pop("before")
    assert answer == printed
    assert [step["name"] for step in answer["steps"]] == [
        "post",
        "reading",
        "signal",
        "order",
        "fill",
        "result",
    ]
    out = StringIO()
    call_command("trade", "show", str(world.of_alice.position.pk), "--full", stdout=out)
    assert "what does it say" in out.getvalue()
    for started in (True, False):
        out = StringIO()
        call_command("trade", "close", str(open_position.pk), "--by=me", "--json", stdout=out)
        assert json.loads(out.getvalue())["started"] is started


def test_a_trace_with_one_position_leads_to_its_trade(world: World) -> None:
    own = world.of_alice
    browser = world.logged_in(world.alice)
    assert (
        browser.get(f"/chain/{own.post.correlation_id}").headers["Location"] == f"/trades/{own.position.pk}"
    )
    assert browser.get(f"/chain/{own.post.correlation_id}?whole=1").status_code == 200
    assert browser.get(f"/chain/{own.blocked.correlation_id}").status_code == 200
    builders.position(builders.deployment(own.agent, owner=world.alice), by=own.signal)
    assert browser.get(f"/chain/{own.post.correlation_id}").status_code == 200


def test_the_refreshed_figures_read_no_trace_and_no_posts(world: World, open_position: Position) -> None:
    browser = world.logged_in(world.alice)
    for position, text in ((open_position, "+19.20"), (world.of_alice.position, "+38.16")):
        with CaptureQueriesContext(connection) as done:
            shown = browser.get(f"/trades/{position.pk}/figures").content.decode()
        assert text in shown
        read = " ".join(query["sql"] for query in done.captured_queries)
        for table in ("llm_traces", "events", "ct_posts", "candles", "ledger_entries e", '"ledger_entries"'):
            assert f" {table}" not in read.replace('"', ""), table
    assert trade_figures(open_position.pk).result == trade(open_position.pk).result


def test_the_time_of_a_quote_names_its_zone(world: World, open_position: Position) -> None:
    page = world.logged_in(world.alice).get(f"/trades/{open_position.pk}").content.decode()
    assert re.search(r'title="quote of [\d-]{10} [\d:]{8} UTC"', page)


def test_the_number_of_queries_does_not_grow(world: World, open_position: Position) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as done:
            trade(open_position.pk, world.alice)
        return len(done.captured_queries)

    few = queries()
    entry = open_position.entry_order
    for _ in range(5):
        builders.order(
            open_position.deployment,
            purpose="close",
            side="sell",
            state="rejected",
            closes=entry,
            reason="no_price",
        )
    assert queries() == few <= 16


def test_without_a_quote_nothing_is_made_up(world: World, open_position: Position) -> None:
    from maxxit.market.models import Quote

    Quote.objects.all().delete()
    row: Any = trade(open_position.pk, world.alice)
    assert (row.now, row.result) == (None, None)
    assert "no quote" in page(world, open_position.pk)
