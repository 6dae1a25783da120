"""The preview on the page Start and in the API: asked for, watched, canceled, read; nobody sees another's."""

import json
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agents import following
from agents.models import CtAccount
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.replay import previews as previews_of_users
from maxxit.replay.models import Preview
from maxxit.web import agents
from maxxit.web.once import new_token
from signals_app.models import AuthorRecord
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.surface.conftest import World

pytestmark = pytest.mark.django_db


def result(**changes: Any) -> dict[str, Any]:
    """A result as `figures.result_of` makes it."""
    trade = {
        "token": "ETH", "side": "long", "opened_at": iso_utc(T0), "closed_at": iso_utc(T0 + timedelta(hours=5)),
        "entry_price": "2000", "exit_price": "2100", "exit_reason": "take_profit", "pnl": "12.5",
        "posts": [{"account": "dora", "text": "buying <b>$ETH</b>"}],
    }  # fmt: skip
    curve = [
        {"at": iso_utc(T0 + timedelta(hours=hour)), "equity_usd": str(1000 + hour),
         "flow_usd": "0" if hour else "1000", "index": "1.0", "drawdown_pct": "0"}
        for hour in range(12)
    ]  # fmt: skip
    reason = {"reason": "cooldown", "count": 2, "meaning": "the last entry in this symbol is too recent"}
    return {
        "start": iso_utc(T0 - timedelta(days=30)), "end": iso_utc(T0), "reader": "rules-3", "posts": 40, "calls": 9,
        "signals": 8, "declined": [], "orders": 8, "blocked": [reason], "trades": 5, "open": 1, "capital": "1000",
        "equity": "1030.5", "pnl": "30.5", "pnl_open": "1.2", "twr": "0.030500", "max_drawdown": "0.012000",
        "costs": {"venue_fees": "1", "platform_fees": "2", "profit_share": "3", "slippage_usd": "4", "total": "6"},
        "win_rate": {"value": "0.6000", "low": "0.2307", "high": "0.8824"}, "winners": 3, "curve": curve,
        "best": trade, "worst": trade | {"pnl": "-4", "exit_reason": "stop_loss"},
        "by_account": [{"name": "dora", "trades": "5", "pnl": "29.3", "win_rate": "0.6", "posts": 40, "calls": 9},
                       {"name": "erin", "trades": "0", "pnl": "0", "win_rate": None, "posts": 0, "calls": 0}],
        "by_token": [{"name": "ETH", "trades": "5", "pnl": "29.3", "win_rate": "0.6"}], "by_exit": [], "unpriced": [],
        "notes": ["There are no recorded posts of @erin in this time.", "5 closed trades: fewer than 20 say little."],
    } | changes  # fmt: skip


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (following, agents):
        monkeypatch.setattr(module, "post_sources", lambda: ("x", "jsonl"))


@pytest.fixture
def dora(time: RecordedClock) -> CtAccount:
    """An account with posts and a record."""
    account = make.account(username="dora", source="x")
    make.post(account, posted_at=T0 - timedelta(days=2), ingested_at=T0 - timedelta(days=2))
    return account


@pytest.fixture
def carol() -> User:
    return User.objects.create_user("carol")


@pytest.fixture
def browser(carol: User) -> Client:
    client = Client()
    client.force_login(carol)
    return client


def send(browser: Client, **changes: Any) -> Any:
    values = {
        "name": "Moon watch", "accounts": ["dora"], "others": "@erin", "capital": "1000", "sizing_preset": "moderate",
        "exit_preset": "signal", "do": "preview", "once": new_token(),
    }  # fmt: skip
    return browser.post("/start", values | changes)


def finish(**changes: Any) -> Preview:
    Preview.objects.update(state="done", progress=1, result=result(**changes), finished_at=clock.now())
    return Preview.objects.get()


def test_a_preview_is_asked_for_watched_and_read_and_what_was_typed_stays(
    browser: Client, dora: CtAccount
) -> None:
    answer = send(browser)
    preview = Preview.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/start?preview={preview.pk}#preview")
    assert preview.inputs["accounts"] == ["dora", "erin"]

    page = browser.get(f"/start?preview={preview.pk}").content.decode()
    assert 'value="Moon watch"' in page
    assert 'value="@erin"' in page
    assert "checked" in page
    assert "data-under-way" in page
    assert "Waiting." in page
    Preview.objects.update(state="running", progress=0.5, played_until=T0 - timedelta(days=15))
    assert "50 %: played until" in browser.get(f"/previews/{preview.pk}").content.decode()

    finish()
    part = browser.get(f"/previews/{preview.pk}").content.decode()
    assert "data-under-way" not in part
    for text in (
        "+30.50", "+3.05 %", "3 of 5; 95 %: 23.07 % to 88.24 %", "no recorded posts of @erin", "none recorded",
        "Best trade", "buying &lt;b&gt;$ETH&lt;/b&gt;", "the last entry in this symbol is too recent".capitalize(),
        "no model was asked", "Past results promise nothing",
    ):  # fmt: skip
        assert text in part, text


def test_a_result_without_a_trade_is_shown_too(browser: Client, dora: CtAccount) -> None:
    send(browser)
    preview = finish(
        trades=0, winners=0, win_rate=None, twr=None, max_drawdown=None, best=None, worst=None, curve=[], by_token=[],
        blocked=[],
    )  # fmt: skip
    part = browser.get(f"/previews/{preview.pk}").content.decode()
    assert "no trade closed" in part


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"accounts": [], "others": "erin"}, "No recorded posts of @erin in the last 30 days"),
        ({"capital": "12"}, "This cannot work"),
        ({"accounts": [], "others": ""}, "Choose at least one account"),
    ],
)
def test_what_cannot_be_previewed_is_said_on_the_page(
    browser: Client, dora: CtAccount, changes: Any, text: str
) -> None:
    answer = send(browser, **changes)
    assert answer.status_code == 422
    assert text in answer.content.decode()
    assert Preview.objects.count() == 0


def test_a_double_click_asks_once_and_cancel_ends_it(browser: Client, dora: CtAccount) -> None:
    send(browser)
    send(browser)
    preview = Preview.objects.get()
    assert browser.post(f"/previews/{preview.pk}/cancel").status_code == 302
    preview.refresh_from_db()
    assert preview.state == "canceled"
    assert "was canceled" in browser.get(f"/start?preview={preview.pk}").content.decode()


def test_a_failed_one_says_why(browser: Client, dora: CtAccount) -> None:
    send(browser)
    Preview.objects.update(state="failed", error="it took longer than 600 seconds")
    assert (
        "could not be finished: it took longer"
        in browser.get(f"/previews/{Preview.objects.get().pk}").content.decode()
    )


def test_nobody_sees_or_cancels_anothers_preview(browser: Client, dora: CtAccount, world: World) -> None:
    send(browser)
    number = Preview.objects.get().pk
    other = Client()
    other.force_login(world.bob)
    assert other.get(f"/previews/{number}").status_code == 404
    assert other.post(f"/previews/{number}/cancel").status_code == 404
    assert "data-under-way" not in other.get(f"/start?preview={number}").content.decode()
    key = world.key(world.bob, "read", "trade")
    assert other.get(f"/api/previews/{number}", headers=key).status_code == 404
    assert other.get("/api/previews", headers=key).json() == {"items": [], "count": 0}


def test_the_api_takes_a_request_once_and_gives_the_result(dora: CtAccount, world: World) -> None:
    key = world.key(world.alice, "read", "trade") | {"Idempotency-Key": "one"}
    body = {"accounts": ["@dora"], "capital": "500", "days": 10}
    client = Client()
    codes = [
        client.post("/api/previews", json.dumps(body), content_type="application/json", headers=key)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in codes] == [201, 201]
    assert codes[0].json() == codes[1].json()
    assert (codes[0].json()["status"], codes[0].json()["ahead"]) == ("QUEUED", 0)
    preview = finish()
    answer = client.get(f"/api/previews/{preview.pk}", headers=key).json()
    assert (answer["status"], answer["result"]["pnl"], answer["progress"]) == ("DONE", "30.5", 1.0)
    assert client.get("/api/previews?colour=red", headers=key).status_code == 422
    wrong = client.post(
        "/api/previews", json.dumps(body | {"accounts": ["nobody"]}), content_type="application/json",
        headers=world.key(world.alice, "trade"),
    )  # fmt: skip
    assert wrong.status_code == 422
    assert "no recorded posts of @nobody" in wrong.content.decode()


def test_each_account_shows_its_own_record(browser: Client, dora: CtAccount) -> None:
    figure = {"mean": 0.625, "low": 0.31, "high": 0.86, "p_value": None, "clusters": 9}
    one = {"calls": 16, "hit_rate": figure, "mean": figure, "excess": figure}
    AuthorRecord.objects.create(
        account=dora, at=T0, figures={"horizons": {"1440": one}}, calls=16, hit_rate=0.625
    )
    make.account(username="erin", source="x")
    page = browser.get("/start").content.decode()
    assert "16 calls, 62% right (95 %: 31% to 86%)" in page
    assert "not enough data" in page
    assert 'href="/accounts/dora"' in page


def test_the_page_reads_as_much_for_twelve_accounts_as_for_one(browser: Client, dora: CtAccount) -> None:
    counts = []
    for number in range(2):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            browser.get("/start")
        counts.append(len(queries))
        for more in range(11):
            make.account(username=f"more{number}{more}", source="x")
    assert counts[0] == counts[1]


def test_a_request_cancels_nothing_where_it_is_refused(browser: Client, dora: CtAccount, carol: User) -> None:
    send(browser)
    assert send(browser, capital="12").status_code == 422
    assert Preview.objects.get().state == "queued"
    assert list(previews_of_users.ahead_of([Preview.objects.get()]).values()) == [0]
    assert Preview.objects.get().owner == carol
    assert D(Preview.objects.get().inputs["capital"]) == 1000
