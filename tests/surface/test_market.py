"""The market page and its API: prices, bars, an agent's trades, and people's price rules."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from maxxit.market import candles, intake
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.feeds.base import Tick
from maxxit.market.models import Quote, RefusedQuote, SourceQuote
from maxxit.notify import endpoints, worker
from maxxit.notify.models import Endpoint, PriceRule
from maxxit.reports import market
from tests.builders import T0, RecordedClock
from tests.surface.conftest import World


def get(browser: Client, path: str, **asked: Any) -> Any:
    answer = browser.get(f"/api/market/{path}", asked)
    assert answer.status_code == 200, answer.content
    return answer.json()


# -- the page


def test_the_page_shows_prices_feeds_and_refusals_to_whoever_is_logged_in(world: World) -> None:
    page = world.logged_in(world.alice).get("/market").content.decode()
    for said in ("Quotes by source", "2,050", "stale", "lightweight-charts", "tradingview.com", "UTC"):
        assert said in page
    assert world.of_alice.agent.name in page
    assert world.of_bob.agent.name not in page
    tables = world.logged_in(world.bob).get("/market/tables").content.decode()
    assert "Refused quotes" in tables
    assert "<html" not in tables


def test_customers_read_nothing_of_commands_and_processes(world: World) -> None:
    mine = world.logged_in(world.alice).get("/market/tables").content.decode()
    assert "Prices are fetched every few seconds" in mine
    assert "manage.py" not in mine
    assert "manage.py stream" in world.logged_in(world.staff).get("/market/tables").content.decode()


def test_what_a_source_said_is_only_text_on_the_page(world: World) -> None:
    RefusedQuote.objects.update(price="<script>alert(1)</script>", value='"><img src=x>')
    page = world.logged_in(world.alice).get("/market/tables").content.decode()
    assert "<script" not in page
    assert "<img" not in page


def test_the_page_runs_no_script_but_its_own_files(world: World) -> None:
    answer = world.logged_in(world.alice).get("/market?symbol=ETH&interval=1h&agent=x")
    page, policy = answer.content.decode(), answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert page.count("<script") == page.count('<script src="/static/') == 4
    assert "style=" not in page
    assert "onclick" not in page
    assert "<option selected>1h</option>" in page


def test_the_vendored_chart_has_its_licence_and_version() -> None:
    library = Path(
        finders.find("vendor/lightweight-charts/lightweight-charts.standalone.production.js") or ""
    )
    assert "Lightweight Charts™ v5.2.1" in library.read_text()[:200]
    assert "Apache License" in (library.parent / "LICENSE").read_text()
    assert "TradingView" in (library.parent / "NOTICE").read_text()
    assert "5.2.1" in (library.parent / "README.md").read_text()


# -- quotes, feeds, refusals


def said(symbol: str, source: str, price: str, age: float) -> None:
    at = timezone.now() - timedelta(seconds=age)
    SourceQuote.objects.create(symbol=symbol, source=source, price=Decimal(price), at=at, received_at=at)


def test_a_quote_comes_with_its_sources_age_and_spread(world: World) -> None:
    SourceQuote.objects.all().delete()
    Quote.objects.update(price=Decimal(2000), at=timezone.now() - timedelta(seconds=10))
    said("ETH", "coinbase", "2000", 10)
    said("ETH", "coingecko", "2002", 20)
    said("ETH", "pyth", "1000", 500)  # too old to count for the spread

    told = get(world.logged_in(world.alice), "quotes")
    (row,) = told["items"]
    assert told["count"] == 1
    assert (row["symbol"], row["price"], row["spread_bps"]) == ("ETH", "2000", "10")
    assert 10 <= row["age_seconds"] < 15
    assert [(one["source"], one["off_bps"]) for one in row["sources"]] == [
        ("coinbase", "0"), ("coingecko", "10"), ("pyth", "-5000")
    ]  # fmt: skip
    assert row["usable"]
    assert row["trusted"]


def test_a_feed_that_is_silent_is_shown_as_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    SourceQuote.objects.all().delete()
    said("ETH", "coinbase", "2000", 1)
    stream: dict[str, Any] = {"owner": "host-7", "ticks": 9, "dropped": 1}
    stream["sources"] = [
        {"name": "coinbase", "error": ""},
        {"name": "coingecko", "error": "coingecko answered 429"},
    ]
    monkeypatch.setattr(market.stream_status, "status", lambda: stream)

    told = get(world.logged_in(world.alice), "health")
    feeds = {feed["name"]: feed for feed in told["feeds"]}
    assert told["leader"] == "host-7"
    assert (feeds["coinbase"]["well"], feeds["coinbase"]["symbols"]) == (True, 1)
    assert (feeds["coingecko"]["well"], feeds["coingecko"]["error"]) == (False, "coingecko answered 429")


def test_refusals_are_paged_and_filtered(world: World) -> None:
    for number in range(5):
        RefusedQuote.objects.create(
            symbol="BTC", source="c", reason="jump", hour=T0 + timedelta(hours=number), price="1", value="900 %",
            limit="50 %", first_at=T0, last_at=T0 + timedelta(hours=number),
        )  # fmt: skip
    browser = world.logged_in(world.alice)
    told = get(browser, "refused", symbol="BTC", limit=2, offset=1)
    assert told["count"] == 5
    assert [row["last_at"][11:16] for row in told["items"]] == ["15:00", "14:00"]
    assert (told["items"][0]["value"], told["items"][0]["limit"]) == ("900 %", "50 %")
    assert get(browser, "refused", source="b")["count"] == 1


# -- bars


def bars(count: int, first: datetime = T0) -> None:
    """Closes 1, 2, 3 …, each bar from the close before it."""
    made = [
        Bar(first + BAR * n, Decimal(n or 1), Decimal(n + 2), Decimal("0.5"), Decimal(n + 1), Decimal(1))
        for n in range(count)
    ]
    candles.store("BTC", made)


def test_bars_of_an_hour_are_made_of_twelve_and_paged_backwards(world: World, time: RecordedClock) -> None:
    bars(12 * 5 + 3)  # five hours and a quarter, from noon
    time.move(hours=5, minutes=15)
    browser = world.logged_in(world.alice)

    page = get(browser, "candles", symbol="BTC", interval="1h", limit=4)
    assert page["time_zone"] == "UTC"
    assert [row["close"] for row in page["items"]] == ["36", "48", "60", "63"]
    assert page["items"][1] == {
        "time": int((T0 + timedelta(hours=3)).timestamp()), "open": "36", "high": "49", "low": "0.5", "close": "48",
    }  # fmt: skip
    older = get(browser, "candles", symbol="BTC", interval="1h", limit=4, before=page["next_before"])
    assert [row["close"] for row in older["items"]] == ["12", "24"]
    assert older["next_before"] is None


def test_pages_of_five_minutes_join_without_gap_or_double(world: World, time: RecordedClock) -> None:
    bars(50)
    time.move(hours=6)
    browser, before = world.logged_in(world.alice), None
    found: list[int] = []
    while True:
        page = get(browser, "candles", symbol="BTC", limit=7, **({"before": before} if before else {}))
        found = [row["time"] for row in page["items"]] + found
        if not (before := page["next_before"]):
            break
    assert found == [int((T0 + BAR * n).timestamp()) for n in range(50)]


def test_bars_of_a_minute_come_from_the_ticks(world: World, time: RecordedClock) -> None:
    for price in (60_000, 60_100, 59_900):
        intake.take([Tick("BTC", Decimal(price), time.now, "coinbase")])
        time.move(seconds=20)
    (row,) = get(world.logged_in(world.alice), "candles", symbol="BTC", interval="1m")["items"]
    assert [row[name] for name in ("open", "high", "low", "close")] == ["60000", "60100", "59900", "59900"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("candles", {"symbol": "DOGE"}),
        ("candles", {"symbol": "BTC", "interval": "7m"}),
        ("candles", {"symbol": "BTC", "limit": 1501}),
        ("candles", {"symbol": "BTC", "limit": 0}),
        ("candles", {"symbol": "BTC", "before": "2026-03-02T12:00:00"}),
        ("candles", {"symbol": "BTC", "before": "yesterday"}),
        ("trades", {"symbol": "BTC"}),
        ("trades", {"symbol": "BTC", "since": "2026-03-02T12:00:00Z", "limit": 501}),
        ("quotes", {"limit": 0}),
        ("refused", {"symbol": "DOGE"}),
    ],
)
def test_a_wrong_question_is_422_and_says_what_is_known(
    world: World, path: str, asked: dict[str, Any]
) -> None:
    answer = world.logged_in(world.alice).get(f"/api/market/{path}", asked)
    assert answer.status_code == 422
    assert answer.json()["message"]


# -- an agent's trades


def test_entries_and_exits_are_those_of_ones_own_agents(world: World) -> None:
    since = (timezone.now() - timedelta(days=1)).isoformat()
    mine = get(world.logged_in(world.alice), "trades", symbol="ETH", since=since)
    assert {one["agent"] for one in mine["items"]} == {world.of_alice.agent.name}
    whats = [(one["what"], one["reason"], one["net"]) for one in mine["items"]]
    assert ("EXIT", "take_profit", "38.16") in whats
    assert sum(what == "ENTRY" for what, _, _ in whats) == 2
    everybodys = get(world.logged_in(world.staff), "trades", symbol="ETH", since=since)
    assert everybodys["count"] == 2 * mine["count"]
    one_agents = get(
        world.logged_in(world.staff), "trades", symbol="ETH", since=since, agent=world.of_bob.agent.pk
    )
    assert {one["agent_id"] for one in one_agents["items"]} == {world.of_bob.agent.pk}
    assert get(world.logged_in(world.alice), "trades", symbol="ETH", since=since, agent=world.of_bob.agent.pk)[
        "items"
    ] == []  # fmt: skip


def test_a_trade_stands_on_the_bar_that_it_fell_into(world: World) -> None:
    position = world.of_alice.position
    told = get(
        world.logged_in(world.alice), "trades", symbol="ETH", interval="1h",
        since=(position.opened_at - timedelta(seconds=1)).isoformat(),
        until=(position.opened_at + timedelta(seconds=1)).isoformat(),
    )  # fmt: skip
    (entry,) = told["items"]
    hour = position.opened_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    assert (entry["what"], entry["bar"], entry["price"]) == ("ENTRY", int(hour.timestamp()), "2000")


# -- who may


def test_a_page_reads_with_its_session_and_nothing_else_does(world: World) -> None:
    browser = world.logged_in(world.alice)
    since = "2026-03-01T00:00:00Z"
    for path in ("quotes", "health", "refused", "candles?symbol=BTC", f"trades?symbol=BTC&since={since}"):
        assert browser.get(f"/api/market/{path}").status_code == 200, path
        assert Client().get(f"/api/market/{path}").status_code == 401, path
    assert (
        browser.get("/api/signals").status_code == 401
    )  # the session of a tenant opens the market's lists only
    assert browser.get("/api/market/deliveries").status_code == 401
    assert browser.get("/api/market/rules").status_code == 401
    assert browser.post("/api/market/rules", "{}", content_type="application/json").status_code == 401
    assert browser.get("/api/market/quotes", headers={"x-api-key": "wrong"}).status_code == 401
    assert Client().get("/api/market/quotes").status_code == 401
    assert Client().get("/api/market/quotes", headers=world.key(world.bob)).status_code == 200


# -- price rules


def post(headers: dict[str, Any], **wish: Any) -> Any:
    return Client().post(
        "/api/market/rules", json.dumps(wish), content_type="application/json", headers=headers
    )


def test_a_rule_is_made_listed_tested_and_removed_by_its_owner(world: World) -> None:
    PriceRule.objects.all().delete()
    key = world.key(world.alice, "read", "rules")
    made = post(key, symbols=["ETH", "BTC"], condition="gt", threshold="2000")
    assert made.status_code == 201, made.content
    rule = made.json()
    assert (rule["user"], rule["symbols"], rule["threshold"]) == ("alice", ["BTC", "ETH"], "2000")
    assert Client().get("/api/market/rules", headers=key).json() == {"items": [rule], "count": 1}
    assert Client().get(f"/api/market/rules/{rule['rule_id']}", headers=key).json() == rule
    told = Client().get(f"/api/market/rules/{rule['rule_id']}/test", headers=key).json()
    assert (told["matches"], told["hits"]) == (True, [{"symbol": "ETH", "price": "2050", "value": "2050"}])
    gone = Client().delete(f"/api/market/rules/{rule['rule_id']}", headers=key)
    assert (gone.status_code, gone.json()["active"]) == (200, False)
    assert Client().get("/api/market/rules", headers=key).json()["count"] == 0
    assert Client().get("/api/market/rules?active=false", headers=key).json()["count"] == 1


def test_another_persons_rule_is_not_there(world: World) -> None:
    rule = PriceRule.objects.get(user=world.alice)
    theirs = world.key(world.bob, "read", "rules")
    for method, path in (("get", ""), ("get", "/test"), ("delete", "")):
        url = f"/api/market/rules/{rule.rule_id}{path}"
        assert getattr(Client(), method)(url, headers=theirs).status_code == 404
    assert Client().get("/api/market/rules", headers=theirs).json()["count"] == 0
    assert Client().get("/api/market/deliveries", headers=theirs).json()["count"] == 0
    rule.refresh_from_db()
    assert rule.active
    assert Client().get("/api/market/rules", headers=world.key(world.staff)).json()["count"] == 1


def test_a_key_that_may_only_read_makes_no_rule(world: World) -> None:
    answer = post(world.key(world.alice, "read"), symbols=["ETH"], condition="any")
    assert answer.status_code == 403
    assert "--scope rules" in answer.json()["message"]
    rule = PriceRule.objects.get(user=world.alice)
    assert (
        Client().delete(f"/api/market/rules/{rule.rule_id}", headers=world.key(world.alice)).status_code
        == 403
    )


@pytest.mark.parametrize(
    "wish",
    [
        {"symbols": ["DOGE"], "condition": "any"},
        {"symbols": [], "condition": "any"},
        {"symbols": ["ETH"], "condition": "near"},
        {"symbols": ["ETH"], "condition": "gt"},
        {"symbols": ["ETH"], "condition": "gt", "threshold": "NaN"},
        {"symbols": ["ETH"], "condition": "change_pct", "threshold": "5"},
        {"symbols": ["ETH"], "condition": "any", "channel": "pigeon"},
        {"symbols": ["ETH"], "condition": "any", "channel": "webhook"},
    ],
)
def test_a_rule_that_could_never_tell_is_refused(world: World, wish: dict[str, Any]) -> None:
    answer = post(world.key(world.alice, "rules"), **wish)
    assert answer.status_code == 422
    assert answer.json()["message"]


def test_deliveries_are_listed_with_their_state(world: World) -> None:
    key = world.key(world.alice)
    (row,) = Client().get("/api/market/deliveries", headers=key).json()["items"]
    assert (row["status"], row["symbol"], row["price"]) == ("PENDING", "ETH", "2050")
    worker.deliver()
    (row,) = Client().get("/api/market/deliveries?status=SENT", headers=key).json()["items"]
    assert row["sent_at"].endswith("Z")


def test_a_webhook_is_named_once_and_its_secret_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = world.key(world.alice, "rules")

    def put(url: str) -> Any:
        body = json.dumps({"url": url})
        return Client().put("/api/market/webhook", body, content_type="application/json", headers=key)

    assert put("https://127.0.0.1/").status_code == 422
    assert put("http://hooks.example/").status_code == 422
    monkeypatch.setattr(
        "maxxit.core.egress.socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 443))]
    )
    told = put("https://hooks.example/x").json()
    assert told["secret"] == endpoints.secret_of(Endpoint.objects.get(user=world.alice))
    assert post(key, symbols=["ETH"], condition="any", channel="webhook").status_code == 201
    removed = Client().delete("/api/market/webhook", headers=key).json()
    assert removed == {"removed": True}


def test_any_channel_gets_its_address_over_the_api_and_by_command(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "maxxit.core.egress.socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 443))]
    )
    key = world.key(world.alice, "rules")

    def put(channel: str, address: str) -> Any:
        body = json.dumps({"channel": channel, "address": address})
        return Client().put("/api/market/endpoints", body, content_type="application/json", headers=key)

    answer = put("webhook", "https://hooks.example/x").json()
    endpoint = Endpoint.objects.get(user=world.alice, active=True)
    assert answer == {
        "channel": "webhook",
        "address": "https://hooks.example/x",
        "secret": endpoints.secret_of(endpoint),
    }
    assert [put(*wrong).status_code for wrong in (("pigeon", "x"), ("inbox", "x"), ("webhook", "x"))] == [
        422
    ] * 3
    for channel, answer in (("webhook", {"removed": True}), ("inbox", {"removed": False})):
        assert Client().delete(f"/api/market/endpoints?channel={channel}", headers=key).json() == answer
    assert Client().delete("/api/market/endpoints?channel=pigeon%00", headers=key).status_code == 422

    options = ("--user", world.alice.username, "--channel", "webhook")
    call_command("rules", "endpoint", *options, "--address", "https://hooks.example/y", "--json")
    assert json.loads(capsys.readouterr().out)["address"] == "hooks.example/…"
    call_command("rules", "endpoint", *options, "--off", "--json")
    assert json.loads(capsys.readouterr().out)["removed"] is True


def test_the_reference_names_every_market_call(world: World) -> None:
    paths = world.logged_in(world.staff).get("/api/openapi.json").json()["paths"]
    found = {path.removeprefix("/api/market/") for path in paths if path.startswith("/api/market/")}
    assert found == {
        "quotes", "health", "refused", "candles", "trades", "rules", "rules/{rule_id}", "rules/{rule_id}/test",
        "rules/{rule_id}/pause", "rules/{rule_id}/resume", "rules/{rule_id}/fire",
        "deliveries", "endpoints", "webhook", "addresses", "addresses/{address_id}",
    }  # fmt: skip
