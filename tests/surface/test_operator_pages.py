"""Operator pages: health, checklist, limits, transactions, reconciliation, model calls; the same by API and command."""

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from maxxit.access import groups
from maxxit.core import clock
from maxxit.llm.models import LlmCircuit, LlmTrace
from maxxit.notify.models import Alert, Endpoint
from maxxit.pipeline.models import CanaryMark, StageRun
from maxxit.reports import checks
from maxxit.reports.operators import checklist, health, transactions
from maxxit.web.unfold import OPERATOR_PAGES
from tests import builders
from tests.surface.conftest import World, trade
from trading import gate
from trading.chain.models import ChainAttempt, ChainTransaction, Signer
from trading.models import Fill, LimitsInForce, PaperBalance
from trading.operations import limit_overrides

URLS = [(name, title) for name, title, _, _ in OPERATOR_PAGES]


def staff(name: str, group: str) -> User:
    person = User.objects.create_user(name, is_staff=True)
    person.groups.add(Group.objects.get(name=group))
    return person


@pytest.fixture
def olga(world: World) -> Client:
    """An operator."""
    return world.logged_in(staff("olga", groups.OPERATORS))


@pytest.fixture
def sam(world: World) -> Client:
    """Support, who looks only."""
    return world.logged_in(staff("sam", groups.SUPPORT))


def text(browser: Client, name: str, **query: str) -> str:
    answer = browser.get(reverse(name), query)
    assert answer.status_code == 200, answer.content[:500]
    return answer.content.decode()


@pytest.mark.parametrize(("name", "title"), URLS)
def test_each_page_is_for_staff_with_its_permission_and_linked(
    world: World, olga: Client, sam: Client, name: str, title: str
) -> None:
    assert title in text(olga, name)
    assert title in text(sam, name)
    assert world.logged_in(world.alice).get(reverse(name)).status_code == 302
    clerk = world.logged_in(User.objects.create_user("clerk", is_staff=True))
    assert clerk.get(reverse(name)).status_code == 403
    for page in ("admin:index", "operator-health", "admin:trading_order_changelist"):
        assert f'href="{reverse(name)}"' in olga.get(reverse(page)).content.decode()
    assert reverse(name) not in clerk.get(reverse("admin:index")).content.decode()


@pytest.mark.parametrize(("name", "title"), URLS)
def test_the_machine_is_stopped_with_one_click_from_each_page(
    world: World, olga: Client, sam: Client, name: str, title: str
) -> None:
    page = text(olga, name)
    assert "Stop entries now" in page
    assert "Stop entries now" not in text(sam, name)
    olga.post(reverse("stop"), {"level": "no_entries", "reason": f"one click on {reverse(name)}"})
    assert gate.kill_level() == "no_entries"
    assert "STOPPED: no_entries" in text(olga, name)


# -- health


def test_one_line_is_green_where_every_check_passes_and_red_with_the_names_where_not(
    world: World, olga: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = [checks.Check("postgres", True, "answers")]
    monkeypatch.setattr(health, "SECTIONS", {"Machine": lambda: fine, "Jobs": lambda: fine})
    green = text(olga, "operator-health")
    assert "Healthy.</b> All 2 checks pass" in green
    assert "Not healthy" not in green
    wrong = [*fine, checks.Check("redis", False, "no answer", "start Redis")]
    monkeypatch.setattr(health, "SECTIONS", {"Machine": lambda: fine, "Queues": lambda: wrong})
    red = text(olga, "operator-health")
    assert "Not healthy.</b> 1 of 3 checks fail: redis (Queues)" in red
    assert "Fix: start Redis" in red


def test_a_section_that_cannot_be_read_hides_no_other(world: World, olga: Client, monkeypatch: Any) -> None:
    def broken() -> Any:
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(
        health, "SECTIONS", {"Queues": broken, "Feeds": lambda: [checks.Check("feeds", True, "fine")]}
    )
    page = text(olga, "operator-health")
    assert "cannot be read: the broker is away" in page
    assert "feeds" in page


def failed(section: str) -> set[str]:
    return {check.name for check in checks.readable(section, health.SECTIONS[section]) if not check.ok}


def test_each_section_goes_red_for_its_own_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    monkeypatch.setattr(checks, "queue_lengths", lambda: {"default": 2_000, "notify": 3})
    assert "queues" in failed("Queues")
    CanaryMark.objects.filter(queue="notify").update(signed_at=now - timedelta(hours=1))
    assert "worker:notify" in failed("Queues")
    assert "model calls" not in failed("Models")
    LlmCircuit.objects.create(
        provider="openai", failures=5, retry_at=now + timedelta(minutes=5), last_error="429"
    )
    LlmTrace.objects.update(status="error", ts=now)
    for _ in range(health.FEWEST_CALLS):
        row = LlmTrace.objects.latest("pk")
        row.pk = None
        row.save()
    assert failed("Models") >= {"provider:openai", "model calls"}
    assert "deliveries" not in failed("Endpoints")
    Alert.objects.filter(channel="inbox").update(state="pending", due_at=now - timedelta(hours=1))
    assert failed("Endpoints") == {"deliveries"}
    Endpoint.objects.create(
        user=world.alice, channel="webhook", content=b"", key_id="", hint="203.0.113.1", created_at=now,
        rests_until=now + timedelta(hours=1),
    )  # fmt: skip
    assert failed("Endpoints") == {"deliveries"}, "a resting address hides no other delivery"
    Alert.objects.filter(state="pending").exclude(user=world.alice).delete()
    Alert.objects.filter(state="pending").update(channel="webhook")
    assert failed("Endpoints") == set()  # a customer's own address is not ours
    assert failed("Chain") == set()
    ChainTransaction.objects.update(created_at=now - timedelta(hours=1))
    assert failed("Chain") == {"outbox"}
    assert "kill switch" not in failed("Trading")
    gate.kill("no_entries", by="test", reason="drill")
    assert "kill switch" in failed("Trading")


def test_the_command_and_the_api_say_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [checks.Check("redis", False, "no answer", "start Redis")]
    monkeypatch.setattr(health, "SECTIONS", {"Machine": lambda: wrong})
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("health", stdout=out)
    assert "1 of 1 checks fail: redis (Machine)" in out.getvalue()
    key = world.key(world.staff, "read", "admin")
    assert Client().get("/api/admin/health", headers=key).json()["headline"].startswith("1 of 1 checks fail")


# -- checklist


def test_every_item_has_a_live_tick_a_page_and_a_command_that_exists(world: World, olga: Client) -> None:
    parts = checklist.checklist()
    assert list(parts) == ["Morning", "Trading hours", "End of day"]
    for ticks in parts.values():
        for tick in ticks:
            assert tick.page == "" or reverse(tick.page)
            assert not tick.detail.startswith("cannot be read"), tick
    page = text(olga, "operator-checklist")
    assert "No dead letters" in page
    assert "manage.py dlq list" in page


def test_a_tick_opens_and_closes_with_what_it_reads(world: World) -> None:
    def ticks() -> dict[str, bool]:
        return {tick.item: tick.ok for part in checklist.checklist().values() for tick in part}

    before = ticks()
    assert before["Nothing is stopped"]
    assert before["No order is stuck"]
    assert before["The night's passes ended without an error"]
    gate.kill("no_entries", by="test", reason="drill")
    StageRun.objects.update(error="boom")
    by = builders.signal(world.of_alice.agent)
    builders.order(
        world.of_alice.deployment, by=by, state="unknown", reserved_at=clock.now() - timedelta(hours=1)
    )
    after = ticks()
    assert not after["Nothing is stopped"]
    assert not after["No order is stuck"]
    assert not after["The night's passes ended without an error"]


# -- limits


def test_a_limit_is_changed_in_two_steps_with_reason_and_audit(world: World, olga: Client) -> None:
    url = reverse("operator-limits")
    sent = {"limit": "max_trade_usd", "value": "2000", "reason": "a thin week"}
    step = olga.post(url, sent | {"do": "check"})
    assert "max_trade_usd: 5000 → 2000" in step.content.decode()
    assert "applies at once" in step.content.decode()
    assert limit_overrides.overrides() == {}
    done = olga.post(url, sent | {"do": "set", "once": "a-token-of-a-form"}, follow=True)
    assert "max_trade_usd: 5000 to 2000, at once." in done.content.decode()
    override = limit_overrides.overrides()["max_trade_usd"]
    assert (override.by, override.reason, override.value) == ("olga", "a thin week", 2000)
    page = text(olga, "operator-limits")
    assert "a thin week" in page
    again = olga.post(url, sent | {"value": "1000", "do": "set", "once": "a-token-of-a-form"}, follow=True)
    assert "sent before" in again.content.decode()
    assert limit_overrides.overrides()["max_trade_usd"].value == 2000
    back = olga.post(url, sent | {"do": "check-removal"}).content.decode()
    assert "max_trade_usd: 2000 → 5000" in back
    assert "<b>looser</b>" in back
    asked = olga.post(url, sent | {"do": "remove"}, follow=True).content.decode()
    assert "waits until another person approves it" in asked
    assert "2000 → 5000" in asked


def test_a_wrong_value_is_named_and_kept_in_its_field(olga: Client) -> None:
    url = reverse("operator-limits")
    answer = olga.post(url, {"limit": "max_trade_usd", "value": "lots", "reason": "drill", "do": "check"})
    assert answer.status_code == 422
    assert "Max_trade_usd cannot be lots" in answer.content.decode()
    assert 'value="lots"' in answer.content.decode()
    nothing = olga.post(url, {"limit": "max_trade_usd", "value": "1", "reason": "", "do": "set"})
    assert nothing.status_code == 422
    assert LimitsInForce.objects.get().overrides == {}


def test_support_changes_no_limit(sam: Client) -> None:
    assert "Change a limit" not in text(sam, "operator-limits")
    sent = {"limit": "max_trade_usd", "value": "1", "reason": "drill", "do": "set"}
    assert sam.post(reverse("operator-limits"), sent).status_code == 403


def test_limits_by_api_and_command(world: World) -> None:
    key = world.key(world.staff, "read", "admin")
    listed = Client().get("/api/admin/limits", headers=key).json()["items"]
    assert next(row for row in listed if row["limit"] == "max_trade_usd")["in_force"] == "5000"
    body = {"value": "2000", "reason": "drill"}
    url = "/api/admin/limits/max_trade_usd"
    put = Client().put(url, body, content_type="application/json", headers=key)
    assert put.json()["new"] == "2000"
    assert Client().put(url, body, content_type="application/json", headers=key).status_code == 409
    wrong = Client().put(url, body | {"value": "-1"}, content_type="application/json", headers=key)
    assert wrong.status_code == 422
    assert Client().delete(f"{url}?reason=over", headers=key).status_code == 202  # looser
    out = StringIO()
    call_command("limits", "set", "max_trade_usd", "1000", "--reason", "drill", "--by", "olga", stdout=out)
    assert "max_trade_usd: 2000 to 1000, at once" in out.getvalue()
    call_command("limits", "list", "--json", stdout=(listing := StringIO()))
    row = next(row for row in json.loads(listing.getvalue())["limits"] if row["limit"] == "max_trade_usd")
    assert (row["override"], row["by"], row["default"]) == ("1000", "olga", "5000")


# -- transactions


def outbox(number: int) -> None:
    signer, now = Signer.objects.get(), timezone.now()
    for nonce in range(100, 100 + number):
        sent = ChainTransaction.objects.create(
            idempotency_key=f"key-{nonce}", chain_id=31337, signer=signer, nonce=nonce, state="final", deadline=now,
            created_at=now, terms={"purpose": "open", "symbol": "ETH"}, gas_used=100_000, gas_price=Decimal(10**9),
        )  # fmt: skip
        for attempt in (1, 2):
            ChainAttempt.objects.create(
                transaction=sent, number=attempt, hash=f"0x{nonce:062x}{attempt:02x}", raw="0x00",
                max_fee=attempt * 10**9, tip=10**8, created_at=now,
            )  # fmt: skip


def test_a_transaction_shows_state_attempts_fees_and_age(world: World, olga: Client) -> None:
    outbox(1)
    page = text(olga, "operator-transactions")
    for said in ("open ETH", "final", "0.0001", "Under way: 1 broadcast"):
        assert said in page
    row = transactions.transactions(state="final").rows[0]
    assert (row.attempts, row.max_fee_gwei, row.tip_gwei) == (2, 2, Decimal("0.1"))
    assert text(olga, "operator-transactions", state="under_way").count("/change/") == 1
    assert olga.get(reverse("operator-transactions"), {"state": "lost"}).status_code == 422


def test_transactions_are_paged_and_the_number_of_queries_stays(world: World, olga: Client) -> None:
    outbox(5)
    first = transactions.transactions(limit=4)
    assert first.next_before is not None
    second = transactions.transactions(limit=4, before=first.next_before)
    ids = [row.id for row in (*first.rows, *second.rows)]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == ChainTransaction.objects.count()
    key = world.key(world.staff, "read", "admin")
    page = Client().get("/api/admin/transactions?limit=4", headers=key).json()
    assert [row["id"] for row in page["items"]] == ids[:4]
    assert Client().get("/api/admin/transactions?state=lost", headers=key).status_code == 422


# -- reconciliation


def test_a_difference_is_found_booked_with_a_reason_and_gone(world: World, olga: Client) -> None:
    url, account = reverse("operator-reconciliation"), world.of_alice.deployment.account
    assert "Compare now" in text(olga, "operator-reconciliation")
    PaperBalance.objects.create(account=account, asset="SOL", amount=3)
    shown = olga.post(url, {"do": "compare"}).content.decode()
    assert f"Book 3 SOL as a transfer of {account}" in shown
    assert "moved in elsewhere" in shown
    sent = {"do": "book", "account": account, "asset": "SOL", "amount": "3"}
    refused = olga.post(url, sent | {"amount": "4", "reason": "an airdrop"})
    assert refused.status_code == 422
    assert "differs by 3 SOL now, not by 4: compare again" in refused.content.decode()
    done = olga.post(url, sent | {"reason": "an airdrop"}, follow=True).content.decode()
    assert f"Booked 3 SOL of {account}" in done
    assert f"Book 3 SOL as a transfer of {account}" not in olga.post(url, {"do": "compare"}).content.decode()


def test_support_compares_and_books_nothing(world: World, sam: Client) -> None:
    url, account = reverse("operator-reconciliation"), world.of_alice.deployment.account
    PaperBalance.objects.create(account=account, asset="SOL", amount=3)
    assert "Book 3 SOL" not in sam.post(url, {"do": "compare"}).content.decode()
    sent = {"do": "book", "account": account, "asset": "SOL", "amount": "3", "reason": "an airdrop"}
    assert sam.post(url, sent).status_code == 403


def test_the_api_and_the_command_compare_and_book(world: World) -> None:
    account, key = world.of_alice.deployment.account, world.key(world.staff, "read", "admin")
    PaperBalance.objects.create(account=account, asset="SOL", amount=3)
    found = Client().get("/api/admin/reconciliation", headers=key).json()
    assert {"venue": "paper", "account": account, "asset": "SOL"}.items() <= next(
        row for row in found["differences"] if row["asset"] == "SOL"
    ).items()
    body = {"account": account, "asset": "SOL", "amount": "2", "reason": "drill"}
    wrong = Client().post("/api/admin/reconciliation", body, content_type="application/json", headers=key)
    assert wrong.status_code == 409
    out = StringIO()
    call_command("reconcile", "--book", account, "SOL", "3", "--reason", "drill", stdout=out)
    assert f"booked 3 SOL of {account}" in out.getvalue()


# -- model calls


def test_versions_of_a_prompt_stand_side_by_side(world: World, olga: Client) -> None:
    first = LlmTrace.objects.latest("pk")
    for version, latency, cost in (("a" * 64, 100, "0.001"), ("b" * 64, 300, "0.003")):
        for number in range(4):
            LlmTrace.objects.create(
                ts=timezone.now(), purpose="classify", provider="openai", model="gpt", latency_ms=latency,
                status="error" if number == 0 else "ok", prompt_sha256=version, schema_sha256="", request_sha256="",
                cost_usd=Decimal(cost), prompt_tokens=10, completion_tokens=5,
            )  # fmt: skip
    page = text(olga, "operator-models")
    for said in ("aaaaaaaa", "bbbbbbbb", "25 %", "300", "3.00"):
        assert said in page
    assert first.model in page
    LlmTrace.objects.update(ts=timezone.now() - timedelta(days=3))
    assert "no call in this period" in text(olga, "operator-models", days="1")
    assert "aaaaaaaa" in text(olga, "operator-models", days="7")
    key = world.key(world.staff, "read", "admin")
    answer = Client().get("/api/admin/model-calls?days=7", headers=key).json()
    assert [row["version"] for row in answer["prompts"] if row["provider"] == "openai"] == [
        "aaaaaaaa",
        "bbbbbbbb",
    ]
    call_command("llm", "prompts", stdout=(out := StringIO()))
    assert "aaaaaaaa" in out.getvalue()


# -- all


@pytest.mark.parametrize(("name", "title"), URLS)
def test_a_page_asks_as_many_queries_whatever_there_is(
    world: World, olga: Client, name: str, title: str
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert olga.get(reverse(name)).status_code == 200
        return len(asked)

    queries()
    few = queries()
    outbox(10)
    for _ in range(3):
        trade(world.alice)
    assert Fill.objects.count() > 4
    assert queries() <= few + 1  # one more where the first of a kind appears
    assert few <= 75
