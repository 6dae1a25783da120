"""An invoice is the ledger of a month, to the base unit."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Rejected
from tests import builders as make
from tests.builders import RecordedClock
from trading import ledger
from trading.billing import payments
from trading.billing.invoice import Invoice, invoice, parse_month
from trading.billing.subscriptions import add_months
from trading.ledger import Move
from trading.models import JournalKind, LedgerEntry

D = Decimal
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MONTHS = [add_months(BEGIN, number) for number in range(4)]
happened = st.tuples(
    st.sampled_from(("fee", "share", "taken fee", "taken share", "month", "pay", "deposit", "venue fee")),
    st.integers(0, 120 * 86_400 - 1),  # the last second of April
    st.integers(1, 30_000_000),
)


def book(of: Deployment, what: str, number: int, amount: Decimal) -> None:
    """One entry as the money path books it."""
    held, owed = ledger.account_of(of.pk), ledger.payable_of(of.pk)
    if what == "month":
        ledger.book_subscription(of.pk, str(number), amount)
    elif what == "pay":
        due = min(amount, -ledger.owed(of.pk))
        if due:
            payments.pay(of.pk, due, f"r{of.pk}-{number}", by="test")
    else:
        kind, move = {
            "fee": (JournalKind.FEE, Move(owed, "fees:platform", "USDC", amount, "platform_fee")),
            "share": (JournalKind.SHARE, Move(owed, "profit:platform", "USDC", amount, "profit_share")),
            "taken fee": (JournalKind.TAKEN, Move(held, "fees:platform", "USDC", amount, "platform_fee")),
            "taken share": (JournalKind.TAKEN, Move(held, "profit:platform", "USDC", amount, "profit_share")),
            "deposit": (JournalKind.EXTERNAL, Move("external", held, "USDC", amount, "external")),
            "venue fee": (JournalKind.FILL, Move(held, "venue:paper:fees", "USDC", amount, "venue_fee")),
        }[what]
        ledger.post(kind, f"test:{of.pk}:{number}", [move])


def by_ledger(of: Deployment, start: datetime, end: datetime) -> dict[str, Decimal]:
    """What the invoice has to say, read line by line in Python."""
    lines = list(LedgerEntry.objects.filter(deployment=of, asset="USDC"))
    owed = [line for line in lines if line.account == ledger.payable_of(of.pk)]
    held = [line for line in lines if line.account == ledger.account_of(of.pk)]

    def within(line: LedgerEntry) -> bool:
        return start <= line.at < end

    return {
        "opening": -sum((line.amount for line in owed if line.at < start), D(0)),
        "charged": -sum((line.amount for line in owed if within(line) and line.amount < 0), D(0)),
        "paid": sum((line.amount for line in owed if within(line) and line.amount > 0), D(0)),
        "collected": -sum(
            (line.amount for line in held if within(line) and line.kind in ("platform_fee", "profit_share")),
            D(0),
        ),
        "closing": -sum((line.amount for line in owed if line.at < end), D(0)),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(happened, max_size=25))
def test_every_month_is_the_ledger_to_the_unit_and_follows_the_one_before(
    db: None, time: RecordedClock, history: list[tuple[str, int, int]]
) -> None:
    """Random histories over four months."""
    agent = make.agent()
    of, other = make.deployment(agent, funded=False), make.deployment(agent, funded=False)
    for number, (what, second, amount) in enumerate(sorted(history, key=lambda one: one[1])):
        time.to(BEGIN + timedelta(seconds=second))
        book(of if number % 4 else other, what, number, D(amount).scaleb(-6))
    time.to(MONTHS[-1] + timedelta(days=40))
    before: Invoice | None = None
    for start in MONTHS:
        found = invoice(of, start)
        expected = by_ledger(of, found.start, found.end)
        assert {name: getattr(found, name) for name in expected} == expected
        assert found.opening + found.charged - found.paid == found.closing
        assert found.total == sum((line.amount for line in found.lines), D(0))
        assert before is None or before.closing == found.opening
        before = found
    assert before
    assert before.closing == -ledger.owed(of.pk)


@pytest.fixture
def deployment(db: None) -> Deployment:
    return make.deployment(make.agent(), funded=False)


def test_the_lines_count_trades_closed_positions_and_months(
    time: RecordedClock, deployment: Deployment
) -> None:
    for number in range(3):
        book(deployment, "fee", number, D("0.2"))
    book(deployment, "share", 3, D("2.5"))
    book(deployment, "taken share", 4, D(1))
    book(deployment, "month", 5, D(20))
    found = invoice(deployment, parse_month("2026-03"))

    assert [(str(line.kind), line.quantity, line.charged, line.collected) for line in found.lines] == [
        ("infra_fee", "3 trades", D("0.6"), 0),
        ("profit_share", "2 closed positions", D("2.5"), D(1)),
        ("subscription", "1 month", D(20), 0),
    ]
    assert (found.number, found.final, found.total) == (f"{deployment.pk}-2026-03", False, D("24.1"))
    time.move(days=40)
    assert invoice(deployment, parse_month("2026-03")).final


def test_the_json_of_an_invoice_is_complete_and_without_floats(deployment: Deployment) -> None:
    book(deployment, "fee", 1, D("0.2"))
    body = invoice(deployment, parse_month(f"{clock.now():%Y-%m}")).as_json()

    assert (body["charged"], body["collected"], body["closing"], body["chain"]) == ("0.2", "0", "0.2", None)
    assert body["terms"]["trade"] == "0.2 USDC per trade"
    assert not any(isinstance(value, float) for value in body.values())


@pytest.mark.parametrize("text", ["2026", "2026-13", "november", "2999-01", "2026-1-1", ""])
def test_a_month_is_a_past_or_the_present_one(text: str) -> None:
    with pytest.raises(Rejected, match=r"is not a month|has not begun"):
        parse_month(text)
