"""Performance, attribution, equity and exports: the command, the API, and what each person may see of them."""

import csv
import json
from decimal import Decimal as D
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.test import Client

from maxxit.api.api import api as rest
from maxxit.core import clock
from maxxit.reports import performance
from maxxit.reports.scope import PERIODS, scope_of, span_of
from maxxit.streaming import LINES, CsvResponse
from positions.performance import parts, points, returns
from signals_app.models import ImpactFactorHistory
from tests.surface.conftest import World
from tests.surface.test_commands import said, told
from tests.surface.test_pnl import traded
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def api(world: World, who: Any, path: str, **query: Any) -> Any:
    answer = Client().get(f"/api/{path}", query, headers=world.key(who))
    assert answer.status_code == 200, answer.content
    return answer.json()


# -- the command


def test_performance_of_a_deployment(trader: Trader) -> None:
    traded(trader)
    told_of = told("performance", f"--deployment={trader.deployment.pk}")
    assert (told_of["pnl_usd"], told_of["closed_pnl_usd"], told_of["open_pnl_usd"]) == (
        "-41.9",
        "-81.2",
        "39.3",
    )
    assert told_of["apr"] == {"have": 0, "need": 30, "unit": "days"}
    assert "spent" not in told_of  # the platform's, not a deployment's
    text = said("performance", f"--deployment={trader.deployment.pk}")
    for words in ("-41.90", "0 of 30 days", "TWR", "win rate", "Costs (USD)", "paid by the platform"):
        assert words in text
    assert "spent" in told("performance")


def test_the_parts_add_up_to_the_total(trader: Trader) -> None:
    traded(trader)
    for by in (name for name in parts.DIMENSIONS if name != "total"):
        told_of = told("performance", "--by", by)
        assert sum(D(part["net"]) for part in told_of["parts"]) == D(told_of["total"]["net"]) == D("-81.2"), (
            by
        )
    assert "stop_loss" in said("performance", "--by", "exit_reason")


def test_the_trades_of_a_followed_account_beside_its_own_record(world: World) -> None:
    author = world.of_alice.post.account
    told_of = told("performance", f"--account=@{author.x_username.upper()}")
    assert [part["label"] for part in told_of["parts"]] == [f"@{author.x_username}"]
    assert told_of["total"]["net"] == "38.16"
    assert told_of["own_record"] is None
    ImpactFactorHistory.objects.create(
        account=author,
        day=clock.now().date(),
        at=clock.now(),
        impact_factor=D("0.61"),
        calls=7,
        mean_score=D("0.2"),
    )
    assert "7 calls, mean score 0.2" in said("performance", f"--account=@{author.x_username}")
    with pytest.raises(CommandError, match="nobody follows @nobody"):
        said("performance", "--account=@nobody")
    for command in (["pnl", "today"], ["portfolio"], ["lots"]):
        with pytest.raises(CommandError, match="a followed account has no equity"):
            said(*command, f"--account=@{author.x_username}")


def test_an_account_at_a_venue_an_agent_and_two_scopes(world: World) -> None:
    mine = world.of_alice.deployment
    assert scope_of(account=mine.account.upper()).deployments == [mine.pk]
    assert scope_of(agent=str(mine.agent_id)).deployments == [mine.pk]
    assert scope_of(agent=mine.agent.name).label == f"agent {mine.agent.name}"
    with pytest.raises(Exception, match="give one of"):
        scope_of(agent="x", account="y")


def test_spans() -> None:
    assert span_of() == (None, None)
    for name, width in PERIODS.items():
        since, until = span_of(name)
        assert until is None
        assert since is None if width is None else abs(clock.now() - width - (since or clock.now())) < width
    with pytest.raises(Exception, match="no period '2d'"):
        span_of("2d")
    with pytest.raises(Exception, match="begins at"):
        span_of("all", clock.now(), clock.now().replace(year=2001))


# -- CSV


def test_trades_as_csv(trader: Trader, tmp_path: Path) -> None:
    traded(trader)
    closed, opened = rows(said("trades", "--csv"))
    assert (closed["pnl_usdc"], closed["fees_usdc"], closed["pnl_before_costs_usdc"]) == (
        "-81.2",
        "1.2",
        "-80",
    )
    assert (closed["exit_reason"], closed["state"]) == ("stop_loss", "closed")
    assert (opened["pnl_usdc"], opened["closed_at_utc"], opened["entry_price_usd"]) == ("", "", "2000")
    file = tmp_path / "trades.csv"
    assert told("trades", f"--csv={file}", "--period=1d") == {"file": str(file), "rows": 2}
    assert len(rows(file.read_text())) == 2
    assert rows(said("trades", "--csv", "--since=2026-03-03", "--until=2026-03-03")) == [opened]
    with pytest.raises(CommandError, match="cannot be written"):
        said("trades", f"--csv={tmp_path}")
    with pytest.raises(CommandError, match="--csv and --json"):
        said("trades", "--csv", "--json")


def test_lots_as_csv_add_up_to_the_results(trader: Trader) -> None:
    traded(trader)
    [lot] = rows(said("lots", "--year=2026"))
    assert (lot["quantity"], lot["cost_usdc"], lot["proceeds_usdc"]) == ("0.4", "800", "720")
    assert (lot["fees_usdc"], lot["gain_usdc"]) == ("1.4", "-81.4") or D(lot["gain_usdc"]) == D("-81.2")
    assert lot["opening_transaction"] != lot["closing_transaction"] != ""
    assert rows(said("lots", "--year=2025")) == []
    with pytest.raises(CommandError, match="no year 26"):
        said("lots", "--year=26")
    with pytest.raises(CommandError, match="give --year, or"):
        said("lots", "--year=2026", "--since=2026-01-01")
    for command in ("lots", "trades", "performance"):
        with pytest.raises(CommandError, match="--until '9999-12-31' is no date or time: write 2026-03-02"):
            said(command, "--until=9999-12-31")


def test_a_name_that_is_a_formula_is_quoted(world: World) -> None:
    type(world.of_alice.agent).objects.filter(pk=world.of_alice.agent.pk).update(name="=cmd()")
    first = rows(said("trades", "--csv", f"--deployment={world.of_alice.deployment.pk}"))[0]
    assert first["agent"] == "'=cmd()"


# -- portfolio


def test_the_portfolio_of_one_deployment(world: World) -> None:
    told_of = told("portfolio", f"--deployment={world.of_alice.deployment.pk}")
    assert [row["deployment"] for row in told_of["deployments"]] == [world.of_alice.deployment.pk]
    assert {row["deployment_id"] for row in told_of["positions"]} == {world.of_alice.deployment.pk}


def test_the_portfolio_is_shown_again_until_ctrl_c(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    assert said("portfolio", "--watch", "--every=5").count("equity") == 2
    assert waits == [5, 5]


# -- the API


def test_the_api_answers_what_the_commands_print(world: World) -> None:
    mine = world.of_alice.deployment.pk
    shown = api(world, world.alice, "performance", deployment=mine)
    assert shown["closed_pnl_usd"] == told("performance", f"--deployment={mine}")["closed_pnl_usd"] == "38.16"
    assert shown["apr"]["unit"] == "days"
    by = api(world, world.alice, "performance/attribution", by="token", period="7d")
    assert [(part["key"], part["net"]) for part in by["parts"]] == [("ETH", "38.16")]
    summary = api(world, world.alice, "pnl/summary")
    assert (summary["today"]["realised_usd"], summary["today"]["about"]) == ("38.16", "your deployments")
    explained = api(world, world.alice, "pnl/explain", deployment=mine)
    assert [books["deployment"] for books in explained["books"]] == [mine]
    assert any(row["code"] == "blocked:cooldown" for row in explained["findings"])


def test_staff_sees_the_platform(world: World) -> None:
    assert api(world, world.staff, "performance")["closed_pnl_usd"] == "76.32"
    assert api(world, world.staff, "performance")["about"] == "all deployments"
    assert api(world, world.alice, "performance")["closed_pnl_usd"] == "38.16"


@pytest.mark.parametrize(
    "path",
    [
        "performance",
        "performance/attribution",
        "pnl/summary",
        "pnl/explain",
        "equity",
        "trades.csv",
        "lots.csv",
    ],
)
def test_another_customers_deployment_agent_and_account_are_not_found(world: World, path: str) -> None:
    theirs = world.of_bob.deployment
    for query in ({"deployment": theirs.pk}, {"agent": theirs.agent.name}, {"account": theirs.account}):
        answer = Client().get(f"/api/{path}", query, headers=world.key(world.alice))
        assert answer.status_code == 404, (query, answer.content)
        assert Client().get(f"/api/{path}", query, headers=world.key(world.bob)).status_code == 200


def test_a_followed_account_has_parts_and_no_equity(world: World) -> None:
    name = f"@{world.of_alice.post.account.x_username}"
    own = api(world, world.alice, "performance/attribution", account=name)
    assert own["total"]["net"] == "38.16"
    assert api(world, world.bob, "performance/attribution", account=name)["parts"] == []
    for path in ("performance", "equity", "pnl/summary", "lots.csv"):
        answer = Client().get(f"/api/{path}", {"account": name}, headers=world.key(world.alice))
        assert answer.status_code == 422, path
        assert "/api/performance/attribution" in answer.json()["message"]


def test_the_equity_curve_is_thinned_and_keeps_its_flows(world: World) -> None:
    points.take_points()
    shown = api(world, world.alice, "equity", deployment=world.of_alice.deployment.pk)
    assert shown["items"][-1]["drawdown_pct"] == "0.0000"
    assert D(shown["items"][0]["equity_usd"]) > 0

    flows = [1000, *([0] * 4_999)]
    flows[2_345] = 50
    at = [float(second) for second in range(5_000)]
    total, equity = 0, []
    for flow in flows:
        equity.append(total)
        total += flow * 1_000_000
    curve = returns.curve(at, [1] * 5_000, equity, [flow * 1_000_000 for flow in flows])
    places = performance.thinned(curve, 100)
    assert len(places) <= 101
    assert {2_345, 4_999} <= set(places)


def test_csv_over_the_api_is_streamed(world: World) -> None:
    answer = Client().get("/api/trades.csv", headers=world.key(world.alice))
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="trades.csv"'
    listed = rows(answer.getvalue().decode())
    assert {row["deployment"] for row in listed} == {str(world.of_alice.deployment.pk)}

    read: list[int] = []

    def lines() -> Any:
        for number in range(10 * LINES):
            read.append(number)
            yield f"{number}\r\n"

    stream = iter(CsvResponse(lines(), "x.csv"))
    part = next(stream)
    assert len(read) <= 2 * LINES, "all lines were read before the first was sent"
    assert (part + b"".join(stream)).count(b"\n") == 10 * LINES


def test_the_schema_describes_each_operation_with_an_example() -> None:
    schema = json.loads(json.dumps(rest.get_openapi_schema(), default=str))
    for path in (
        "performance",
        "performance/attribution",
        "pnl/summary",
        "pnl/explain",
        "equity",
        "lots.csv",
    ):
        operation = schema["paths"][f"/api/{path}"]["get"]
        deployment = next(row for row in operation["parameters"] if row["name"] == "deployment")
        assert operation["description"]
        assert "examples" in json.dumps(deployment), path
    assert "text/csv" in schema["paths"]["/api/trades.csv"]["get"]["responses"]["200"]["content"]


def test_a_session_may_read_what_the_page_links_to(world: World) -> None:
    browser = world.logged_in(world.alice)
    assert browser.get("/api/trades.csv").status_code == 200
    assert browser.get("/api/performance?period=7d").status_code == 200
    assert browser.get("/api/performance?period=2d").status_code == 422
    assert browser.get("/api/performance?unknown=1").status_code == 422
