"""The page *What if* of a trade: the same entry under other settings."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from maxxit.backtest import what_if
from maxxit.core import clock
from maxxit.market.feeds.bars import BAR
from maxxit.market.models import Candle
from positions.models import Position
from signals_app.decision_inputs import as_json
from signals_app.evidence.base import Call
from tests.browser import Page
from tests.signals_app.test_score import rules
from tests.surface.conftest import World
from tests.surface.test_browser import shot

D = Decimal


@pytest.fixture
def closed(world: World) -> Position:
    """Alice's closed trade: long 0.4 ETH from 2000 an hour ago. Since then 2010, 2041, 1990, and 2130 now."""
    own = world.of_alice
    signal = own.signal
    call = Call(own.post.pk, "long", D("0.9"), D("0.5"), own.post.account_id)
    signal.risk_model = {"weights": {"tweet": 100}, "inputs": as_json(rules(), [call], None, None)}
    signal.market = {**MARKET}
    signal.confidence, signal.stop_loss_pct, signal.take_profit_pct = D("0.72"), D(6), D(18)
    signal.size_model = {"preset": "moderate", "posts": 1, "tier": "high", "size": "0.08"}
    signal.entry_price = D(1990)
    signal.save()
    own.agent.exit_preset = "signal"
    own.agent.save()
    position = own.position
    Position.objects.filter(pk=position.pk).update(opened_at=clock.now() - timedelta(hours=1))
    begun = clock.bucket(clock.now() - timedelta(hours=1), BAR)
    for number, close in enumerate(("2010", "2041", "1990", "2130"), start=1):
        prices = dict.fromkeys(("open", "high", "low", "close"), D(close))
        Candle.objects.create(symbol="ETH", open_time=begun + number * BAR, **prices)
    return Position.objects.get(pk=position.pk)


MARKET = {
    "close": 2000.0, "rsi": 50.0, "macd_histogram": 0.0, "bollinger_b": 0.5, "volume_z": 0.0, "fast_average": 2000.0,
    "slow_average": 2000.0, "momentum_pct": 0.0, "atr_pct": 1.0, "volatility_pct": 1.0, "ewma_pct": 1.0,
}  # fmt: skip


def shown(world: World, position: Position, **given: str) -> str:
    answer = world.logged_in(world.alice).get(f"/trades/{position.pk}/what-if", given)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_another_preset_leaves_at_another_close(world: World, closed: Position) -> None:
    text = shown(world, closed, exit_preset="conservative")
    assert "take profit" in text
    assert "2,040" in text, "2 % above the entry, reached by the close of 2041"
    assert "+38.16" in text, "what it was"
    fees = closed.fees / (D("0.4") * 4100) * D("0.4") * 4041
    assert f"+{D('0.4') * 41 - fees:.2f}" in text


def test_a_smaller_preset_trades_less(world: World, closed: Position) -> None:
    text = shown(world, closed, sizing_preset="conservative")
    assert "0.2" in text


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"min_confidence": "0.9"}, "no signal (below_threshold: 0.72"),
        ({"price_band_pct": "0.1"}, "blocked (price_band: 0.50 %, limit 0.1 %)"),
    ],
)
def test_stricter_settings_would_not_have_entered(
    world: World, closed: Position, given: dict[str, str], why: str
) -> None:
    assert why in shown(world, closed, **given)


def test_what_is_missing_or_wrong_is_said(world: World, closed: Position) -> None:
    assert "Ensure this value is less than or equal to 1" in shown(world, closed, min_confidence="2")
    Candle.objects.filter(symbol="ETH").delete()
    assert "No five-minute candle is stored since its entry yet." in shown(world, closed)
    theirs = world.of_bob.position.pk
    assert world.logged_in(world.bob).get(f"/trades/{theirs}/what-if").status_code == 200
    assert world.logged_in(world.alice).get(f"/trades/{theirs}/what-if").status_code == 404
    assert "cannot be decided again" in " ".join(
        world.logged_in(world.bob).get(f"/trades/{theirs}/what-if").content.decode().split()
    )


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_people_try_other_settings_by_the_form(
    world: World, closed: Position, live_server: Any, tab: Page
) -> None:
    tab.open(f"{live_server.url}/login?next=/trades/{closed.pk}")
    tab.type("#id_username", "alice")
    tab.type("#id_password", "nor is this one 2")
    tab.following(lambda: tab.press("Enter"))
    tab.following(lambda: tab.click("a[href$='/what-if']"))
    tab.type("#what-if-min_confidence", "0.9")
    tab.following(lambda: tab.press("Enter"))
    shot(tab, "what-if")
    assert "no signal (below_threshold: 0.72" in tab.text("main")


def test_closes_after_the_longest_holding_are_not_read(world: World, closed: Position) -> None:
    since = closed.opened_at
    for hours in (1, 2, 3):
        at, prices = since + timedelta(hours=hours), dict.fromkeys(("open", "high", "low", "close"), D(2000))
        Candle.objects.create(symbol="SOL", open_time=at, **prices)
    closes = what_if.Closes("SOL", since, since + timedelta(hours=1, minutes=30))
    assert [at - since - BAR for at, _ in closes.rows] == [timedelta(hours=1), timedelta(hours=2)]
