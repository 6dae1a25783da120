"""`manage.py twin`: figures, tests and orders of live deployments, for people and as JSON; the simulation's verdict."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from positions.twin import simulate
from positions.twin.policy import policy
from tests.positions.twin.conftest import Live


def run(*words: str) -> Any:
    return json.loads(said(*words, "--json"))


def said(*words: str) -> str:
    out = StringIO()
    call_command("twin", *words, stdout=out)
    return out.getvalue()


def test_figures_tests_and_orders_are_shown(live: Live) -> None:
    live.broker.extra_bps = 20
    live.trade()
    live.broker.sends.append("refused")
    live.enter()
    pk = live.deployment.pk
    assert run("compare") == {"compared": 3}
    [row] = run("list")["rows"]
    assert (row["key"], row["orders"], row["missed"], row["missed_entries"], row["trades"]) == (
        pk,
        3,
        1,
        1,
        1,
    )
    assert row["price_bps"] == pytest.approx(20, abs=0.1)
    assert float(row["twin_pnl"]) > float(row["live_pnl"]) > 0
    assert [one["key"] for one in run("list", "--by", "token")["rows"]] == ["ETH"]
    assert [one["key"] for one in run("list", "--by", "venue")["rows"]] == ["broker"]
    shown = run("show", str(pk), "--limit", "2")
    assert [one["measure"] for one in shown["tests"]] == ["price", "fee", "latency", "pnl", "missed"]
    assert [one["outcome"] for one in shown["orders"]] == ["missed", "filled"]
    assert shown["orders"][1]["twin_price"] == "2398.8"
    text = said("show", str(pk))
    assert "Twin agent on live:1 at broker" in text
    assert "2394" in text
    assert "alarms on: none" in said("list")


def test_an_unknown_deployment_and_one_without_orders(live: Live) -> None:
    with pytest.raises(CommandError, match="no deployment 4711"):
        run("show", "4711")
    pk = live.deployment.pk
    assert run("show", str(pk)) == {"deployment": pk, "figures": None, "tests": [], "orders": []}
    assert "no order was compared yet" in said("show", str(pk))


def test_the_simulation_says_how_often_the_shift_is_found_and_fails_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulate, "FORMS", simulate.FORMS[:1])
    measured = run("gate-test", "--runs", "3")
    assert measured["ok"]
    [noise] = measured["noises"]
    assert (noise["runs"], noise["found"], noise["calm_trades"]) == (3, 3, 3_000)
    assert "a shift of 20 bp is found within 30 trades" in said("gate-test", "--runs", "1")
    deaf = policy().model_copy(update={"values_per_false_alarm": 10**60})
    monkeypatch.setattr("positions.management.commands.twin.policy", lambda: deaf)
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("twin", "gate-test", "--runs", "2", "--json", stdout=out)
    assert not json.loads(out.getvalue())["ok"]
