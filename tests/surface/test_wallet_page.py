"""The page Wallet and the setup of a Safe without a chain: what is shown, to whom, and at which cost."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agents.deploying import create_deployment, set_capital
from agents.models import Agent, Deployment
from maxxit.core import clock
from maxxit.core.errors import InvalidInput, Rejected, Retryable
from maxxit.reports import checks
from maxxit.reports.safes import doctor
from maxxit.web import wallet_start
from tests import builders as make
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.deployments import activation
from trading.deployments.wallet_setup import SafeVenueChoice
from trading.venues.safe import snapshot, verify
from trading.venues.safe.contract import module as m

pytestmark = pytest.mark.django_db

SAFE = "0x7737a705E1861BC356854ECe1FE9fD2cB0e54D55"
MODULE = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
OTHER = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
POLICY = m.Policy(
    executor=MODULE, guardian=OTHER, fee_receiver=OTHER, profit_receiver=OTHER, **chains.terms().model_dump()
)
HEADROOM = m.Headroom(
    loss_left=40_000_000, total_loss_left=400_000_000, notional_left=2_000_000_000, trades_left=20,
    next_open_at=0, stop_level=0, loosens_at=0,
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


def safe_of(owner: User, safe: str = SAFE, **fields: Any) -> Deployment:
    """A verified deployment with its plan in force."""
    values: dict[str, Any] = {
        "account": safe, "safe_wallet": safe, "funded": False, "owner": owner, "chain_id": 31337,
        "module_address": MODULE, "module_enabled": True, "verified_at": clock.now(),
    } | fields  # fmt: skip
    row = make.deployment(make.agent(venue="safe", owner=owner), **values)
    SafePlan.objects.get_or_create(
        chain_id=31337, safe=safe, module=MODULE, verified_at=clock.now(), created_at=clock.now(),
        defaults=verify.as_plan(POLICY, []),
    )  # fmt: skip
    return row


def states(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the chain answer with this state of every Safe."""
    values: dict[str, Any] = {
        "created": True, "enabled": True, "owners": (OTHER,), "threshold": 1, "policy": POLICY,
        "headroom": HEADROOM, "balances": {"USDC": Decimal(750), "ETH": Decimal("0.5")},
    } | changes  # fmt: skip
    state = snapshot.SafeState(**values)
    monkeypatch.setattr(snapshot, "read", lambda at, asked: {one.safe: state for one in asked})


def test_the_page_shows_balance_limits_fees_and_module(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    states(monkeypatch)
    make.price("ETH", "2000")
    safe_of(alice)
    text = client.get("/wallet").content.decode()
    for part in (
        SAFE, "module on", "750.00", "about 1,000.00 USD", "10.00 of 50.00 USDC used, 40.00 left",
        "8,000.00 of 10,000.00 USDC used, 2,000.00 left", "4 of 24 used, 20 left", "Fees paid", "Revoke",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"created": False, "policy": None, "headroom": None}, "Safe not created"),
        ({"enabled": False}, "End "),
        ({"policy": None}, "module no policy"),
        (
            {"headroom": m.Headroom(0, 0, 0, 0, 0, 2, 0)},
            "can do nothing in this Safe until its owners resume it",
        ),
        ({"differences": ("max_trade differs",)}, "The chain differs from the plan"),
        (
            {"owners": (OTHER, MODULE), "threshold": 2},
            "Download the revocation for the 2 owners who must sign",
        ),
        ({"pending_at": 1_900_000_000}, "the stricter of both hold"),
    ],
)
def test_each_state_of_the_safe_is_named(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], shown: str
) -> None:
    states(monkeypatch, **changes)
    safe_of(alice)
    assert shown in client.get("/wallet").content.decode()


def test_an_unsigned_plan_is_a_pending_signature(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    states(monkeypatch, differences=("max_trade differs",))
    row = safe_of(alice)
    SafePlan.objects.create(
        chain_id=31337, safe=SAFE, module=MODULE, created_at=clock.now(), **verify.as_plan(POLICY, [])
    )
    text = client.get("/wallet").content.decode()
    assert "A plan waits for your signature" in text
    assert "the limits below stay in force" in text
    assert f'href="/wallet/{row.pk}/setup"' in text


def test_a_chain_that_is_not_there_leaves_the_page_whole(client: Client, alice: User) -> None:
    """The local chain was never built here."""
    safe_of(alice)
    text = client.get("/wallet").content.decode()
    assert "Balance and limits are not available" in text
    assert "module unknown" in text


def test_the_number_of_queries_does_not_grow(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    states(monkeypatch)

    def statements() -> int:
        cache.clear()
        client.force_login(alice)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert client.get("/wallet").status_code == 200
        return len(asked)

    safe_of(alice)
    few = statements()
    for number in range(12):
        safe_of(alice, "0x" + f"{number + 10:040x}")
    assert statements() == few


def test_nobody_sees_or_changes_anothers_safe(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    states(monkeypatch)
    bob = User.objects.create_user("bob")
    theirs = safe_of(bob)
    assert SAFE not in client.get("/wallet").content.decode()
    for path in ("setup", "limits", "plan.json", "revoke.json"):
        assert client.get(f"/wallet/{theirs.pk}/{path}").status_code == 404
    for path in ("new", "existing", "sent", "check", "forget", "revoke", "revoked"):
        body = {"new": {"owner": OTHER}, "existing": {"safe": SAFE}}.get(path, {})
        answer = client.post(f"/wallet/{theirs.pk}/{path}", body, content_type="application/json")
        assert answer.status_code == 404, path


def test_without_a_safe_there_is_the_way_to_one(client: Client, alice: User) -> None:
    assert 'href="/start"' in client.get("/wallet").content.decode()


def test_a_draft_without_a_safe_is_continued_from_the_wallet(client: Client, alice: User) -> None:
    """Whoever left the setup finds the way back here too."""
    row = create_deployment(make.agent(venue="safe", owner=alice), alice, by="alice", capital=Decimal(500))
    text = client.get("/wallet").content.decode()
    assert f'href="/wallet/{row.pk}/setup"' in text
    assert "No agent of yours trades from a Safe" not in text
    theirs = User.objects.create_user("bob")
    create_deployment(make.agent(venue="safe", owner=theirs), theirs, by="bob", capital=Decimal(500))
    assert client.get("/wallet").content.decode().count("/setup") == 1


def test_a_paper_deployment_has_no_page_of_a_safe(client: Client, alice: User) -> None:
    row = make.deployment(make.agent(owner=alice), owner=alice)
    answer = client.get(f"/wallet/{row.pk}/setup")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/agents")


def test_the_limits_in_force_fill_the_form_and_a_wrong_one_is_named(client: Client, alice: User) -> None:
    row = safe_of(alice)
    page = client.get(f"/wallet/{row.pk}/limits").content.decode()
    assert 'value="1000"' in page
    assert "At most 1,000 USDC." in page
    typed = {
        "max_trade": "2000", "daily_notional": "300", "trades_per_day": "5", "loss_budget": "20",
        "total_loss_budget": "100",
    }  # fmt: skip
    answer = client.post(f"/wallet/{row.pk}/limits", typed)
    assert answer.status_code == 422
    assert "Enter 10.00 USDC to 1,000.00 USDC, not 2,000.00 USDC." in answer.content.decode()
    assert 'value="2000"' in answer.content.decode()
    answer = client.post(f"/wallet/{row.pk}/limits", typed | {"max_trade": "100"})  # there is no chain here
    assert answer.status_code == 422
    assert SafePlan.objects.filter(verified_at=None).count() == 0


def test_limits_that_are_not_in_force_yet_are_not_changed(client: Client, alice: User) -> None:
    row = create_deployment(make.agent(venue="safe", owner=alice), alice, by="alice", capital=Decimal(500))
    answer = client.get(f"/wallet/{row.pk}/limits", follow=True)
    assert "no limits in force on the chain yet" in answer.content.decode()


def test_doctor_compares_the_safes_of_other_chains_when_one_does_not_answer(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same address on two chains is two Safes."""
    safe_of(alice)
    other = safe_of(alice, chain_id=421614)
    Agent.objects.filter(pk=other.agent_id).update(venue="arbitrum-sepolia")

    def look(at: str, asked: list[snapshot.Asked]) -> dict[str, snapshot.Seen]:
        if at == "arbitrum-sepolia":
            raise Retryable("no endpoint answers")
        return {one.safe: snapshot.Seen(snapshot.SafeState(created=False)) for one in asked}

    monkeypatch.setattr(doctor, "safe_access", lambda row: row.agent.venue)
    monkeypatch.setattr(snapshot, "look", look)
    count, sentences = doctor.differing()
    assert count == 1
    assert sentences[0] == "the Safes of arbitrum-sepolia cannot be read: no endpoint answers"
    assert "there is no Safe at this address" in sentences[1]
    monkeypatch.setattr(doctor, "safe_access", lambda row: "safe")
    assert doctor.differing()[0] == 2
    red = checks.safes()
    assert not red.ok


def test_the_wizard_asks_the_chosen_chain_alone_and_names_it_where_it_does_not_answer(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def choices(*, local: bool, ask: str) -> list[SafeVenueChoice]:
        asked.append(ask)
        problem = "the chain did not answer within 2 s" if ask == "safe" else ""
        return [SafeVenueChoice("safe", "Local", 31337, problem)]

    monkeypatch.setattr(wallet_start, "venue_choices", choices)
    text = client.get("/start").content.decode()
    assert "With my wallet, on Local" in text
    answer = client.post(
        "/start", {"name": "A", "others": "x", "capital": "500", "money": "safe", "do": "start"}
    )
    assert answer.status_code == 422
    assert (
        "A wallet on Local cannot be used now: the chain did not answer within 2 s."
        in answer.content.decode()
    )
    assert asked == ["", "safe"]
    assert not Deployment.objects.exists()


def test_the_capital_of_a_safe_is_kept_and_checked(alice: User) -> None:
    agent = make.agent(venue="safe", owner=alice, sizing_preset="conservative")
    make.account(agent)
    row = create_deployment(agent, alice, by="alice", capital=Decimal(500))
    assert (row.safe_capital, row.starting_balance) == (500, 0)
    problems = "; ".join(activation.obstacles(row))
    assert "with 500 USDC, conservative would place orders" in problems
    assert "is not verified on the chain" in problems
    set_capital(row, Decimal(2_000), by="alice")
    row.refresh_from_db()
    assert row.safe_capital == 2_000
    for wrong in (Decimal(0), Decimal("0.0000001"), Decimal(10**10), Decimal("NaN")):
        with pytest.raises(InvalidInput):
            set_capital(row, wrong, by="alice")
    Deployment.objects.update(state="active")
    with pytest.raises(Rejected, match="its safe capital is fixed"):
        set_capital(row, Decimal(100), by="alice")
