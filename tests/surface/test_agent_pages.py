"""Customers' pages of agents: start on paper in one form, see each deployment, pause, stop, close and revoke it."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from agents import following
from agents.models import Agent, Deployment
from maxxit.core import clock
from maxxit.market.venues import VenuePolicy, venues
from maxxit.reports import deployment_cards
from maxxit.web import agents
from maxxit.web.once import new_token
from positions.models import EquityPoint
from positions.performance import points
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.credentials.test_store import Broker
from trading import ledger
from trading.models import JournalKind, KillSwitch, VenueCredential
from trading.venues.base import KeyCard, Venue

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts on X and of recorded posts are read."""
    for module in (following, agents):
        monkeypatch.setattr(module, "post_sources", lambda: ("x", "jsonl"))


@pytest.fixture
def carol() -> User:
    """A customer."""
    return User.objects.create_user("carol")


@pytest.fixture
def browser(carol: User, time: RecordedClock) -> Client:
    """Carol's browser, logged in."""
    client = Client()
    client.force_login(carol)
    return client


def send(browser: Client, **changes: Any) -> Any:
    """Send the form of the page."""
    values: dict[str, Any] = {
        "name": "Moon watch",
        "others": "@alice_fx, bob_fx",
        "capital": "1000",
        "sizing_preset": "moderate",
        "exit_preset": "signal",
        "do": "start",
        "once": new_token(),
    }
    return browser.post("/start", values | changes)


def test_one_form_starts_an_agent_on_paper(browser: Client, carol: User) -> None:
    make.account(username="dora", source="x")

    page = browser.get("/start")
    assert b"@dora" in page.content
    answer = send(browser, accounts=["dora"])
    assert (answer.status_code, answer["Location"]) == (302, "/agents")
    [deployment] = Deployment.objects.filter(owner=carol)
    assert (deployment.state, deployment.agent.state, deployment.agent.owner) == ("active", "active", carol)
    names = deployment.agent.subscriptions.values_list("account__x_username", flat=True)
    assert sorted(names) == ["alice_fx", "bob_fx", "dora"]
    assert ledger.balances(deployment.pk) == {"USDC": D(1000)}
    assert "Moon watch" in browser.get("/agents").content.decode()


def test_an_agent_at_a_broker_begins_here_and_goes_on_with_the_keys(
    browser: Client, carol: User, use_venue: Callable[[Venue], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stanza = VenuePolicy(adapter="coinbase", shorts=False, max_leverage=D(1), paper=False, cash="USD")
    monkeypatch.setitem(venues(), "coinbase", stanza)
    card = KeyCard(
        "At the venue.", ("trade",), ("withdraw",), "The venue.", ("the whole account",), "Be careful."
    )
    monkeypatch.setattr(Broker, "key_card", lambda self: card)
    use_venue(Broker())
    assert b"With my account at Coinbase" in browser.get("/start").content
    small = send(browser, money="coinbase", capital="100", sizing_preset="conservative")
    assert "would place orders" in small.content.decode()
    assert Deployment.objects.count() == 0

    answer = send(browser, money="coinbase")
    [deployment] = Deployment.objects.filter(owner=carol)
    assert answer["Location"] == f"/agents/{deployment.pk}/keys"
    assert (deployment.state, deployment.agent.venue, deployment.starting_balance) == ("draft", "coinbase", 0)
    page = browser.get(answer["Location"]).content.decode()
    assert "is set up. Store the keys of its account now." in page
    assert "What the key allows" in page
    assert "the whole account" in page
    assert "Start trading" not in page

    VenueCredential.objects.create(
        venue="coinbase",
        account=deployment.account,
        hint="1234",
        stored_at=clock.now(),
        tested_at=clock.now(),
    )
    assert "Start trading" in browser.get(answer["Location"]).content.decode()
    browser.post(f"/agents/{deployment.pk}/resume")
    deployment.refresh_from_db()
    assert deployment.state == "active"


def test_a_plan_that_cannot_work_is_refused_with_numbers_and_nothing_is_made(browser: Client) -> None:
    checked = send(browser, do="check", capital="100", sizing_preset="conservative")
    assert "This cannot work: with 100 USDC, conservative would place orders" in checked.content.decode()

    started = send(browser, capital="100", sizing_preset="conservative")
    assert "would place orders" in started.content.decode()
    assert (Agent.objects.count(), Deployment.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("field", "given", "text"),
    [
        ("others", "", "Choose at least one account"),
        ("others", "no spaces! ok_name", "1 to 15 letters"),
        ("capital", "-5", "Enter more than 0 USDC."),
        ("capital", "99999999", "at most 1000000 USDC"),
        ("name", "", "required"),
    ],
)
def test_each_wrong_field_is_named_and_what_was_typed_stays(
    browser: Client, field: str, given: str, text: str
) -> None:
    answer = send(browser, **{field: given})

    assert answer.status_code == 422
    assert text in " ".join(answer.context["form"].errors[field])
    kept = {"name": "Moon watch", "others": "@alice_fx, bob_fx"}
    kept.pop(field, None)
    assert all(value in answer.content.decode() for value in kept.values())
    assert Agent.objects.count() == 0


def test_a_double_click_starts_one_agent(browser: Client) -> None:
    token = new_token()
    for _ in range(2):
        assert send(browser, once=token).status_code == 302

    assert Agent.objects.count() == Deployment.objects.count() == 1


def test_a_name_that_is_taken_is_said_on_its_field(browser: Client) -> None:
    send(browser)

    answer = send(browser)
    assert "name" in answer.context["form"].errors
    assert Deployment.objects.count() == 1


def test_an_owner_pauses_stops_closes_and_revokes(browser: Client, carol: User) -> None:
    send(browser)
    deployment = Deployment.objects.get()

    def do(action: str) -> str:
        answer = browser.post(f"/agents/{deployment.pk}/{action}", follow=True)
        deployment.refresh_from_db()
        return answer.content.decode()

    assert "opens no more positions" in do("pause")
    assert deployment.state == "paused"
    assert "trades now" in do("resume")
    assert "stopped until you release it" in do("stop").replace(
        "no position is opened until", "stopped until"
    )
    assert KillSwitch.objects.get(released_at=None).level == "no_entries"
    assert "being closed" in do("close-all")
    assert "released" in do("release")
    assert not KillSwitch.objects.filter(released_at=None).exists()
    assert "revoked for good" in do("revoke")
    assert "cannot become" in do("resume")
    assert deployment.state == "revoked"


def test_the_deployment_of_another_customer_is_not_found(browser: Client) -> None:
    other = make.deployment(make.agent(), owner=User.objects.create_user("mallory"))

    assert browser.post(f"/agents/{other.pk}/pause").status_code == 404
    assert browser.post(f"/agents/{other.pk}/nonsense").status_code == 404
    assert other.account not in browser.get("/agents").content.decode()


def test_a_card_shows_return_and_equity_in_a_constant_number_of_statements(
    browser: Client, carol: User, time: RecordedClock, django_assert_max_num_queries: Any
) -> None:
    first = make.deployment(make.agent(), owner=carol)
    points.take_points()
    time.move(hours=1)
    make.price("ETH", "2000")
    page = browser.get("/agents").content.decode()
    assert "10,000.00" in page
    assert f"/agents/{first.pk}/pause" in page

    for _ in range(12):
        make.deployment(make.agent(), owner=carol)
    with django_assert_max_num_queries(14):
        assert browser.get("/agents").status_code == 200


def test_a_deployment_whose_token_has_no_quote_shows_no_amount(browser: Client, carol: User) -> None:
    row, empty = (make.deployment(make.agent(), owner=carol, funded=False) for _ in range(2))
    move = ledger.Move("venue:paper", ledger.account_of(row.pk), "ETH", D(1), "trade")
    ledger.post(JournalKind.FILL, "without-a-quote", [move])
    first, second = deployment_cards.cards([row, empty])
    assert (first.equity, first.pnl, second.equity, second.pnl) == (None, None, D(0), D(0))
    page = browser.get("/agents").content.decode()
    assert '<p class="big">– <small class="">–</small></p>' in page
    assert "Unknown: a token that it holds has no quote." in page


def test_a_card_reads_a_bounded_number_of_points_and_keeps_those_of_its_plot(
    carol: User, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make.deployment(make.agent(), owner=carol)
    now = clock.now()
    original = points.read_points
    read: list[tuple[int, int]] = []

    def spy(*args: Any, **options: Any) -> Any:
        rows = original(*args, **options)
        read.append((options["most"], len(rows)))
        return rows

    EquityPoint.objects.bulk_create(
        EquityPoint(
            deployment=row, at=now - timedelta(minutes=n), equity=D(10_000) + n % 7, deposits=D(10_000)
        )
        for n in range(1, 2_001)
    )
    monkeypatch.setattr(deployment_cards.points, "read_points", spy)
    monkeypatch.setattr(deployment_cards, "GLANCE_POINTS", 500)
    [card] = deployment_cards.cards([row])
    [(most, count)] = read
    assert (most, count <= 500, len(card.points) <= deployment_cards.POINTS) == (500, True, True)
    monkeypatch.setattr(deployment_cards, "GLANCE_POINTS", 20_000)
    [card] = deployment_cards.cards([row])
    assert read[1][1] > 1_900
    assert deployment_cards.POINTS - 2 <= len(card.points) <= deployment_cards.POINTS
    assert card.points[0][0] == now - timedelta(minutes=2_000)


def test_a_newcomer_is_led_to_the_start(browser: Client) -> None:
    assert 'href="/start"' in browser.get("/agents").content.decode()
