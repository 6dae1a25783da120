"""Pages of an owner's decisions: limits that only tighten, and a yes or no to each entry that waits."""

from decimal import Decimal as D
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agents.models import Deployment
from maxxit.core import clock
from maxxit.market.models import Quote
from signals_app.models import Signal
from tests import builders as make
from tests.passes import execute_pass
from trading.models import Order

pytestmark = pytest.mark.django_db


@pytest.fixture
def carol() -> User:
    return User.objects.create_user("carol")


@pytest.fixture
def browser(carol: User) -> Client:
    client = Client()
    client.force_login(carol)
    return client


@pytest.fixture
def waiting(carol: User, no_approval_file: object) -> Order:
    make.price("ETH", "2000")
    make.open_gate()
    agent = make.agent()
    deployment = make.booked_deployment(agent, owner=carol)
    Deployment.objects.filter(pk=deployment.pk).update(confirm_entries=True)
    make.signal(agent, size_model={"tier": "high", "size": "0.15", "posts": 1})
    execute_pass()
    return Order.objects.get()


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_an_owner_confirms_an_entry_which_is_then_placed(browser: Client, waiting: Order) -> None:
    assert "1 entry waits for your confirmation" in text_of(browser.get("/"))
    assert "1 entry waits for your confirmation" in text_of(browser.get("/agents"))
    page = text_of(browser.get("/confirmations"))
    assert "Buy ETH" in page
    assert "2,000" in page
    assert "800.00 USD</b>, 0.4 ETH, 8.00 % of your 10,000.00 USD" in page
    for level in ("1,880.00 USD (-6.00 %)", "2,360.00 USD (+18.00 %)", "2,060.00 USD (+3.00 %) on"):
        assert level in page
    assert waiting.signal
    assert f"{waiting.signal.expires_at:%Y-%m-%d %H:%M:%S} UTC" in page
    assert "Buy 0.4 ETH, about 800.00 USD" in page
    answer = browser.post(f"/confirmations/{waiting.pk}/confirm", follow=True)
    assert "ETH: confirmed" in text_of(answer)
    assert "None waits now" in text_of(answer)
    execute_pass()
    assert Order.objects.get().state == "filled"


def test_an_owner_declines_once_and_a_late_answer_says_why(browser: Client, waiting: Order) -> None:
    assert "ETH: declined" in text_of(browser.post(f"/confirmations/{waiting.pk}/decline", follow=True))
    assert Order.objects.get().state == "blocked"
    late = text_of(browser.post(f"/confirmations/{waiting.pk}/confirm", follow=True))
    assert "waits for no confirmation" in late


def test_without_a_price_the_size_is_said_to_be_unknown(browser: Client, waiting: Order) -> None:
    Quote.objects.all().delete()
    page = text_of(browser.get("/confirmations"))
    assert "unknown without a usable price" in page
    assert "no usable quote now" in page
    assert "Stop loss" not in page


def test_the_list_takes_the_same_statements_for_one_and_for_many(
    browser: Client, waiting: Order, carol: User
) -> None:
    with CaptureQueriesContext(connection) as one:
        browser.get("/confirmations")
    for _ in range(5):
        agent = make.agent(owner=carol)
        row = make.booked_deployment(agent, owner=carol)
        Deployment.objects.filter(pk=row.pk).update(confirm_entries=True)
        make.signal(agent, size_model={"tier": "high", "size": "0.15", "posts": 1})
    execute_pass()
    with CaptureQueriesContext(connection) as many:
        page = text_of(browser.get("/confirmations"))
    assert page.count("Answer until") == 6
    assert len(many) <= len(one)


def test_the_list_refreshes_alone(browser: Client, waiting: Order) -> None:
    part = text_of(browser.get("/confirmations/rows"))
    assert "Buy ETH" in part
    assert "<html" not in part


def test_entries_of_others_are_404_and_not_listed(browser: Client, waiting: Order) -> None:
    stranger = Client()
    stranger.force_login(User.objects.create_user("mallory"))
    assert "Buy ETH" not in text_of(stranger.get("/confirmations"))
    for word in ("confirm", "decline"):
        assert stranger.post(f"/confirmations/{waiting.pk}/{word}").status_code == 404
    assert browser.post(f"/confirmations/{waiting.pk}/approve").status_code == 404
    assert stranger.get(f"/agents/{waiting.deployment_id}/limits").status_code == 404
    assert Order.objects.get().confirmed_at is None


def test_an_owner_sets_and_lifts_limits(browser: Client, carol: User) -> None:
    row = make.deployment(make.agent(), owner=carol, funded=False)
    page = f"/agents/{row.pk}/limits"
    assert "Exits are never held back" in text_of(browser.get(page))
    answer = browser.post(
        page, {"max_daily_usd": "250", "max_position_usd": "", "max_open_positions": "2", "confirm_entries": "on"},
        follow=True,
    )  # fmt: skip
    assert "saved. It holds from the next order on" in text_of(answer)
    row.refresh_from_db()
    assert (row.max_daily_usd, row.max_position_usd, row.max_open_positions) == (D(250), None, 2)
    assert (row.confirm_entries, row.limits_changed_by) == (True, "carol")
    assert "wait for your confirmation" in text_of(browser.get("/agents"))
    browser.post(page, {"max_daily_usd": "", "max_position_usd": "", "max_open_positions": ""})
    row.refresh_from_db()
    assert (row.max_daily_usd, row.max_open_positions, row.confirm_entries) == (None, None, False)


def test_a_revoked_deployment_takes_no_limits(browser: Client, carol: User) -> None:
    row = make.deployment(make.agent(), owner=carol, funded=False, state="revoked")
    answer = browser.post(f"/agents/{row.pk}/limits", {"max_daily_usd": "250"}, follow=True)
    assert "is revoked: it places no orders" in text_of(answer)
    row.refresh_from_db()
    assert row.max_daily_usd is None


def test_a_wrong_limit_is_named_and_what_was_typed_stays(browser: Client, carol: User) -> None:
    row = make.deployment(make.agent(), owner=carol, funded=False)
    typed = {"max_daily_usd": "-5", "max_position_usd": "999999999", "max_open_positions": "0"}
    answer = browser.post(f"/agents/{row.pk}/limits", typed)
    text = text_of(answer)
    assert answer.status_code == 422
    assert "enter an amount from 0.01 USD, or none to lift the limit, not -5" in text
    assert "999999999 USD is above the platform" in text
    assert "enter 1 to 1000 tokens" in text
    assert 'value="-5"' in text
    assert Deployment.objects.get(pk=row.pk).max_daily_usd is None


def test_an_expired_entry_says_when_it_expired(browser: Client, waiting: Order) -> None:
    Signal.objects.update(expires_at=clock.now())
    answer = text_of(browser.post(f"/confirmations/{waiting.pk}/confirm", follow=True))
    assert "expired with its signal at" in answer
