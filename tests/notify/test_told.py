"""What is told: the table of docs/notifications.md, warnings about rows, losses near a limit, stops that moved."""

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.models import CtAccount, Deployment, Subscription
from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.llm.models import LlmSpend
from maxxit.llm.policy import policy as llm_policy
from maxxit.notify import alerts, kinds
from maxxit.notify.models import Alert
from maxxit.ops import beat_watch
from maxxit.pipeline.models import CanaryMark, PipelineRun, StageRun
from maxxit.pipeline.stages import ALERTS, OWNER_ALERTS
from maxxit.reports.operators import conditions, health
from positions import loss_warnings
from positions.exits import stop_moves
from positions.health import AccountHealth, Health
from positions.models import Position
from tests import builders as make
from tests.builders import RecordedClock
from trading.chain import disagreements
from trading.risk.policy import policy

database = pytest.mark.django_db
TABLE = Path(__file__).parents[2] / "docs" / "notifications.md"


def test_the_page_lists_every_event_that_is_told_with_its_severity() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|.*\| ([a-z, ]+) \| ([a-z]+) \|$", TABLE.read_text(), re.MULTILINE)
    assert {name for name, _, _ in rows} == {*ALERTS, *OWNER_ALERTS}
    assert {name: severity for name, _, severity in rows} == {
        name: kinds.severity(name) for name, _, _ in rows
    }
    alone = {name for name, who, _ in rows if "staff" not in who}
    assert alone == set(OWNER_ALERTS)


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def boss() -> User:
    return User.objects.create(username="boss", is_staff=True)


def told() -> set[tuple[str, str]]:
    alerts.write()
    return set(Alert.objects.filter(channel="inbox").values_list("user__username", "event__name"))


# --- who gets it -----------------------------------------------------------------------------------------------------


@database
def test_every_owner_that_an_event_lists_is_told_once_and_nobody_else(ann: User, boss: User) -> None:
    User.objects.create(username="eve")
    bob = User.objects.create(username="bob")
    record("author.unread", ann, text="x", owner_ids=[ann.pk, bob.pk])
    for _ in range(2):
        assert told() == {(name, "author.unread") for name in ("ann", "bob", "boss")}
    assert Alert.objects.count() == 3
    assert set(Alert.objects.values_list("state", flat=True)) == {"sent"}, "the inbox needs no sending"


@database
def test_an_address_that_is_added_later_gets_nothing_of_the_past(ann: User) -> None:
    record("author.unread", ann, text="x", owner_ids=[ann.pk])
    alerts.write()
    make.webhook(ann, "https://example.com/x")
    alerts.write()
    assert list(Alert.objects.values_list("channel", flat=True)) == ["inbox"]


@database
@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("position.open", {"side": "long", "symbol": "ETH", "entry": "2000.10000000"}, "Long ETH opened at 2000.1 USD"),
        (
            "position.closed",
            {"side": "short", "symbol": "BTC", "why": "stop_loss", "realised_pnl": "-12.346"},
            "Short BTC closed by stop loss: profit or loss -12.35 USDC",
        ),
        (
            "position.stop_moved",
            {"side": "long", "symbol": "ETH", "stop": "2100", "before": "2050", "entry": "2000"},
            "The trailing stop of long ETH is at 2100 USD, before 2050; the entry was at 2000 USD",
        ),
    ],
)  # fmt: skip
def test_trades_are_told_to_their_owner_in_words(
    ann: User, boss: User, name: str, data: Any, text: str
) -> None:
    record(name, ann, owner_id=ann.pk, **data)
    assert told() == {("ann", name)}
    alert = Alert.objects.get()
    assert alerts.text_of(alert) == text
    assert "owner_id" not in alerts.message_of(alert).data


# --- losses and stops ------------------------------------------------------------------------------------------------

WELL = AccountHealth("a", equity=D(10_000), equity_at_midnight=D(10_000))


@pytest.mark.parametrize(
    ("change", "causes"),
    [
        ({}, []),
        ({"pnl": D(-399)}, []),
        ({"pnl": D(-400)}, ["daily_loss"]),
        ({"pnl": D(-499)}, ["daily_loss"]),
        ({"pnl": D(-500)}, []),
        ({"pnl": D(-800), "pnl_at_midnight": D(-800), "best_pnl": D(100), "equity": D(9100)}, ["drawdown"]),
        ({"equity_at_midnight": D(0), "pnl": D(-400)}, []),
    ],
)
def test_a_loss_is_near_its_limit_from_80_percent_of_it_to_the_limit(change: Any, causes: list[str]) -> None:
    found = loss_warnings.decide(Health((replace(WELL, **change),)), policy().triggers)
    assert [near.cause for near in found] == causes


@database
def test_a_loss_near_its_limit_is_told_to_owner_and_staff_once_a_day(
    ann: User, boss: User, time: RecordedClock
) -> None:
    make.deployment(make.agent(), owner=ann, account="a")
    near = Health((replace(WELL, pnl=D(-450)),))
    assert [loss_warnings.warn(near, policy().triggers) for _ in range(2)] == [1, 0]
    assert told() == {("ann", "account.loss_near_limit"), ("boss", "account.loss_near_limit")}
    text = alerts.text_of(Alert.objects.filter(user=ann).get())
    assert text.startswith(
        "Account a has lost 450.00 USD since midnight UTC, 4.50 % of its equity; at 5 % it is stopped."
    )
    time.move(hours=24)
    assert loss_warnings.warn(near, policy().triggers) == 1


@database
def test_a_stop_that_moved_is_told_to_its_owner_at_most_once_an_hour(ann: User, time: RecordedClock) -> None:
    of = make.deployment(make.agent(), owner=ann)
    row = make.position(of, trailing_pct=D(2), trailing_activation=D(2050))
    make.position(
        make.deployment(make.agent()), trailing_pct=D(2), trailing_activation=D(2050), trailing_stop=D(2009)
    )
    assert stop_moves.tell() == 0, "one is not set, the other has no owner"

    def move(stop: int) -> int:
        Position.objects.filter(pk=row.pk).update(trailing_stop=D(stop))
        return stop_moves.tell()

    assert [move(2009), move(2050)] == [1, 0]
    time.move(hours=1)
    assert [move(2050), move(2050)] == [1, 0]
    time.move(hours=1)
    assert move(2050) == 0, "it did not move"
    newest = Event.objects.filter(name="position.stop_moved").first()
    assert newest is not None
    assert (newest.data["stop"], newest.data["before"], newest.data["owner_id"]) == ("2050", "2009", ann.pk)


# --- conditions of single rows ---------------------------------------------------------------------------------------


def ingest(time: RecordedClock, *, whole: bool = True, **failed: str) -> None:
    """A pass that has ended; one of a single source belongs to no run of the pipeline."""
    time.move(hours=6)
    run = PipelineRun.objects.create(cause="schedule", started_at=time.now) if whole else None
    StageRun.objects.create(
        run=run, stage="ingest", started_at=time.now, duration_ms=5, detail={"failed": failed}
    )


def begun() -> list[str]:
    return [one.split(" ")[0] for one in conditions.watch_conditions()]


@database
def test_an_author_who_cannot_be_read_is_told_to_followers_and_staff_until_read_again(
    ann: User, boss: User, time: RecordedClock
) -> None:
    agent = make.agent()
    author = make.account(agent, username="vitalik")
    make.deployment(agent, owner=ann)
    User.objects.create(username="eve")
    ingest(time, vitalik="answered 503")
    assert begun() == [], "a pass may fail"
    ingest(time, whole=False)
    ingest(time, vitalik="answered 503")
    assert begun() == ["author.unread"]
    assert begun() == [], "told once"
    assert told() == {("ann", "author.unread"), ("boss", "author.unread")}
    assert "@vitalik are not read: answered 503" in alerts.text_of(Alert.objects.filter(user=ann).get())
    ingest(time)
    assert begun() == []
    assert Event.objects.filter(name=conditions.OVER).count() == 1
    CtAccount.objects.filter(pk=author.pk).update(is_active=False)
    assert begun() == ["author.unread"], "switched off"
    Subscription.objects.all().delete()
    assert begun() == []


@database
def test_an_author_who_was_read_in_between_is_not_told(time: RecordedClock) -> None:
    make.account(make.agent(), username="vitalik")
    ingest(time, vitalik="503")
    ingest(time)
    ingest(time, vitalik="503")
    assert begun() == []


@database
def test_a_safe_that_stays_unverified_is_told_after_an_hour(ann: User, time: RecordedClock) -> None:
    of = make.deployment(make.agent(), owner=ann)
    Deployment.objects.filter(pk=of.pk).update(
        safe_wallet="0x" + "1" * 40, account="0x" + "1" * 40, chain_id=31337, verified_at=None
    )
    record("safe.verified", of)
    record("safe.not_verified", of, differences=["x"], entries="stopped")
    assert begun() == []
    time.move(hours=1)
    record("safe.not_verified", of, differences=["x"], entries="stopped")
    assert begun() == ["safe.unverified"]
    assert begun() == []
    Deployment.objects.filter(pk=of.pk).update(verified_at=time.now)
    assert begun() == []
    assert conditions._standing() == set()


@database
def test_a_model_budget_that_is_nearly_spent_is_told(time: RecordedClock) -> None:
    limit = llm_policy().purposes["classify"].calls_per_day
    spend = LlmSpend.objects.create(
        day=time.now.date(), purpose="classify", account="", calls=limit * 89 // 100
    )
    assert begun() == []
    LlmSpend.objects.filter(pk=spend.pk).update(calls=limit * 91 // 100)
    assert begun() == ["llm.budget_nearly_spent"]


@database
def test_a_condition_that_cannot_be_read_hides_no_other(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise ValueError("no such table")

    one = conditions.Finding("agents.ctaccount/1", "text")
    monkeypatch.setattr(
        conditions, "CONDITIONS", {"author.unread": broken, "safe.unverified": lambda: iter([one])}
    )
    assert begun() == ["safe.unverified"]


# --- the teller itself -----------------------------------------------------------------------------------------------


@database
def test_while_beat_is_silent_the_worker_watches_itself(
    boss: User, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[str] = []

    def watch_health() -> list[str]:
        watched.append("health")
        return []

    monkeypatch.setattr(beat_watch, "watch_health", watch_health)
    CanaryMark.objects.create(queue="notify", worker="w", signed_at=clock.now())
    time.move(seconds=179)
    beat_watch.watch_for_beat()
    assert watched == []
    time.move(seconds=2)
    beat_watch.watch_for_beat()
    assert watched == ["health"]


def test_the_dead_mans_switch_is_pinged_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert beat_watch.ping() is False, "none is set"
    monkeypatch.setenv("HEARTBEAT_URL", "http://127.0.0.1:9/secret-check-id")
    assert beat_watch.ping() is False
    monkeypatch.setenv("HEARTBEAT_URL", "no url at all")
    assert beat_watch.ping() is False


@database
def test_an_endpoint_that_contradicts_the_others_is_red_for_ten_minutes(
    empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = SimpleNamespace(chain_id=1, urls=("https://a.example/secret-key", "https://b.example"))
    monkeypatch.setattr(health, "all_chains", lambda: {"mainnet": chain})
    assert next(check for check in health._chain() if check.name == "rpc endpoints").ok
    disagreements.note(1, "a.example", "contradicts the others about block 5")
    check = next(check for check in health._chain() if check.name == "rpc endpoints")
    assert not check.ok
    assert check.detail.startswith("a.example of mainnet contradicts the others about block 5, ")
    assert timedelta(seconds=disagreements.KEPT_SECONDS) == timedelta(minutes=10)
