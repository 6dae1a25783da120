"""A position with margin that comes near its liquidation: told once for each approach, to its owner and to staff."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from maxxit.events.models import Event
from maxxit.market import venues
from maxxit.notify import alerts, kinds
from maxxit.notify.models import Alert
from positions import guard, liquidation_warnings
from positions.liquidation_warnings import Step, decide
from positions.models import Position
from positions.tasks import watch_risk
from tests import builders as make
from tests.builders import RecordedClock
from trading import gate
from trading.models import KillSwitch
from trading.perps import margin
from trading.perps.models import MarginPosition
from trading.risk.policy import policy

D = Decimal
RULES = policy().liquidation_warning
rooms = st.decimals(-2, 3, places=4)


@pytest.fixture
def position(db: None, time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> Position:
    """A long at 2,000 USD with leverage 5 that is liquidated at 1,684.21 USD, of Ann."""
    stanza = venues.VenuePolicy(adapter="paper", shorts=True, max_leverage=D(10), paper=True)
    monkeypatch.setattr(venues, "venues", lambda: {"paper": stanza})
    ann = User.objects.create_user("ann")
    made = make.position(make.booked_deployment(make.agent(), owner=ann))
    made.entry_order.leverage = D(5)
    made.entry_order.save()
    make.price("ETH", "2000")
    see(made, "1684.21")
    return made


def see(position: Position, level: str | None) -> None:
    """Let the venue report its margin."""
    one = margin.Margin("ETH", D(5), True, D(160), None if level is None else D(level), D("0.05"))
    margin.store("paper", position.entry_order.account, [one])


def at(usd: str) -> int:
    """Let the price be `usd`, and look; return how many warnings came of it."""
    make.price("ETH", usd)
    return liquidation_warnings.warn()


def test_a_warning_comes_once_for_each_approach(position: Position) -> None:
    """25 % of its margin, 80 USD, above 1,684.21: at 1,784.21; it is over at 35 %, 1,824.21."""
    looks = ["1900", "1785", "1784", "1784", "1700", "1800", "1780", "1824", "1790", "1825", "1784", "1700"]
    told = [at(usd) for usd in looks]
    assert told == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert Event.objects.filter(name="liquidation.near").count() == 2


def test_what_is_told_names_figures_and_what_to_do(position: Position) -> None:
    at("1770")
    event = Event.objects.get(name="liquidation.near")
    assert event.subject == f"positions.position/{position.pk}"
    assert event.data | {"text": ""} == {
        "owner_id": position.deployment.owner_id, "severity": "critical", "account": position.deployment.account,
        "venue": "paper", "symbol": "ETH", "side": "long", "price": "1770", "liquidation_price": "1684.21",
        "margin_ratio_pct": "52.06", "room_pct": "21.45", "leverage": "5", "text": "",
    }  # fmt: skip
    assert event.data["text"] == (
        f"Liquidation near: long ETH of {position.deployment.account} at paper is at 1770 USD and is liquidated at "
        "1684.21 USD, margin ratio 52 %. It can lose 21 % of its margin before that; a liquidation takes what is left "
        f"of the margin. Close the position (/trades/{position.pk}), or add margin at the venue."
    )


def test_owner_and_staff_are_alerted_also_in_quiet_hours(position: Position) -> None:
    User.objects.create_superuser("root")
    User.objects.create_user("bob")
    at("1770")
    alerts.write()
    rows = Alert.objects.filter(event__name="liquidation.near").order_by("user__username")
    assert [row.user.username for row in rows] == ["ann", "root"]
    assert alerts.text_of(rows[0]) == rows[0].event.data["text"]
    assert {"liquidation.near", "position.liquidated"} <= kinds.CRITICAL
    assert kinds.title("liquidation.near") == kinds.KINDS["liquidations"].title


def test_a_position_that_has_no_liquidation_price_or_no_quote_is_not_warned_of(position: Position) -> None:
    see(position, None)
    assert at("1") == 0
    see(position, "1684.21")
    make.Quote.objects.all().delete()
    assert liquidation_warnings.warn() == 0
    position.state = "closed"
    Position.objects.filter(pk=position.pk).update(state="closed", closed_at=position.opened_at)
    assert at("1700") == 0


def test_a_position_that_is_opened_anew_is_told_again(position: Position) -> None:
    assert at("1770") == 1
    margin.store("paper", position.entry_order.account, [])
    see(position, "1684.21")
    assert at("1770") == 1


def test_the_guard_stops_entries_of_an_account_whose_position_is_about_to_be_liquidated(
    position: Position, use_venue: Callable[[Any], None]
) -> None:
    account = position.deployment.account
    make.price("ETH", "1724.30")  # 10.02 % of the margin left
    assert "near_liquidation" not in guard.watch()
    make.price("ETH", "1724.20")
    assert "near_liquidation" in guard.watch()
    switch = KillSwitch.objects.get(cause="near_liquidation")
    assert (switch.account, switch.level) == (account, "no_entries")
    assert switch.reason == "near_liquidation is 10.00 % of its margin left, the limit is 10 %"
    assert gate.kill_level() == "", "and nobody else"


def test_the_job_of_the_guard_warns(position: Position) -> None:
    make.price("ETH", "1770")
    MarginPosition.objects.update(seen_at=position.opened_at)
    watch_risk()
    assert Event.objects.filter(name="liquidation.near").count() == 1


@given(st.lists(rooms, max_size=40))
def test_between_two_warnings_it_was_out_of_the_band(path: list[Decimal]) -> None:
    warned, cleared = False, True
    for room in path:
        step = decide(room, warned=warned, rules=RULES)
        if step == Step.WARN:
            assert room * 100 <= RULES.room_pct
            assert cleared, "never twice for one approach"
            warned, cleared = True, False
        elif step == Step.CLEAR:
            assert room * 100 >= RULES.clear_pct
            warned = False
        cleared = cleared or room * 100 >= RULES.clear_pct
        assert warned or room * 100 > RULES.room_pct, "no position in the band is without a warning"


def test_what_is_not_known_changes_nothing() -> None:
    assert decide(None, warned=True, rules=RULES) == decide(None, warned=False, rules=RULES) == Step.NOTHING
