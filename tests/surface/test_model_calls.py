"""What became of the calls of models: the price afterwards, and the PnL of the positions that they caused."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.models import Deployment
from maxxit.core import clock
from maxxit.llm.models import LlmTrace
from maxxit.reports import model_calls
from maxxit.reports.trades import trace
from positions.models import Position
from signals_app.models import CtPost, Signal
from tests import builders
from tests.builders import T0

pytestmark = pytest.mark.django_db
DAY = timedelta(hours=24)


@pytest.fixture(autouse=True)
def _a_day_later() -> Iterator[None]:
    """ETH rose from 2,000 to 2,100 (5 %) in the day after T0; the newest quote is 2,200."""
    builders.hourly_bars("ETH", [2000.0, *[2050.0] * 23, 2100.0], until=T0 + DAY)
    builders.price("ETH", "2200")
    with clock.frozen(T0 + DAY):
        yield


def call(*subjects: CtPost, purpose: str = "classify", **fields: Any) -> LlmTrace:
    ids: list[UUID] = [one.correlation_id for one in subjects]
    values: dict[str, Any] = {
        "ts": T0, "purpose": purpose, "provider": "openai", "model": "gpt", "latency_ms": 5, "status": "ok",
        "prompt_sha256": "a" * 64, "prompt_version": "careful", "schema_sha256": "", "request_sha256": "",
        "correlation_id": ids[0], "correlation_ids": ids,
    }  # fmt: skip
    return LlmTrace.objects.create(**values | fields)


def decided(deployment: Deployment, weights: dict[CtPost, str], **fields: Any) -> Signal:
    """A signal on posts with the weights of the decision."""
    strongest = max(weights, key=lambda one: Decimal(weights[one]))
    signal = builders.signal(
        deployment.agent, correlation_id=strongest.correlation_id, created_at=T0,
        risk_model={"posts": {str(post.pk): weight for post, weight in weights.items()}}, **fields,
    )  # fmt: skip
    signal.posts.set(weights)
    return signal


def closed(deployment: Deployment, signal: Signal, pnl: str, fees: str, share: str = "0") -> Position:
    return builders.position(
        deployment, by=signal, state="closed", realised_pnl=Decimal(pnl), fees=Decimal(fees), closed_at=T0,
        profit_share=Decimal(share), closed_quantity=Decimal("0.4"), exit_reason="take_profit",
    )  # fmt: skip


@pytest.fixture
def follower() -> Deployment:
    return builders.deployment(builders.agent(), funded=False)


def read(sides: dict[str, str] | None = None) -> CtPost:
    return builders.candidate(builders.account(), sides, ingested_at=T0)


def test_a_position_is_divided_among_the_calls_that_read_its_posts(follower: Deployment) -> None:
    first, second, loss = read(), read({"ETH": "short"}), read()
    signal = decided(follower, {first: "0.75", second: "0.25"})
    closed(follower, signal, "10.000001", "1", share="2")
    builders.position(follower, by=decided(follower, {loss: "1"}), quantity="0.5", fees=Decimal("0.3"))
    one, other = call(first), call(second, loss)
    found = model_calls.became_of([one.pk, other.pk])
    assert [row.realised for row in found.values()] == [Decimal("6.000001"), Decimal("2.000000")]
    assert sum(row.realised for row in found.values()) == Decimal("8.000001"), "after fees and profit share"
    assert [row.fees for row in found.values()] == [Decimal("0.75"), Decimal("0.55")]
    assert [row.open for row in found.values()] == [Decimal(0), Decimal(100)]
    assert found[one.pk].moves == [Decimal(5)]
    assert found[other.pk].moves == [Decimal(-5), Decimal(5)], "the short lost what the long gained"
    assert found[other.pk].text == (
        "short ETH -5.00 % after 24 h; long ETH +5.00 % after 24 h; 2 positions: realised +2 USD, open +100 USD, "
        "fees 0.55 USD"
    )


def test_the_newest_answer_about_a_post_counts_and_no_failed_one(follower: Deployment) -> None:
    post = read()
    closed(follower, decided(follower, {post: "1"}), "3", "0")
    old, new, failed = call(post), call(post, prompt_version="next"), call(post, status="error")
    shadow = call(post, purpose="shadow")
    found = model_calls.became_of([old.pk, new.pk, failed.pk, shadow.pk])
    assert {pk: row.realised for pk, row in found.items()} == {new.pk: Decimal(3)}


def test_a_review_has_the_signal_of_its_own_token(follower: Deployment) -> None:
    post = read({"ETH": "long", "BTC": "long"})
    signal = decided(follower, {post: "1"})
    closed(follower, signal, "4", "0.5")
    quoted = json.dumps(
        {"posts": [{"text": '"side": "long", "token": "ETH"}'}], "side": "long", "token": "BTC"}
    )
    of: dict[str, Any] = {
        "purpose": "generate",
        "agent_id": follower.agent_id,
        "agent_name": follower.agent.name,
    }
    btc = call(post, **of, request={"user": f"The facts:\n\n{quoted}"})
    eth = call(post, **of, request={"user": 'The facts:\n\n{"posts": [], "side": "long", "token": "ETH"}'})
    again = call(post, **of, request={"user": 'The facts:\n\n{"posts": [], "side": "long", "token": "ETH"}'})
    found = model_calls.became_of([btc.pk, eth.pk, again.pk])
    assert {pk: (row.signals, row.realised, row.fees) for pk, row in found.items()} == {
        eth.pk: ({signal.pk}, Decimal(4), Decimal("0.5"))
    }
    assert model_calls.became_of([again.pk]) == {}, (
        "the first answer decided, also where it is not asked about"
    )


def test_what_is_not_known_yet_is_said(follower: Deployment) -> None:
    young = builders.candidate(builders.account(), ingested_at=T0 + timedelta(hours=1))
    unpriced = read({"BTC": "long"})
    signal = decided(follower, {unpriced: "1"}, token="BTC")
    builders.position(follower, by=signal, symbol="BTC")
    new, old = call(young), call(unpriced)
    found = model_calls.became_of([new.pk, old.pk])
    assert found[new.pk].text == "long ETH not known yet after 24 h; not traded"
    assert found[new.pk].figures() | {"calls": 1, "known": 0, "mean_pct": None} == found[new.pk].figures()
    assert (len(found[old.pk].unquoted), found[old.pk].open) == (1, Decimal(0))


def test_a_position_counts_once_in_a_group(follower: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls of a group read its posts, and are read from the database one after the other."""
    first, second = read({"BTC": "long"}), read({"BTC": "long"})
    signal = decided(follower, {first: "0.5", second: "0.5"}, token="BTC")
    builders.position(follower, by=signal, symbol="BTC", fees=Decimal("0.000003"))
    call(first)
    call(second)
    monkeypatch.setattr(model_calls, "BATCH", 1)
    [row] = model_calls.by_version(LlmTrace.objects.all())
    assert (row["signals"], row["positions"], row["unquoted"]) == (1, 1, 1)
    assert row["fees_usd"] == "0.000003", "its parts add up to the base unit"


def test_as_many_queries_whatever_the_number_of_calls(follower: Deployment) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            model_calls.by_version(LlmTrace.objects.all())
        return len(asked)

    def more() -> None:
        post = read()
        closed(follower, decided(follower, {post: "1"}), "1", "0")
        call(post)

    more()
    few = queries()
    for _ in range(3):
        more()
    assert queries() == few
    [row] = model_calls.by_version(LlmTrace.objects.all())
    assert (row["calls"], row["right"], row["positions"], row["realised_usd"]) == (4, 4, 4, "4")


def test_commands_pages_and_the_api_show_it(follower: Deployment, admin_client: Client) -> None:
    post = read()
    signal = decided(follower, {post: "1"})
    position = closed(follower, signal, "10", "1", share="2")
    row = call(post)

    def told(*words: str) -> list[Any]:
        call_command(*words, "--json", stdout=(out := StringIO()))
        return [json.loads(line) for line in out.getvalue().splitlines()]

    [last] = told("llm", "last")
    assert last["became"]["called"][0]["move_24h_pct"] == "5"
    assert (last["became"]["position_ids"], last["became"]["realised_usd"]) == ([position.pk], "8")
    _, summary = told("llm", "agent", "--corr", str(post.correlation_id))
    [group] = summary["became"]
    assert (group["provider"], group["version"], group["right"], group["realised_usd"]) == (
        "openai", "careful", 1, "8",
    )  # fmt: skip
    call_command("llm", "last", "--summary", stdout=(out := StringIO()))
    assert [figure for figure in ("+5.00", "+8.00") if figure not in out.getvalue()] == []
    text = "long ETH +5.00 % after 24 h; 1 position: realised +8 USD"
    detail = admin_client.get(f"/admin/llm/llmtrace/{row.pk}/change/").content.decode()
    assert text in detail
    call_command("why", "--post", str(post.pk), stdout=(out := StringIO()))
    assert f"classify by openai gpt with the prompt careful: {text}" in out.getvalue()
    call_command("chain", "--post", str(post.pk), stdout=(out := StringIO()))
    assert text in out.getvalue()
    assert trace.follow(post.correlation_id).as_json()["traces"][0]["became"]["realised_usd"] == "8"
    LlmTrace.objects.update(ts=clock.now())
    page = admin_client.get(reverse("operator-models")).content.decode()
    assert '<td class="mx-n" data-head="Realised (USD)">8</td>' in page
