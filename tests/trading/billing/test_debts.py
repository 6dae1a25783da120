"""What is owed and since when, by a model that pays the oldest charge first; alerts; payments."""

from collections import deque
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from positions.performance.equity import total_equity
from positions.performance.identity import read_identity
from tests import builders as make
from tests.builders import T0, RecordedClock
from trading import ledger
from trading.billing import debts, payments
from trading.billing.debts import alert_uncollected, uncollected

D = Decimal


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 50_000_000)), max_size=12))
def test_a_payment_repays_the_oldest_charge_first(
    db: None, time: RecordedClock, moves: list[tuple[bool, int]]
) -> None:
    """Random charges and payments against a queue."""
    deployment = make.deployment(make.agent(), funded=False)
    open_charges: deque[tuple[Any, int]] = deque()
    for number, (charge, amount) in enumerate(moves):
        at = time.move(hours=1)
        owed = sum(left for _, left in open_charges)
        if charge or not owed:
            ledger.book_subscription(deployment.pk, str(number), D(amount).scaleb(-6))
            open_charges.append((at, amount))
            continue
        paid = min(amount, owed)
        assert payments.pay(deployment.pk, D(paid).scaleb(-6), f"r{deployment.pk}-{number}", by="test")
        while paid:
            first, left = open_charges.popleft()
            if left > paid:
                open_charges.appendleft((first, left - paid))
            paid = max(paid - left, 0)
    found = debts.debts([deployment.pk])
    owed = sum(left for _, left in open_charges)

    assert [(debt.owed, debt.since) for debt in found] == (
        [(D(owed).scaleb(-6), open_charges[0][0])] if owed else []
    )
    assert ledger.drift() == {}


@pytest.fixture
def deployment(db: None) -> Deployment:
    return make.deployment(make.agent(), funded=False)


def owe(deployment: Deployment, usdc: str, reference: str = "1") -> None:
    ledger.book_subscription(deployment.pk, reference, D(usdc))


def test_a_debt_above_the_limit_alerts_at_once_and_again_after_the_days(
    time: RecordedClock, deployment: Deployment
) -> None:
    owe(deployment, "100")
    assert (uncollected(), alert_uncollected()) == ([], 0)

    owe(deployment, "0.000001", "2")
    assert [alert_uncollected() for _ in range(3)] == [1, 0, 0]
    time.move(days=7, seconds=1)
    assert alert_uncollected() == 1

    event = Event.objects.filter(name="billing.uncollected").first()
    assert event
    assert event.subject == f"agents.deployment/{deployment.pk}"
    assert event.data["owed"] == "100.000001 USDC"
    assert event.data["limit"] == "100 USDC or 35 days"


def test_a_small_debt_alerts_once_it_is_old(time: RecordedClock, deployment: Deployment) -> None:
    owe(deployment, "0.45")  # F19: 0.45 USDC were due, 0.00 collected, and nobody was told
    time.move(days=35)
    assert alert_uncollected() == 0
    time.move(seconds=1)

    assert alert_uncollected() == 1
    assert uncollected()[0].since == T0


def test_the_alerts_of_a_run_are_bounded_and_name_the_total(time: RecordedClock, db: None) -> None:
    agent = make.agent()
    for _ in range(debts.MOST_ALERTS + 3):
        owe(make.deployment(agent, funded=False), "101")

    assert [alert_uncollected() for _ in range(3)] == [debts.MOST_ALERTS, 3, 0]
    assert {event.data["all"] for event in Event.objects.filter(name="billing.uncollected")} == {
        f"{debts.MOST_ALERTS + 3} deployments, {101 * (debts.MOST_ALERTS + 3)} USDC"
    }


def test_both_alerts_reach_staff(db: None, settings: Any) -> None:
    assert {"billing.failed", "billing.uncollected"} <= set(settings.ALERTS)


def test_the_totals_are_those_of_all_debts(deployment: Deployment) -> None:
    other = make.deployment(deployment.agent, funded=False)
    owe(deployment, "12.5")
    owe(other, "150")

    assert debts.totals() == debts.Totals(D("162.5"), 1)
    assert [debt.deployment for debt in debts.debts()] == [other.pk, deployment.pk]


def test_a_payment_is_booked_once_and_repays_the_debt(deployment: Deployment) -> None:
    owe(deployment, "20")

    assert [payments.pay(deployment.pk, D("12.5"), "SEPA 17", by="op") for _ in range(3)] == [
        True,
        False,
        False,
    ]
    assert ledger.owed(deployment.pk) == D("-7.5")
    event = Event.objects.get(name="billing.paid")
    assert (event.data["amount"], event.data["still_owed"]) == ("12.5 USDC", "7.5 USDC")


def test_a_payment_is_a_flow_and_no_profit(time: RecordedClock, deployment: Deployment) -> None:
    ledger.deposit(deployment, D(1000))
    owe(deployment, "20")
    assert total_equity([deployment.pk]) == 980
    payments.pay(deployment.pk, D(20), "1", by="op")

    assert total_equity([deployment.pk]) == 1000
    assert read_identity([deployment.pk]).total.deposits == 1020
    assert ledger.balances(deployment.pk)["USDC"] == 1000


@pytest.mark.parametrize(
    ("amount", "reference", "why"),
    [
        ("20.000001", "a", "owes 20 USDC, less than 20.000001: book at most what is owed"),
        ("5", "", "is not a reference"),
        ("5", "x" * 71, "is not a reference"),
        ("6", "used", "is that of a payment of 5 USDC for deployment"),
    ],
)
def test_a_payment_that_cannot_be_right_is_refused(
    deployment: Deployment, amount: str, reference: str, why: str
) -> None:
    owe(deployment, "25")
    payments.pay(deployment.pk, D(5), "used", by="op")

    with pytest.raises(Rejected, match=why):
        payments.pay(deployment.pk, D(amount), reference, by="op")
    assert ledger.owed(deployment.pk) == -20


def test_a_reference_of_another_deployment_is_refused(deployment: Deployment) -> None:
    other = make.deployment(deployment.agent, funded=False)
    owe(deployment, "5")
    owe(other, "5")
    payments.pay(other.pk, D(5), "used", by="op")

    with pytest.raises(Rejected, match=f"for deployment {other.pk} on "):
        payments.pay(deployment.pk, D(5), "used", by="op")
    with pytest.raises(Rejected, match="no deployment"):
        payments.pay(other.pk + 1, D(5), "x", by="op")


@pytest.mark.parametrize("text", ["0", "-1", "x", "NaN", "Infinity", "0.0000001", ""])
def test_an_amount_is_usdc_above_zero(text: str) -> None:
    with pytest.raises(Rejected, match="is not an amount: give USDC above 0"):
        payments.parse_amount(text)
    assert payments.parse_amount("12.50") == D("12.5")


def test_payments_of_one_debt_at_the_same_time_never_exceed_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row lock of the deployment is taken before the debt is read."""
    owe(deployment, "20")
    seen: list[str] = []
    owed = ledger.owed

    def read(pk: int) -> Decimal:
        seen.append("owed")
        return owed(pk)

    monkeypatch.setattr(ledger, "owed", read)
    lock = Deployment.objects.select_for_update

    def locked(**how: Any) -> Any:
        seen.append("lock")
        return lock(**how)

    monkeypatch.setattr(Deployment.objects, "select_for_update", locked)
    payments.pay(deployment.pk, D(20), "1", by="op")

    assert seen[:2] == ["lock", "owed"]


def test_the_command_asks_before_it_books(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from django.core.management.base import CommandError

    owe(deployment, "20")
    monkeypatch.setattr("builtins.input", lambda: "n")
    with pytest.raises(CommandError, match="nothing was booked"):
        call_command("billing", "pay", str(deployment.pk), "5", "--reference", "r")
    assert "which owes 20 USDC? [y/N]" in capsys.readouterr().err
    monkeypatch.setattr("builtins.input", lambda: "y")
    call_command("billing", "pay", str(deployment.pk), "5", "--reference", "r")
    assert "owes 15 USDC" in capsys.readouterr().out
    call_command("billing", "pay", str(deployment.pk), "5", "--reference", "r", "--yes", "--json")
    assert '"booked": false, "owed": "15"' in capsys.readouterr().out
    call_command("billing", "list")
    call_command("billing", "show", str(deployment.pk))
    shown = capsys.readouterr().out
    assert "owed: 15 USDC by 1 deployments" in shown
    assert "trade: 0.2 USDC per trade" in shown
