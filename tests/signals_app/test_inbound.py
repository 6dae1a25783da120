"""Signed posts and signals of others: who may send, what is taken once, and what becomes of it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from maxxit.access import attempts
from maxxit.core import signing
from maxxit.core.errors import Misconfigured
from maxxit.events.models import Event
from signals_app import inbound, tasks
from signals_app.ingest import ingest
from signals_app.models import CtPost, InboundPost
from signals_app.sources.inbound import InboundSource
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.signals_app.partner import PREVIOUS, SECRET, Partner, partner


@pytest.fixture
def sender(db: None, time: RecordedClock, empty_cache: None) -> Iterator[Partner]:
    with partner("alpha") as made:
        yield made


def land(sender: Partner) -> Any:
    return ingest({"partner": sender.source()})


def test_a_post_is_taken_once_and_becomes_a_post(sender: Partner, woken: set[str]) -> None:
    body: dict[str, Any] = {"id": "7", "account": "alpha", "text": "buying $BTC here, the bottom is in"}
    body |= {"likes": 12}
    body |= {"link": "https://alpha.example.org/7", "created_at": (T0 - timedelta(minutes=2)).isoformat()}
    first, again = sender.posts(**body), sender.posts(**body)
    landed, later = land(sender), land(sender)

    assert (first.status_code, again.status_code) == (202, 200)
    assert (first.json()["new"], again.json()["new"]) == (True, False)
    assert (landed.new, later.new) == (1, 0)
    post = CtPost.objects.get()
    assert (post.post_id, post.state, post.likes, post.reposts) == (first.json()["post_id"], "new", 12, None)
    assert (post.link, post.posted_at) == ("https://alpha.example.org/7", T0 - timedelta(minutes=2))
    assert post.ingested_at == T0


def test_a_signal_is_a_candidate_as_it_is_stated(sender: Partner) -> None:
    call = {"token": "btc", "side": "short", "confidence": "0.75"}
    assert sender.posts(id="8", account="Alpha", call=call).status_code == 202
    land(sender)

    post = CtPost.objects.get()
    assert (post.state, post.is_signal_candidate, post.sides) == ("classified", True, {"BTC": "short"})
    assert (post.confidence, post.outcome, post.text) == (Decimal("0.75"), "candidate:waiting", "short $BTC")
    assert Event.objects.get(name="ctpost.classified").data["stated"] is True


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"secret": "x" * 40}, "not that of this body"),
        ({"age": signing.WINDOW + 1}, "301 s old"),
        ({"age": -signing.WINDOW - 1}, "-301 s old"),
        ({"header": "v1=00"}, "has not the form"),
        ({"path": "/api/sources/other/posts"}, "no such source"),
    ],
    ids=lambda one: str(one)[:20],
)
def test_what_is_not_signed_for_now_is_refused(sender: Partner, how: dict[str, Any], said: str) -> None:
    answer = sender.sends(json.dumps({"id": "1", "account": "alpha", "text": "buy $BTC"}).encode(), **how)

    assert answer.status_code == 401
    assert said in answer.json()["message"]
    assert not InboundPost.objects.exists()


def test_without_a_signature_and_with_another_body_nothing_is_taken(sender: Partner) -> None:
    raw = json.dumps({"id": "1", "account": "alpha", "text": "buy $BTC"}).encode()
    header = signing.signature(SECRET, int(T0.timestamp()), raw)
    bare = sender.client.post("/api/sources/partner/posts", raw, content_type="application/json")
    changed = sender.sends(raw.replace(b"buy", b"sell"), header=header)
    sent = sender.sends(raw, header=header)

    assert (bare.status_code, changed.status_code, sent.status_code) == (401, 401, 202)
    assert sender.sends(raw, header=header).json()["new"] is False  # a replay within the window


def test_an_id_with_another_content_is_a_conflict(sender: Partner) -> None:
    sender.posts(id="1", account="alpha", text="buy $BTC")
    answer = sender.posts(id="1", account="alpha", text="sell $BTC")

    assert (answer.status_code, answer.json()["code"]) == (409, "id_reused")
    assert InboundPost.objects.get().item["text"] == "buy $BTC"


def test_a_retry_of_a_sender_whose_clock_is_ahead_is_a_repeat(sender: Partner, time: RecordedClock) -> None:
    ahead = T0 + timedelta(minutes=3)
    body: dict[str, Any] = {
        "id": "1",
        "account": "alpha",
        "text": "buy $BTC",
        "created_at": ahead.isoformat(),
    }
    first = sender.posts(**body)
    time.move(seconds=20)
    again = sender.posts(**body)
    other = sender.posts(**body | {"created_at": (T0 - timedelta(minutes=1)).isoformat()})

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert InboundPost.objects.get().item["posted_at"] == T0.isoformat()


def test_a_post_that_is_signed_is_no_refused_attempt(
    sender: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[object] = []
    monkeypatch.setattr(attempts, "begin", counted.append)
    assert sender.posts(id="1", account="alpha", text="buy $BTC").status_code == 202
    assert counted == []
    assert sender.posts(id="2", account="alpha", text="buy $BTC", secret="x" * 40).status_code == 401
    assert len(counted) == 1


def test_an_id_of_x_cannot_be_taken_by_a_sender(sender: Partner) -> None:
    sender.posts(id="1900000000000000001", account="alpha", text="buy $BTC")

    assert InboundPost.objects.get().post_id != "1900000000000000001"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"account": "nobody"}, "accounts add nobody --source partner"),
        ({"created_at": (T0 + timedelta(hours=1)).isoformat()}, "lies in the future"),
        ({"created_at": "2026-01-01T00:00:00"}, "no time zone"),
        ({"link": "javascript:alert(1)"}, "http(s) URL"),
        ({"call": {"token": "USDC", "side": "long"}}, "no tradable token 'USDC'"),
        ({"call": {"token": "BTC", "side": "buy"}}, "side"),
        ({"call": {"token": "BTC", "side": "long", "confidence": "NaN"}}, "confidence"),
        ({"call": {"token": "BTC", "side": "long", "confidence": "1.1"}}, "confidence"),
        ({"likes": -1}, "likes"),
        ({"id": ""}, "id"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_wrong_field_is_named(sender: Partner, fields: dict[str, Any], said: str) -> None:
    answer = sender.posts(**{"id": "1", "account": "alpha", "text": "buy $BTC"} | fields)

    assert answer.status_code == 422
    assert said in answer.json()["message"]
    assert not InboundPost.objects.exists()


def test_a_body_that_is_too_large_and_a_sender_that_is_too_fast_are_refused(sender: Partner) -> None:
    large = sender.posts(id="1", account="alpha", text="buy", link="x" * 70_000)
    codes = [sender.posts(id=str(n), account="alpha", text="buy $BTC").status_code for n in range(42)]

    assert large.status_code == 413
    assert codes[:40] == [202] * 40
    assert codes[40:] == [429] * 2


def test_during_a_rotation_both_secrets_hold(sender: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_SECRET", f"{SECRET} {PREVIOUS}")
    body: dict[str, Any] = {"account": "alpha", "text": "buy $BTC"}

    assert sender.posts(id="1", secret=PREVIOUS, **body).status_code == 202
    assert sender.posts(id="2", secret=SECRET, **body).status_code == 202


@pytest.mark.parametrize("secret", ["", "short", f"{'a' * 32} {'b' * 32} {'c' * 32}"])
def test_a_weak_secret_opens_nothing(sender: Partner, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("PARTNER_SECRET", secret)
    answer = sender.posts(id="1", account="alpha", text="buy $BTC", secret=secret or "x")

    assert answer.status_code == 503
    assert "PARTNER_SECRET" in answer.json()["message"]
    with pytest.raises(Misconfigured):
        sender.source().secrets()


def test_what_arrived_is_offered_until_it_is_stored_and_deleted_after_its_time(
    sender: Partner, time: RecordedClock
) -> None:
    sender.posts(id="1", account="alpha", text="buy $BTC")
    time.move(days=3)
    waiting = inbound.waiting("partner", "ALPHA")
    land(sender)

    assert [post.text for post in waiting] == ["buy $BTC"]
    assert inbound.waiting("partner", "alpha") == []
    assert inbound.prune(T0 + timedelta(days=1)) == 1


def test_more_items_than_a_pass_takes_starve_no_new_one(
    sender: Partner, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> None:
    monkeypatch.setattr(inbound, "MAX_OFFERED", 3)
    texts = []
    for number in range(8):
        sender.posts(id=str(number), account="alpha", text=f"buy $BTC at {number}")
        texts.append(f"buy $BTC at {number}")
        time.move(seconds=60)
        if number % 2:
            land(sender)

    assert list(CtPost.objects.order_by("posted_at").values_list("text", flat=True)) == texts
    assert [post.text for post in inbound.waiting("partner", "alpha")] == texts[-3:]


def test_what_arrives_is_stored_without_asking_any_other_source(
    sender: Partner, monkeypatch: pytest.MonkeyPatch, woken: set[str]
) -> None:
    def asked(*_: Any) -> Any:
        raise AssertionError("a feed was asked")

    monkeypatch.setattr(tasks, "sources", asked)
    make.account(username="beta", source="partner")
    sender.posts(id="1", account="alpha", text="buy $BTC")
    assert settings.WAKES[inbound.ARRIVED] == (tasks.ARRIVED_TASK,)

    assert inbound.accounts(["partner", "other"]) == {"partner": {"alpha"}}
    assert (tasks.ingest_arrived(), tasks.ingest_arrived()) == (1, 0)
    assert CtPost.objects.get().text == "buy $BTC"


def test_a_pass_over_what_costs_nothing_never_wakes_one_that_costs(woken: set[str]) -> None:
    assert settings.WAKES["feeds.waiting"] == (tasks.UNMETERED_TASK,)


def test_a_secret_in_a_post_is_masked_before_it_is_stored(sender: Partner) -> None:
    key = "sk-ant-" + "a1B2" * 10
    sender.posts(id="1", account="alpha", text=f"buy $BTC {key}")

    assert key not in json.dumps(InboundPost.objects.get().item)


def test_a_source_without_a_variable_is_refused() -> None:
    with pytest.raises(Misconfigured, match="secret_env"):
        InboundSource(name="partner", secret_env="not a name")


def test_posts_of_other_sources_are_not_offered(sender: Partner) -> None:
    make.account(username="beta", source="jsonl")
    sender.posts(id="1", account="alpha", text="buy $BTC")

    assert inbound.waiting("other", "alpha") == inbound.waiting("partner", "beta") == []
