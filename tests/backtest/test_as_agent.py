"""An agent's draft of a run has the settings of an agent alone; the rest is named with the reason."""

import json
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from agents.models import Agent
from maxxit.backtest import as_agent
from maxxit.core.errors import InvalidInput, Rejected
from tests.backtest.stored import CONFIDENCE, TRAILING, store_refused, store_run, store_sweep

pytestmark = pytest.mark.django_db

CHANGES = {
    CONFIDENCE: "0.45", "agents.Follower.weights.rsi": "30", "agents.Follower.profit_share": "0.1", TRAILING: "2",
    "agents.Chartist.min_confidence": "0.6", "account.cooldown_seconds_per_symbol": "600", "max_trade_usd": "900",
    "generate.spot.stop_loss_pct": "4", "venues.paper.fee_bps": "20", "sizing.moderate.high_pct": "7",
}  # fmt: skip


def test_what_is_of_the_agent_is_taken_and_the_rest_is_named() -> None:
    run = store_run(CHANGES)

    draft = as_agent.draft_of(run, "Follower")

    assert draft.changed == [CONFIDENCE, "agents.Follower.weights.rsi"]
    why = {one.key: one.why for one in draft.left_out}
    assert set(why) == set(CHANGES) - set(draft.changed)
    for key, part in (
        ("max_trade_usd", "limit of the platform"), ("account.cooldown_seconds_per_symbol", "limit of the platform"),
        (TRAILING, "exit preset"), ("sizing.moderate.high_pct", "sizing preset"), ("venues.paper.fee_bps", "venue"),
        ("generate.spot.stop_loss_pct", "signals.yaml"), ("agents.Chartist.min_confidence", "another agent"),
        ("agents.Follower.profit_share", "a fee"),
    ):  # fmt: skip
        assert part in why[key]
    assert run.tape.agents[0]["min_confidence"] == "0.4"  # the tape's own settings stay
    owner = User.objects.create_user("olga")
    made = as_agent.save_as_agent(run, draft, "", owner, by="olga")
    assert (made.state, made.owner, made.name) == ("draft", owner, f"Follower of backtest {run.pk}")
    assert (made.venue, made.tokens, made.sizing_preset, made.exit_preset) == (
        "paper",
        ["ETH"],
        "moderate",
        "signal",
    )
    assert str(made.min_confidence) == "0.450000"
    assert {name: weight for name, weight in made.weights.items() if weight} == {
        "tweet": 100, "moving_average": 40, "momentum": 40, "rsi": 30,
    }  # fmt: skip
    assert made.subscriptions.count() == made.deployments.count() == 0
    with pytest.raises(InvalidInput, match="another agent named"):
        as_agent.save_as_agent(run, draft, made.name, owner, by="olga")


def test_of_a_sweep_the_best_or_another_setting_is_taken() -> None:
    run = store_sweep()
    best, second = (as_agent.settings_of(run, place) for place in (0, 1))

    assert best == run.figures["best"] != second
    assert as_agent.draft_of(run, "Follower", 1).settings["min_confidence"] == second[CONFIDENCE]
    for wrong, agent, place in (("no number 7", "Follower", 6), ("name an agent of the tape", "", 0)):
        with pytest.raises(Rejected, match=wrong):
            as_agent.draft_of(run, agent, place)
    with pytest.raises(Rejected, match="has no result"):
        as_agent.draft_of(store_refused(), "Follower")


def test_the_command_asks_and_creates_a_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = store_run({CONFIDENCE: "0.45", "max_trade_usd": "900"}), StringIO()
    User.objects.create_user("olga")
    words = ("save-agent", str(run.pk), "--owner", "olga", "--agent", "Follower")
    monkeypatch.setattr("builtins.input", lambda: "n")

    with pytest.raises(CommandError, match="no agent was created"):
        call_command("backtest", *words, stdout=out)
    assert "a limit of the platform" in out.getvalue()
    assert not Agent.objects.exists()
    told = StringIO()
    call_command("backtest", *words, "--yes", "--name", "Careful", "--json", stdout=told)

    made = json.loads(told.getvalue())
    assert (made["name"], made["state"], made["left_out"][0]["key"]) == ("Careful", "draft", "max_trade_usd")
    assert Agent.objects.get().name == "Careful"
