"""Positions and the ledger tell the same PnL, whatever happens; and a difference is found."""

import random
from dataclasses import replace
from decimal import Decimal as D

import pytest
from django.db import connection, transaction

from maxxit.events.models import Event
from maxxit.pipeline.stages import ALERTS
from positions.models import Position
from positions.performance.identity import check_books, read_books, read_each, read_identity
from tests import builders as make
from tests.positions.performance.histories import History
from tests.positions.test_book import again, entered, fills, leaving
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader
from trading import ledger
from trading.models import JournalKind, LedgerBalance


def differs_in(trader: Trader, seeds: range) -> list[str]:
    """Play one history per seed, some at a venue that collects fees, and list those whose books differ."""
    found = []
    for seed in seeds:
        collects = seed % 3 == 0
        trader.venue.capabilities = replace(trader.venue.capabilities, collects_fees=collects)
        with transaction.atomic():
            history = History(trader.agent, random.Random(seed), collects)
            for _ in range(3):
                history.play(8)
                identity = read_identity([history.deployment.pk])
                found += [f"seed {seed}: {books}" for books in identity.wrong]
                found += [f"seed {seed}: {identity.total.difference} in total"] * bool(
                    identity.total.difference
                )
                assert identity.unpriced == []
            quick = read_books([history.deployment.pk])
            found += [f"seed {seed}: {quick}"] * (quick != identity.total)
            found += [f"seed {seed}: each"] * (read_each([history.deployment.pk]) != identity)
            transaction.set_rollback(True)
    return found


def test_positions_and_ledger_tell_the_same_pnl_in_random_histories(trader: Trader) -> None:
    assert differs_in(trader, range(20)) == []


def test_they_do_at_a_venue_whose_cash_is_usd(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    stanza = ledger.venue_policy("paper").model_copy(update={"cash": "USD"})
    monkeypatch.setattr(ledger, "venue_policy", lambda name: stanza)
    assert differs_in(trader, range(100, 110)) == []
    make.booked_deployment(trader.agent)
    assert {*LedgerBalance.objects.filter(amount__gt=0).values_list("asset", flat=True)} == {"USDC", "USD"}


@pytest.mark.slow
def test_positions_and_ledger_tell_the_same_pnl_in_1000_random_histories(trader: Trader) -> None:
    assert differs_in(trader, range(1000, 2000)) == []


def test_the_parts_are_what_happened(trader: Trader) -> None:
    position = entered(trader)  # 0.4 ETH at 2,000: 800 USDC, fees 0.7
    make.price("ETH", "1970")

    books = read_identity().total
    assert (books.realised, books.unrealised) == (0, D("-12"))
    assert (books.venue_fees, books.platform_fees, books.pnl) == (D("0.5"), D("0.2"), D("-12.7"))
    fills(leaving(trader, position), "0.1", usd="2400", state="canceled")
    make.price("ETH", "2100")

    books = read_identity().total  # settled, and not booked yet
    assert (books.realised, books.unrealised, books.venue_fees) == (D(40), D(30), D(1))
    assert books.difference == 0


@pytest.mark.parametrize("column", ["realised_pnl", "fees", "profit_share"])
def test_a_figure_that_the_ledger_does_not_have_is_found(trader: Trader, column: str) -> None:
    position = entered(trader)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    assert read_identity().wrong == []

    Position.objects.filter(pk=position.pk).update(**{column: getattr(position, column) + D("0.000001")})
    [wrong] = read_identity().wrong
    expected = {"realised_pnl": (1, 0), "fees": (0, 1), "profit_share": (-1, 0)}[column]
    assert wrong.deployment == trader.deployment.pk
    assert (wrong.difference, wrong.fee_difference) == tuple(sign * D("0.000001") for sign in expected)


def test_money_that_no_position_has_earned_is_found(trader: Trader) -> None:
    entered(trader)
    move = ledger.Move(ledger.account_of(trader.deployment.pk), "venue:paper:fees", "USDC", D(3), "venue_fee")
    ledger.post(JournalKind.FILL, "extra", [move])

    [wrong] = read_identity().wrong
    assert wrong.difference == D(3)


def test_a_token_without_a_quote_is_said_and_not_counted(trader: Trader) -> None:
    entered(trader)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM quotes")

    assert read_identity().unpriced == [trader.deployment.pk]
    assert read_identity().deployments == []


def test_staff_is_told_once_of_books_that_differ(trader: Trader) -> None:
    position = entered(trader)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    assert (check_books().deployments, check_books().wrong) == (1, [])
    Position.objects.filter(pk=position.pk).update(realised_pnl=1000)

    assert [check_books().wrong for _ in range(2)] == [[trader.deployment.pk]] * 2
    [event] = Event.objects.filter(name="books.differ")
    assert event.subject == f"agents.deployment/{trader.deployment.pk}"
    assert "books.differ" in ALERTS
    Position.objects.filter(pk=position.pk).update(realised_pnl=position.realised_pnl)
    assert check_books().wrong == []
