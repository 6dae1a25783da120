"""The double-entry ledger: append-only, balanced per journal and asset, balances that follow."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Sum
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.events.models import Event
from maxxit.events.record import record
from tests import builders as make
from tests.builders import T0, RecordedClock
from trading import ledger
from trading.ledger import Move
from trading.models import Fill, JournalKind, LedgerBalance, LedgerEntry

D = Decimal


@pytest.fixture
def deployment(db: None, time: RecordedClock) -> Deployment:
    return make.booked_deployment(make.agent())


amounts = st.decimals(min_value=D("0.000001"), max_value=10**9, places=6)
accounts = st.sampled_from(["deployment", "deployment payable", "venue:paper", "fees:platform", "external"])
moves = st.builds(
    Move,
    source=accounts,
    target=accounts,
    asset=st.sampled_from(["USDC", "ETH"]),
    amount=amounts,
    kind=st.sampled_from(["trade", "venue_fee", "external"]),
).filter(lambda move: move.source != move.target)


def of(deployment: Deployment, move: Move) -> Move:
    """The move with the accounts of this deployment."""
    accounts = {
        "deployment": ledger.account_of(deployment.pk),
        "deployment payable": ledger.payable_of(deployment.pk),
    }
    source, target = (accounts.get(name, name) for name in (move.source, move.target))
    return replace(move, source=source, target=target)


def apart(some: list[Move]) -> bool:
    """No two lines of the journal share account, asset and kind."""
    lines = [(account, m.asset, m.kind) for m in some for account in (m.source, m.target)]
    return len(lines) == len(set(lines))


@settings(max_examples=40)
@given(st.lists(st.lists(moves, max_size=3).filter(apart), max_size=5))
def test_any_journals_sum_to_zero_and_the_balances_are_the_sums_of_their_lines(
    deployment: Deployment, journals: list[list[Move]]
) -> None:
    LedgerBalance.objects.all().delete()
    start = LedgerEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    for number, some in enumerate(journals):
        ledger.post(JournalKind.FILL, f"{start}:{number}", [of(deployment, move) for move in some])
    new = LedgerEntry.objects.filter(pk__gt=start)
    mine = {ledger.account_of(deployment.pk), ledger.payable_of(deployment.pk)}
    for account, owner, kind in new.values_list("account", "deployment", "journal_kind"):
        assert (owner, kind) == (deployment.pk if account in mine else None, "fill")
    sums = {
        (account, asset): total
        for account, asset, total in new.values_list("account", "asset").annotate(Sum("amount"))
        if account.startswith("deployment")
    }

    assert ledger.drift() == {}
    assert {(b.account, b.asset): b.amount for b in LedgerBalance.objects.all()} == sums


def test_a_journal_is_booked_once(deployment: Deployment) -> None:
    move = Move("external", f"deployment:{deployment.pk}", "ETH", D(1), "external")

    assert [ledger.post(JournalKind.EXTERNAL, "once", [move]) for _ in range(2)] == [True, False]
    assert ledger.balances(deployment.pk)["ETH"] == 1


def test_the_starting_balance_is_deposited_once(deployment: Deployment) -> None:
    assert not ledger.deposit(deployment, D(10_000))
    assert ledger.balances(deployment.pk) == {"USDC": D(10_000)}


def line(**fields: Any) -> None:
    """Write one line of a journal."""
    values = {
        "journal": "external:bad", "journal_kind": JournalKind.EXTERNAL, "account": "external", "asset": "USDC",
        "amount": D(1), "kind": "external", "at": T0,
    }  # fmt: skip
    LedgerEntry.objects.create(**values | fields)


@transaction.atomic
def commit(*lines: tuple[str, str]) -> None:
    """Book lines of one journal, (asset, amount) each, and run the checks that wait for the end."""
    for asset, amount in lines:
        line(asset=asset, amount=D(amount))
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.parametrize(
    "lines", [[("USDC", "1")], [("USDC", "1"), ("ETH", "-1")]], ids=["one line", "two assets"]
)
def test_a_journal_that_does_not_sum_to_zero_per_asset_is_refused(
    deployment: Deployment, lines: list[tuple[str, str]]
) -> None:
    with pytest.raises(DatabaseError, match="does not balance"):
        commit(*lines)


def written(table: str, deployment: Deployment) -> None:
    """One row of an append-only table."""
    if table == "events":
        record("test", deployment)
    if table == "fills":
        order = make.order(deployment)
        Fill.objects.create(order=order, venue_fill_id="1", quantity=1, price=1, cash=1, fee=0, at=T0)


@pytest.mark.parametrize(
    ("account", "named"),
    [
        ("deployment:{}", False), ("deployment:{}:payable", False), ("venue:paper", True), ("external", True),
        ("deployment:{}1", True), ("deployment:{}:other", True), ("deployment", True),
    ],
)  # fmt: skip
def test_the_database_refuses_a_line_whose_account_and_deployment_disagree(
    deployment: Deployment, account: str, named: bool
) -> None:
    with pytest.raises(DatabaseError, match="an_account_names_its_deployment"), transaction.atomic():
        line(account=account.format(deployment.pk), deployment=deployment if named else None)


@pytest.mark.parametrize(
    ("journal", "kind", "refusal"),
    [
        ("bribe:1", "bribe", "a_journal_has_a_known_kind"),
        ("bribe:1", "fill", "a_journal_begins_with_its_kind"),
        ("taken:1", "fill", "a_journal_begins_with_its_kind"),
        ("filled:1", "fill", "a_journal_begins_with_its_kind"),
    ],
)
def test_the_database_refuses_a_journal_of_an_unknown_or_another_kind(
    deployment: Deployment, journal: str, kind: str, refusal: str
) -> None:
    with pytest.raises(DatabaseError, match=refusal), transaction.atomic():
        line(journal=journal, journal_kind=kind)


@pytest.mark.parametrize("table", ["events", "fills", "ledger_entries"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id", "DELETE FROM {}"])
def test_what_happened_cannot_be_changed_or_deleted(deployment: Deployment, table: str, change: str) -> None:
    written(table, deployment)
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change.format(table))


def test_djangos_own_ways_are_refused_too(deployment: Deployment) -> None:
    event = record("test", deployment)
    event.name = "another"
    for way in (event.save, event.delete, lambda: Event.objects.filter(pk=event.pk).update(name="x")):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            way()


def test_a_fill_is_booked_once_per_venue_id(deployment: Deployment) -> None:
    written("fills", deployment)
    order = Fill.objects.get().order
    with pytest.raises(DatabaseError, match="a_fill_is_booked_once"), transaction.atomic():
        Fill.objects.create(order=order, venue_fill_id="1", quantity=2, price=1, cash=1, fee=0, at=T0)


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_fill_moves_token_against_cash_and_the_fee_to_the_venue(deployment: Deployment, side: str) -> None:
    order = make.order(deployment, side=side)
    fill = Fill.objects.create(
        order=order, venue_fill_id="1", quantity=D("0.4"), price=D(2000), cash=D(800), fee=D("0.8"), at=T0
    )
    make.book_fill(order, fill)
    sign = 1 if side == "buy" else -1

    assert ledger.balances(deployment.pk) == {
        "ETH": sign * D("0.4"),
        "USDC": D(10_000) - sign * D(800) - D("0.8"),
    }
    assert ledger.drift() == {}


def test_transfers_are_booked_to_the_accounts_first_deployment_that_is_not_revoked(
    deployment: Deployment,
) -> None:
    second = make.booked_deployment(make.agent(), account=deployment.account)
    assert ledger.booking_deployment(deployment.account, "paper") == deployment
    Deployment.objects.filter(pk=deployment.pk).update(**{"state": "revoked"})
    assert ledger.booking_deployment(deployment.account) == second
    Deployment.objects.filter(pk=second.pk).update(**{"state": "revoked"})
    assert ledger.booking_deployment(deployment.account) == deployment
    assert ledger.booking_deployment(deployment.account, "safe") is None


def test_the_first_deposit_is_the_one_that_was_booked_first(
    deployment: Deployment, time: RecordedClock
) -> None:
    time.move(hours=1)
    assert ledger.first_deposit_at(deployment) == T0
    assert ledger.first_deposit_at(make.deployment(deployment.agent, funded=False)) is None


def test_a_move_from_outside_is_out_of_the_account_where_it_is_negative() -> None:
    assert ledger.external_move("a", "USDC", D(5)) == Move("external", "a", "USDC", D(5), "external")
    assert ledger.external_move("a", "USDC", D(-5)) == Move("a", "external", "USDC", D(5), "external")
