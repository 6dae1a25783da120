"""A run on a made-up tape: deterministic, its money adds up, and a changed rule is found as the first difference."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from maxxit.backtest.equal import compare
from maxxit.backtest.figures import cautions, equity_curve, figures_of
from maxxit.backtest.run import Backtest
from maxxit.backtest.trades import taped
from maxxit.core.errors import Misconfigured
from maxxit.core.money import usdc
from maxxit.replay import tape as tapes
from tests.backtest.tapes import small_tape


def test_a_tape_is_read_as_it_was_written(tmp_path: Path) -> None:
    tape, path = small_tape(), tmp_path / "a.tape"
    tapes.write(tape, path)

    assert tapes.read(path) == tape
    assert path.read_bytes() == small_tape().to_bytes()
    assert tapes.read(path).digest == tape.digest != small_tape(seed=2).digest


@pytest.mark.parametrize("content", [b"", b"not gzip", None])
def test_what_is_no_tape_is_refused_with_the_way_to_one(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(Misconfigured, match=r"a\.tape .*manage.py replay --tape FILE"):
        tapes.read(path)


def test_the_same_settings_give_the_same_trades_whatever_ran_before() -> None:
    backtest = Backtest(small_tape())
    first = backtest.run().traded.closed
    backtest.run({"exits.signal.trailing_pct": "0.5", "agents.Follower.weights.momentum": "90"})

    assert len(first) >= 5
    assert backtest.run().traded.closed == first == Backtest(small_tape()).run().traded.closed


def test_the_figures_add_up() -> None:
    backtest = Backtest(small_tape(days=6))
    outcome = backtest.run()
    figures = figures_of(outcome, backtest.market)

    closed = outcome.traded.closed
    assert figures.closed == len(closed) == sum(figures.by_reason.values())
    assert figures.orders == figures.closed + figures.open + sum(figures.blocked.values())
    for one in closed:
        sign = 1 if one.trade.side == "long" else -1
        assert one.pnl == sign * (one.exit.cash - one.trade.entry.cash) - one.fees
        assert one.fees > Decimal("0.2")
    if not figures.open:
        assert figures.net == figures.pnl - figures.profit_share
    assert figures.profit_share >= 0


def test_the_equity_of_a_day_is_what_closed_and_what_open_positions_are_worth() -> None:
    backtest = Backtest(small_tape(days=8))
    outcome, market = backtest.run(), backtest.market
    curve = equity_curve(outcome, market)

    for number, (place, moment) in enumerate(market.days[1:], start=1):
        equity = Decimal(10_000)
        trades = [(one.trade, one) for one in outcome.traded.closed]
        for trade, closed in [*trades, *((trade, None) for trade in outcome.traded.open)]:
            if closed is not None and closed.closed_at <= moment:
                equity += closed.pnl - closed.share
            elif trade.opened_at <= moment:
                quote = market.quote(trade.symbol, place)
                assert quote is not None
                equity += trade.entry.quantity * quote.price - trade.entry.cash
                equity -= trade.entry.fee + trade.platform_fee
        assert curve.at[number] == moment.timestamp()
        assert curve.equity[number] == int(usdc(equity) * 1_000_000)
    assert len(curve) == len(market.days)


@pytest.mark.parametrize(("days", "stated"), [(29, False), (30, True)])
def test_a_sharpe_ratio_is_stated_from_thirty_days_on(days: int, stated: bool) -> None:
    backtest = Backtest(small_tape(days=days))
    outcome = backtest.run()
    figures = figures_of(outcome, backtest.market)

    assert figures.days == days
    assert (figures.sharpe is not None) == stated
    assert any("Sharpe ratio" in text for text in cautions(outcome, figures)) != stated


def test_a_changed_rule_is_found_as_the_first_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = [taped(one) for one in Backtest(small_tape()).run().traded.closed]
    whole = compare(replayed, [taped(one) for one in Backtest(small_tape()).run().traded.closed])
    assert (whole.equal, whole.difference) == (len(replayed), "")

    monkeypatch.setattr("maxxit.backtest.trades.levels", _wider_levels)
    changed = compare(replayed, [taped(one) for one in Backtest(small_tape()).run().traded.closed])

    assert changed.equal < len(replayed)
    assert "paper:follower long ETH opened 2017-12-0" in changed.difference
    assert ": replay closed" in changed.difference


def test_what_the_depth_takes_at_once_is_one_fill_and_a_little_more_are_two() -> None:
    backtest = Backtest(small_tape())
    closed = backtest.run().traded.closed
    largest = max(max(one.trade.entry.cash, one.exit.cash) for one in closed)

    at_once = backtest.run({"venues.paper.depth_usd": str(int(largest) + 1)}).traded.closed
    in_two = backtest.run({"venues.paper.depth_usd": str(int(largest) - 5)}).traded.closed

    assert at_once == closed
    assert [one.trade.entry.quantity for one in in_two] == [one.trade.entry.quantity for one in closed]
    assert in_two != closed  # each part is rounded up to the next base unit


def test_another_profit_share_is_a_difference() -> None:
    closed = Backtest(small_tape()).run().traded.closed
    replayed = [taped(one) for one in closed]
    replayed[2] = replace(replayed[2], profit_share="0.5")

    found = compare(replayed, [taped(one) for one in closed])

    assert found.equal == len(replayed) - 1
    assert "profit share 0.5 USDC" in found.difference


def _wider_levels(rules: object, **given: object) -> object:
    from positions.exits.levels import levels

    half = Decimal(str(given["stop_loss_pct"])) / 2
    return levels(rules, **given | {"stop_loss_pct": half})  # type: ignore[arg-type]
