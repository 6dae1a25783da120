"""The page Wallet, the API and the admin for perpetual futures of a Safe, without a chain."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client

from agents.deploying import create_deployment
from agents.models import Deployment
from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.reports.safes import doctor
from maxxit.web import wallet_start
from tests import builders as make
from tests.trading.venues.gmx.conftest import config  # noqa: F401  # fixture
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.deployments import activation
from trading.deployments.wallet_setup import SafeVenueChoice
from trading.perps.models import MarginPosition
from trading.venues.gmx import verify
from trading.venues.gmx.contract import module as p
from trading.venues.safe import entry_stops, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("config")]

SAFE = "0x7737a705E1861BC356854ECe1FE9fD2cB0e54D55"
MODULE = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
OTHER = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
POLICY = p.Policy(
    executor=MODULE, guardian=OTHER, fee_receiver=OTHER, profit_receiver=OTHER, **chains.perps_terms().model_dump()
)  # fmt: skip
HEADROOM = p.Headroom(
    loss_left=150_000_000, total_loss_left=900_000_000, collateral_left=900_000_000, notional_left=4_500_000_000,
    trades_left=23, next_open_at=0, stop_level=0, loosens_at=0,
)  # fmt: skip


@pytest.fixture
def alice() -> User:
    cache.clear()
    return User.objects.create_user("alice")


@pytest.fixture
def client(alice: User) -> Client:
    made = Client()
    made.force_login(alice)
    return made


def perps_of(owner: User, **fields: Any) -> Deployment:
    """A verified deployment at GMX with its plan in force."""
    values: dict[str, Any] = {
        "account": f"gmx:{SAFE}", "safe_wallet": SAFE, "funded": False, "owner": owner, "chain_id": 31337,
        "module_address": MODULE, "module_enabled": True, "verified_at": clock.now(),
    } | fields  # fmt: skip
    row = make.deployment(make.agent(venue="gmx", owner=owner), **values)
    SafePlan.objects.create(
        chain_id=31337, safe=SAFE, module=MODULE, verified_at=clock.now(), created_at=clock.now(),
        **verify.as_plan(POLICY, [p.MarketRule(OTHER, 18, MODULE, 3_600)]),
    )  # fmt: skip
    return row


def states(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the chain answer with this state of every Safe."""
    values: dict[str, Any] = {
        "created": True, "enabled": True, "owners": (OTHER,), "threshold": 1, "policy": POLICY,
        "headroom": HEADROOM, "balances": {"USDC": Decimal(400), "ETH": Decimal(0)},
    } | changes  # fmt: skip
    state = snapshot.SafeState(**values)
    monkeypatch.setattr(snapshot, "read", lambda at, asked: {one.safe: state for one in asked})


def test_the_page_shows_collateral_limits_and_what_a_revocation_means(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    states(monkeypatch)
    row = perps_of(alice)
    MarginPosition.objects.create(
        venue="gmx", account=row.account, symbol="ETH", leverage=5, isolated=True, margin=Decimal("99.5"),
        liquidation_price=1_620, seen_at=clock.now(),
    )  # fmt: skip
    for _ in range(2):  # read, and as it was kept
        text = client.get("/wallet").content.decode()
        for part in (
            SAFE, "perpetual futures", "module on", "99.50 USDC of collateral in positions at GMX",
            "100.00 of 250.00 USDC used, 150.00 left", "500.00 of 5,000.00 USDC used", "1 of 24 used, 23 left",
            "Largest trade: 100.00 USDC of collateral, 5x leverage, 500.00 USDC of size", "open positions at GMX",
        ):  # fmt: skip
            assert part in text, part
    shown = client.get(f"/api/safes/{row.pk}").json()
    assert (shown["kind"], shown["collateral"], shown["max_trade"]) == ("perps", "99.5", "100")
    assert shown["signed_limits"] == {
        "max_collateral": "100", "max_leverage": "5", "max_notional": "500", "daily_collateral": "1000",
        "daily_notional": "5000", "trades_per_day": "24", "loss_budget": "250", "total_loss_budget": "1000",
    }  # fmt: skip
    assert [one["name"] for one in shown["limits"]][:2] == ["daily_collateral", "daily_notional"]


def test_doctor_compares_the_safe_with_its_plan(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    states(monkeypatch, differences=("loss_budget is 250.00 USDC, not 300.00 USDC",))
    row = perps_of(alice)
    assert doctor.differing() == (
        1,
        [f"deployment {row.pk}, Safe {SAFE}: the plan in force: loss_budget is 250.00 USDC, not 300.00 USDC"],
    )


def test_the_owner_is_alerted_of_stopped_entries(alice: User) -> None:
    row = perps_of(alice)
    entry_stops.stop(SafePlan.objects.get(), entry_stops.EVERYTHING, entry_stops.REVERTS)
    told = Event.objects.get(name="safe.entries_stopped")
    assert (told.subject, told.data["owner_id"]) == (f"agents.deployment/{row.pk}", alice.pk)


def test_the_admin_shows_the_card_of_a_plan(alice: User) -> None:
    perps_of(alice)
    staff = User.objects.create_superuser("root")
    made = Client()
    made.force_login(staff)
    plan = SafePlan.objects.get()
    assert "250" in made.get("/admin/trading/safeplan/").content.decode()
    page = made.get(f"/admin/trading/safeplan/{plan.pk}/change/").content.decode()
    assert "a liquidation takes the whole collateral of a trade" in page


def test_an_account_that_names_a_safe_is_set_by_a_plan_alone(alice: User) -> None:
    row = perps_of(alice)
    row.clean()
    other = Deployment(agent=row.agent, owner=alice, account=f"gmx:{OTHER}")
    with pytest.raises(ValidationError, match="set by"):
        other.clean()
    for account, safe in ((f"gmx:{OTHER}", SAFE), (f"paper:{SAFE}", SAFE)):
        with pytest.raises(IntegrityError, match="a_safe_is_its_deployments_account"), transaction.atomic():
            make.deployment(row.agent, account=account, safe_wallet=safe, funded=False)


def test_the_wizard_names_perpetual_futures_and_their_leverage(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = [
        SafeVenueChoice("safe", "Local", 31337, ""),
        SafeVenueChoice("gmx", "Local", 31337, "", Decimal(5)),
    ]
    monkeypatch.setattr(wallet_start, "venue_choices", lambda *, local, ask: choices)
    text = client.get("/start").content.decode()
    assert "With my wallet, on Local<" in text
    assert "With my wallet, on Local: perpetual futures at GMX with up to 5x leverage" in text


def test_a_draft_at_gmx_plans_a_capital_and_says_what_its_chain_lacks(alice: User) -> None:
    agent = make.agent(venue="gmx", owner=alice, sizing_preset="moderate")
    make.account(agent)
    row = create_deployment(agent, alice, by="alice", capital=Decimal(500))
    assert (row.safe_capital, row.starting_balance) == (500, 0)
    assert activation.plan_of(row).minimum == 10
    assert "is not verified on the chain" in "; ".join(activation.obstacles(row))
    assert "the venue gmx is not set up yet, because its chain local" in activation.venue_problem("gmx")
