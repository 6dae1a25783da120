"""The automatic triggers: what pulls the kill switch, for whom, once, and what a person's release means."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Retryable
from positions import guard
from positions.health import AccountHealth, Health, VenueReads
from positions.models import PnlSnapshot, UnreadAccount
from positions.performance import equity
from tests import builders as make
from tests.builders import RecordedClock
from trading import gate, ledger
from trading.models import JournalKind, KillSwitch, Order, PaperBalance
from trading.risk.policy import policy
from trading.venues.paper import PaperVenue

RULES = policy().triggers
WELL = AccountHealth("a", equity=D(10_000), equity_at_midnight=D(10_000))
OTHERS = tuple(replace(WELL, account=f"other {n}") for n in range(20))


def causes(one: AccountHealth) -> list[str]:
    """What stops this account; nothing may stop the others or the platform."""
    found = guard.decide(Health((one, *OTHERS)), RULES)
    assert {pull.account for pull in found} <= {one.account}
    return [pull.cause for pull in found]


def platform(*accounts: AccountHealth, **facts: object) -> list[str]:
    """What stops the platform."""
    found = guard.decide(Health(accounts, **facts), RULES)  # type: ignore[arg-type]
    return [pull.cause for pull in found if not pull.account]


def several(number: int, **change: object) -> list[AccountHealth]:
    """Accounts that are alike."""
    return [replace(WELL, account=f"a{n}", **change) for n in range(number)]  # type: ignore[arg-type]


def test_all_well_pulls_nothing() -> None:
    assert causes(WELL) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"pnl": D(-500), "best_pnl": D(0)}, ["daily_loss"]),
        ({"pnl": D(-499)}, []),
        ({"pnl_at_midnight": D(-900), "pnl": D(-1000), "equity": D(9000)}, ["drawdown"]),
        ({"price_age": timedelta(seconds=900)}, ["stale_prices"]),
        ({"price_age": timedelta(seconds=899)}, []),
        ({"price_age": timedelta.max}, ["stale_prices"]),
        ({"drift_usd": D(1)}, ["ledger_drift"]),
        ({"drift_usd": D("0.99")}, []),
        ({"unread": "paper"}, ["ledger_drift"]),
        ({"unknown_for": timedelta(seconds=300)}, ["stuck_order"]),
        ({"unknown_for": timedelta(seconds=299), "in_flight_for": timedelta(seconds=299)}, []),
        ({"in_flight_for": timedelta(seconds=3600)}, ["stuck_order"]),
        ({"entries_judged": 20, "entries_abnormal": 18}, ["blocked_rate"]),
        ({"entries_judged": 20, "entries_abnormal": 17}, []),
        ({"entries_judged": 19, "entries_abnormal": 19}, []),
        ({"room": D("0.1")}, ["near_liquidation"]),
        ({"room": D("-0.5")}, ["near_liquidation"]),
        ({"room": D("0.1001")}, []),
        ({"pnl": D(-2000), "equity": D(8000), "drift_usd": D(90_000)}, ["daily_loss", "drawdown", "ledger_drift"]),
    ],
)  # fmt: skip
def test_each_trigger_stops_its_account_alone_at_its_limit_and_not_before(
    change: dict[str, object], cause: list[str]
) -> None:
    assert causes(replace(WELL, **change)) == cause  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accounts", "cause"),
    [
        (several(2, pnl=D(-1000)), ["daily_loss"]),
        (several(2, pnl=D(-2500), pnl_at_midnight=D(-2500), equity=D(7500)), ["drawdown"]),
        (several(2, drift_usd=D(1000)), ["ledger_drift"]),
        (several(3, entries_judged=10, entries_abnormal=9), ["blocked_rate"]),
        (several(3, drift_usd=D(2)), ["accounts_stopped"]),
        ([*several(3, drift_usd=D(2)), *OTHERS], []),
        ([*several(5, drift_usd=D(2)), *OTHERS], []),
        ([*several(7, drift_usd=D(2)), *OTHERS], ["accounts_stopped"]),
        (several(3, price_age=timedelta(hours=1)), []),
    ],
)  # fmt: skip
def test_the_platform_stops_for_what_many_accounts_share(
    accounts: list[AccountHealth], cause: list[str]
) -> None:
    assert platform(*accounts) == cause


def test_fifty_accounts_stop_the_platform_whatever_their_share() -> None:
    many = tuple(replace(WELL, account=f"other {n}") for n in range(1000))
    already = frozenset(one.account for one in many[:49])
    assert platform(*many, stopped=already) == []
    assert platform(*many, replace(WELL, drift_usd=D(2)), stopped=already) == ["accounts_stopped"]


def test_a_venue_of_which_most_accounts_are_unreadable_stops_the_platform_instead_of_each() -> None:
    half = (*several(3, unread="safe"), *OTHERS[:3])
    found = guard.decide(Health(half, (VenueReads("safe", 6, 3), VenueReads("paper", 20, 0))), RULES)
    assert [(pull.cause, pull.account, pull.measured) for pull in found] == [
        ("venue_unreadable", "", "3 of 6 accounts of safe")
    ]
    few = guard.decide(Health(half, (VenueReads("safe", 7, 3),)), RULES)
    assert {(pull.cause, pull.account) for pull in few} == {("ledger_drift", f"a{n}") for n in range(3)} | {
        ("accounts_stopped", "")
    }


def amounts(low: int = -20_000, high: int = 20_000) -> st.SearchStrategy[D]:
    return st.decimals(low, high, places=2)


anybody = st.builds(
    AccountHealth,
    account=st.just("whale"),
    equity=amounts(),
    pnl=amounts(),
    pnl_at_midnight=amounts(),
    equity_at_midnight=amounts(),
    best_pnl=amounts(0),
    drift_usd=amounts(0, 10**9),
    unread=st.sampled_from(["", "safe"]),
    price_age=st.none() | st.timedeltas(timedelta(0), timedelta(days=2)),
    unknown_for=st.none() | st.timedeltas(timedelta(0), timedelta(days=2)),
    entries_judged=st.integers(50, 100),
    entries_abnormal=st.integers(0, 50),
)


@given(anybody, st.integers(0, 30))
def test_whatever_happens_to_one_account_stops_no_other(whale: AccountHealth, others: int) -> None:
    found = guard.decide(Health((*OTHERS[:others], whale)), RULES)
    assert {pull.account for pull in found} <= {"whale"}


@given(st.lists(anybody, max_size=8), st.data())
def test_what_stops_an_account_does_not_depend_on_the_others(
    them: list[AccountHealth], data: st.DataObject
) -> None:
    them = [replace(one, account=f"a{n}") for n, one in enumerate(them)]
    alone = {pull for one in them for pull in guard.decide(Health((one,)), RULES)}
    together = {
        pull for pull in guard.decide(Health(tuple(data.draw(st.permutations(them)))), RULES) if pull.account
    }
    assert together == alone


@given(st.decimals(-9_000, 9_000, places=2), st.decimals(0, 100_000, places=2))
def test_a_deposit_is_neither_gain_nor_loss(pnl: D, deposit: D) -> None:
    before = replace(WELL, pnl=pnl, equity=D(10_000) + pnl)
    after = replace(before, equity=before.equity + deposit, equity_at_midnight=D(10_000) + deposit)
    assert set(causes(after)) <= set(causes(before)), "money paid in can only make a loss relatively smaller"


# --- with the database


def yesterday(of: Deployment, equity: str, deposits: str) -> None:
    """The snapshot of the last midnight."""
    values = {"equity": D(equity), "deposits": D(deposits), "realised_pnl": 0, "unrealised_pnl": 0}
    PnlSnapshot.objects.create(deployment=of, day=clock.now().date() - timedelta(days=1), **values)


def latched() -> set[tuple[str, str, str]]:
    """(account, cause, level) of every switch that nobody released."""
    return set(KillSwitch.objects.filter(released_at=None).values_list("account", "cause", "level"))


@pytest.mark.django_db
def test_a_daily_loss_latches_flatten_once_for_its_account_and_a_release_is_quiet_for_an_hour() -> None:
    morning = datetime(2026, 3, 2, 9, tzinfo=UTC)
    with clock.frozen(morning):
        make.deployment(make.agent(), usdc="1000")
        loser = make.deployment(make.agent(), usdc="9000")
        yesterday(loser, "9600", "9000")
        assert guard.watch() == ["daily_loss"]
        assert (gate.kill_level(loser.account), gate.kill_level()) == ("flatten", "")
        assert guard.watch() == [], "it is latched already"
        gate.release(by="ann", reason="looked at it")
        assert guard.watch() == []
    with clock.frozen(morning + timedelta(minutes=61)):
        assert guard.watch() == ["daily_loss"]
    assert KillSwitch.objects.count() == 2


@pytest.mark.django_db
def test_the_quiet_hour_after_a_release_is_for_that_cause_and_account(time: RecordedClock) -> None:
    first, second, _ = (make.deployment(make.agent(), usdc="9000") for _ in range(3))
    yesterday(first, "9600", "9000")
    guard.watch()
    gate.release(by="ann", reason="looked at it", account=first.account)

    yesterday(second, "9600", "9000")
    PaperBalance.objects.filter(account=first.account).update(amount=D(1))
    assert guard.watch() == ["ledger_drift", "daily_loss"]
    assert latched() == {
        (first.account, "ledger_drift", "no_entries"),
        (second.account, "daily_loss", "flatten"),
    }


@pytest.mark.django_db
def test_all_deployments_of_an_account_count_together(time: RecordedClock) -> None:
    one = make.deployment(make.agent(), usdc="9000", account="shared")
    two = make.deployment(make.agent(), usdc="1000", account="shared")
    yesterday(one, "9400", "9000")
    yesterday(two, "600", "1000")
    assert guard.watch() == [], "what one deployment lost the other won"


@pytest.mark.django_db
def test_before_the_snapshot_of_midnight_is_taken_the_one_before_counts() -> None:
    with clock.frozen(datetime(2026, 3, 2, 0, 2, tzinfo=UTC)):
        old = make.booked_deployment(make.agent(), usdc="10000")
        lost = ledger.Move(ledger.account_of(old.pk), "venue:paper", "USDC", D(800), "trade")
        ledger.post(JournalKind.FILL, "lost", [lost])
        PaperBalance.objects.create(account=old.account, asset="USDC", amount=D(9200))
        values = {"equity": D(9200), "deposits": D(10_000), "realised_pnl": 0, "unrealised_pnl": 0}
        PnlSnapshot.objects.create(deployment=old, day=date(2026, 2, 28), **values)
        assert guard.watch() == []


@pytest.mark.django_db
@pytest.mark.parametrize("amount", ["-9000", "100000"])
def test_money_moved_by_the_owner_is_neither_gain_nor_loss(time: RecordedClock, amount: str) -> None:
    held = make.deployment(make.agent(), usdc="10000")
    lost = ledger.Move(ledger.account_of(held.pk), "venue:paper", "USDC", D(300), "trade")
    yesterday(held, "10000", "10000")
    ledger.post(JournalKind.FILL, "lost", [lost])
    mine = ledger.account_of(held.pk)
    source, target = ("external", mine) if D(amount) > 0 else (mine, "external")
    ledger.post(JournalKind.EXTERNAL, "x", [ledger.Move(source, target, "USDC", abs(D(amount)), "external")])
    PaperBalance.objects.filter(account=held.account).update(amount=D(10_000) - 300 + D(amount))

    (health,) = guard.read().accounts
    assert (health.pnl, health.daily_loss) == (D(-300), D(300))
    assert "daily_loss" not in guard.watch()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it with the accounts that the paper exchange does not answer about."""
    real = PaperVenue.balances_of

    def only(*silent: str, all_: bool = False) -> None:
        def balances_of(self: PaperVenue, accounts: list[str]) -> dict[str, dict[str, D]]:
            if all_:
                raise Retryable("no answer")
            return real(self, [account for account in accounts if account not in silent])

        monkeypatch.setattr(PaperVenue, "balances_of", balances_of)

    return only


@pytest.mark.django_db
def test_an_account_that_cannot_be_read_is_stopped_after_the_grace_and_nobody_else(
    time: RecordedClock, away: Callable[..., None]
) -> None:
    mine, _, _ = (make.deployment(make.agent()) for _ in range(3))
    away(mine.account)
    assert guard.watch() == []
    time.move(seconds=119)
    assert guard.watch() == []
    time.move(seconds=1)
    assert guard.watch() == ["ledger_drift"]
    (switch,) = KillSwitch.objects.all()
    assert (switch.account, switch.level) == (mine.account, "no_entries")
    assert "unreadable" in switch.reason


@pytest.mark.django_db
def test_an_account_that_was_read_in_between_has_its_whole_grace_again(
    time: RecordedClock, away: Callable[..., None]
) -> None:
    mine, _ = (make.deployment(make.agent()) for _ in range(2))
    away(mine.account)
    guard.watch()
    away()
    time.move(seconds=100)
    guard.watch()
    assert not UnreadAccount.objects.exists()
    away(mine.account)
    time.move(seconds=100)
    assert guard.watch() == []
    time.move(seconds=100)
    assert guard.watch() == []


@pytest.mark.django_db
def test_a_venue_that_is_away_stops_the_platform_once(time: RecordedClock, away: Callable[..., None]) -> None:
    for _ in range(3):
        make.deployment(make.agent())
    away(all_=True)
    guard.watch()
    time.move(minutes=5)
    assert guard.watch() == ["venue_unreadable"]
    assert latched() == {("", "venue_unreadable", "no_entries")}
    assert guard.watch() == []


@pytest.mark.django_db
def test_money_at_the_venue_that_we_did_not_book_stops_its_account(time: RecordedClock) -> None:
    made, _ = (make.deployment(make.agent(), usdc="1000") for _ in range(2))
    assert guard.watch() == []

    PaperBalance.objects.filter(account=made.account).update(amount=D("1002"))
    assert guard.watch() == ["ledger_drift"]
    assert latched() == {(made.account, "ledger_drift", "no_entries")}


def flying(of: Deployment, **fields: Any) -> Order:
    """An order that the venue has taken."""
    values: dict[str, Any] = {"state": "accepted", "quantity": D("0.1"), "reserved_at": clock.now()}
    return make.order(of, by=make.signal(of.agent), **values | fields)


@pytest.mark.django_db
def test_an_order_in_flight_hides_no_drift_of_another_account_or_asset(time: RecordedClock) -> None:
    busy, other = make.deployment(make.agent()), make.deployment(make.agent())
    make.price("ETH", "2000")
    make.price("BTC", "60000")
    flying(busy)
    PaperBalance.objects.filter(account=busy.account, asset="USDC").update(amount=D(1))
    assert guard.watch() == [], "its entry may have been paid for already"

    PaperBalance.objects.filter(account=other.account).update(amount=D(9_990))
    PaperBalance.objects.create(account=busy.account, asset="BTC", amount=D("0.01"))
    assert guard.watch() == ["ledger_drift"]
    assert {account for account, _, _ in latched()} == {busy.account, other.account}


@pytest.mark.django_db
def test_drift_in_a_token_with_an_old_price_counts_and_without_any_price_stops_the_account(
    time: RecordedClock,
) -> None:
    one, two, _ = (make.deployment(make.agent()) for _ in range(3))
    make.price("ETH", "2000", at=clock.now() - timedelta(hours=3))
    PaperBalance.objects.create(account=one.account, asset="ETH", amount=D(1))
    PaperBalance.objects.create(account=two.account, asset="SOL", amount=D(1))
    guard.watch()
    assert {account for account, _, _ in latched()} == {one.account, two.account}


@pytest.mark.django_db
def test_an_order_that_stays_unknown_stops_its_account(time: RecordedClock) -> None:
    mine, _ = make.deployment(make.agent()), make.deployment(make.agent())
    flying(mine, state="unknown")
    time.move(seconds=299)
    assert guard.watch() == []
    time.move(seconds=1)
    assert guard.watch() == ["stuck_order"]
    assert latched() == {(mine.account, "stuck_order", "no_entries")}


@pytest.mark.django_db
def test_a_stale_price_stops_only_who_holds_that_token(time: RecordedClock) -> None:
    eth, btc = make.deployment(make.agent()), make.deployment(make.agent(tokens=["BTC"]))
    for one, symbol in ((eth, "ETH"), (btc, "BTC")):
        make.position(one, symbol=symbol)
        make.price(symbol, "2000")
    time.move(minutes=16)
    make.price("BTC", "2000")
    assert guard.read().accounts
    assert "stale_prices" in guard.watch()
    assert {(account, cause) for account, cause, _ in latched() if cause == "stale_prices"} == {
        (eth.account, "stale_prices")
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("reason", "pulled"),
    [
        ("position_exists", set()),
        ("cooldown", set()),
        ("insufficient_balance", set()),
        ("kill_switch", set()),
        ("venue_unreadable", {"blocked_rate"}),
        ("a_reason_of_the_venue", {"blocked_rate"}),
    ],
)
def test_only_abnormal_refusals_count_and_one_account_stops_itself_alone(
    time: RecordedClock, reason: str, pulled: set[str]
) -> None:
    mine, other = make.deployment(make.agent()), make.deployment(make.agent())
    for _ in range(20):
        make.order(mine, by=make.signal(mine.agent), state="blocked", reason=reason)
    for _ in range(40):
        make.order(other, by=make.signal(other.agent), state="blocked", reason="position_exists")
    assert set(guard.watch()) == pulled
    assert {account for account, _, _ in latched()} == ({mine.account} if pulled else set())


@pytest.mark.django_db
def test_a_snapshot_knows_what_was_paid_in() -> None:
    make.deployment(make.agent(), usdc="1000")
    assert equity.take_snapshots(date(2026, 3, 1)) == 1
    assert equity.take_snapshots(date(2026, 3, 1)) == 0, "once a day"
    row = PnlSnapshot.objects.get()
    assert (row.equity, row.deposits) == (D(1000), D(1000))


@pytest.mark.django_db
def test_an_account_falls_from_the_best_midnight_of_all_its_deployments_together(time: RecordedClock) -> None:
    one = make.booked_deployment(make.agent(), usdc="1000", account="shared")
    two = make.booked_deployment(make.agent(), usdc="1000", account="shared")
    for day, (first, second) in enumerate([(300, 0), (200, 300), (-100, -300)], start=1):
        for held, won in ((one, first), (two, second)):
            left = D(1000 + won) - equity.total_equity([held.pk])
            ledger.post(
                JournalKind.FILL,
                f"{held.pk}:{day}",
                [ledger.Move("venue:paper", ledger.account_of(held.pk), "USDC", left, "trade")],
            )
        equity.take_snapshots(date(2026, 2, day))
    (health,) = guard.read().accounts
    assert (health.best_pnl, health.pnl) == (D(500), D(-400))
    assert health.drawdown == D(900)
