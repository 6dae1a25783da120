"""The REST API: keys, pages, states, refusals, and single steps by hand."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from maxxit.access import auth
from maxxit.access.models import ApiKey
from maxxit.core import clock
from maxxit.events import wake
from maxxit.events.models import Event
from maxxit.pipeline.models import PipelineRun
from maxxit.reports.statement import BEGINNING, statement
from signals_app.models import Signal
from tests import builders
from tests.fakes import FakeModel
from tests.surface.conftest import World
from trading import ledger
from trading.models import Order


def test_a_key_is_kept_as_a_hash_and_notes_its_use(world: World) -> None:
    key = auth.create_key(world.alice, "bot", ["read"], by="test")
    row = ApiKey.objects.get()
    assert key.startswith("mxk_")
    assert key not in json.dumps(ApiKey.objects.values().get(), default=str)
    assert row.sha256 == auth.hashed(key)
    assert Client().get("/api/signals", headers={"x-api-key": key}).status_code == 200
    row.refresh_from_db()
    assert row.last_used is not None
    assert Event.objects.filter(name="api_key.created").count() == 1


def test_a_key_works_in_either_header(world: World) -> None:
    key = world.key(world.alice)["x-api-key"]
    assert Client().get("/api/signals", headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert Client().get("/api/signals", headers={"authorization": f"Basic {key}"}).status_code == 401


@pytest.mark.parametrize("how", ["revoked", "expired", "owner gone", "wrong"])
def test_a_key_that_no_longer_counts(world: World, how: str) -> None:
    headers = world.key(world.alice)
    row = ApiKey.objects.get()
    if how == "revoked":
        assert auth.revoke_key(row.prefix, by="test") == 1
    elif how == "expired":
        ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif how == "owner gone":
        type(world.alice).objects.filter(pk=world.alice.pk).update(is_active=False)
    else:
        headers = {"x-api-key": headers["x-api-key"] + "x"}
    answer = Client().get("/api/signals", headers=headers)
    assert answer.status_code == 401
    assert "apikey create" in answer.json()["message"]


def test_a_call_with_a_key_never_falls_back_on_cookies(world: World) -> None:
    browser = world.logged_in(world.staff)
    assert browser.get("/api/signals").status_code == 200
    assert browser.get("/api/signals", headers={"x-api-key": "mxk_wrong"}).status_code == 401
    assert browser.get("/api/signals", headers={"authorization": "Bearer mxk_wrong"}).status_code == 401


def test_a_session_needs_the_csrf_token_to_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.staff)
    answer = browser.post("/api/admin/run-pipeline")
    assert answer.status_code == 403
    assert "X-CSRFToken" in answer.json()["message"]
    assert PipelineRun.objects.count() == 1

    run = PipelineRun(pk=77, root_task_id="root")
    monkeypatch.setattr("maxxit.api.api.start_pipeline", lambda cause, by: run)
    browser.get("/admin/")
    token = browser.cookies["csrftoken"].value
    assert browser.post("/api/admin/run-pipeline", headers={"x-csrftoken": token}).json()["run_id"] == 77


def test_a_tenants_session_is_no_way_in(world: World) -> None:
    assert world.logged_in(world.alice).get("/api/signals").status_code == 401


def test_states_are_upper_case_in_and_out_and_unknown_ones_are_named(world: World) -> None:
    headers = world.key(world.staff)
    answer = Client().get("/api/db/positions?status=OPEN", headers=headers).json()
    assert {row["status"] for row in answer["items"]} == {"OPEN"}
    assert answer["count"] == 2
    for path, known in (
        ("signals", "EXPIRED"),
        ("positions", "CLOSING"),
        ("orders", "BLOCKED"),
        ("posts", "NEW"),
    ):
        refused = Client().get(f"/api/db/{path}?status=NONSENSE", headers=headers)
        assert refused.status_code == 422
        assert known in refused.json()["message"].partition("known: ")[2]


def test_lists_come_in_pages(world: World) -> None:
    headers = world.key(world.staff)
    whole = Client().get("/api/signals?limit=500", headers=headers).json()
    first = Client().get("/api/signals?limit=2", headers=headers).json()
    second = Client().get("/api/signals?limit=2&offset=2", headers=headers).json()
    ids = [row["id"] for row in whole["items"]]
    assert ids == sorted(ids, reverse=True), "the newest first"
    assert [row["id"] for row in first["items"] + second["items"]] == ids[:4]
    assert first["count"] == len(ids) == 6
    for wrong in ("limit=0", "limit=501", "offset=-1", "limit=x"):
        answer = Client().get(f"/api/signals?{wrong}", headers=headers)
        assert answer.status_code == 422
        assert wrong.partition("=")[0] in answer.json()["message"]


@pytest.mark.parametrize("name", ["posts", "signals", "orders", "trades", "positions"])
def test_a_list_is_walked_by_next_before(world: World, name: str) -> None:
    headers = world.key(world.staff)
    whole = Client().get(f"/api/db/{name}?limit=500", headers=headers).json()
    assert whole["next_before"] is None
    seen, before = [], ""
    for _ in range(len(whole["items"])):
        page = Client().get(f"/api/db/{name}?limit=1{before}", headers=headers).json()
        seen += page["items"]
        before = f"&before={page['next_before']}"
    assert [one["id"] for one in seen] == [one["id"] for one in whole["items"]]
    assert Client().get(f"/api/db/{name}?limit=1{before}", headers=headers).json()["items"] == []


def test_a_long_list_is_counted_to_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxxit.paging.COUNTED", 2)
    assert Client().get("/api/db/orders", headers=world.key(world.staff)).json()["count"] == 2


def test_a_long_statement_has_its_newest_lines_and_goes_on_from_there(world: World) -> None:
    of = world.of_alice.deployment
    whole = statement(of, BEGINNING, timezone.now() + timedelta(days=1))
    newest = statement(of, BEGINNING, whole.until, most=1)
    assert 0 < len(newest.lines) < len(whole.lines)
    assert newest.closing == whole.closing
    rest = statement(of, BEGINNING, newest.since)
    assert rest.lines + newest.lines == whole.lines
    assert rest.closing == newest.opening


def test_amounts_are_exact_text_and_times_are_utc(world: World) -> None:
    answer = Client().get("/api/db/positions?status=CLOSED", headers=world.key(world.alice)).json()
    row = answer["items"][0]
    assert row["realised_pnl"] == "38.16"
    assert row["quantity"] == "0.4"
    assert row["unrealised_pnl"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["opened_at"])
    opened = Client().get("/api/db/positions?status=OPEN", headers=world.key(world.alice)).json()["items"][0]
    assert Decimal(opened["unrealised_pnl"]) == Decimal("0.4") * 50


def test_a_statement_is_its_owners(world: World) -> None:
    path = f"/api/db/deployments/{world.of_alice.deployment.pk}/statement"
    found = Client().get(path, headers=world.key(world.alice)).json()

    assert found["deployment"] == world.of_alice.deployment.pk
    assert {line["book"] for line in found["lines"]} >= {"held"}
    assert Client().get(path, headers=world.key(world.bob)).status_code == 404
    later = Client().get(f"{path}?since=2100-01-01T00:00:00", headers=world.key(world.alice)).json()
    assert (later["lines"], later["opening"]) == ([], found["closing"])


def test_an_invoice_is_its_owners_and_the_same_by_api_command_and_page(world: World) -> None:
    number, month = world.of_alice.deployment.pk, f"{timezone.now():%Y-%m}"
    ledger.book_subscription(number, "2026-03-02", Decimal("20.5"))
    path = f"/api/db/deployments/{number}/invoices/{month}"
    found = Client().get(path, headers=world.key(world.alice)).json()
    out = StringIO()
    call_command("invoice", str(number), "--month", month, "--json", stdout=out)
    page = world.logged_in(world.alice).get(f"/invoices/{number}/{month}").content.decode()

    assert found == json.loads(out.getvalue())
    assert (found["number"], found["closing"], found["final"]) == (f"{number}-{month}", "20.5", False)
    assert "20.50" in page
    assert "Preliminary invoice" in page
    assert Client().get(path, headers=world.key(world.bob)).status_code == 404
    assert world.logged_in(world.bob).get(f"/invoices/{number}/{month}").status_code == 404
    assert world.logged_in(world.alice).get(f"/invoices/{number}/2026-13").status_code == 404
    assert world.logged_in(world.alice).get(f"/invoices/{number + 10_000}/{month}").status_code == 404
    refused = Client().get(path.replace(month, "2026-13"), headers=world.key(world.alice))
    assert refused.status_code == 422
    assert "give one as 2026-11" in refused.json()["message"]


def test_the_list_of_invoices_shows_what_is_owed_to_its_owner_alone(world: World) -> None:
    number, month = world.of_alice.deployment.pk, f"{timezone.now():%Y-%m}"
    ledger.book_subscription(number, "2026-03-02", Decimal("20.5"))
    pages = {
        who: world.logged_in(who).get("/invoices").content.decode()
        for who in (world.alice, world.bob, world.staff)
    }

    assert [f"/invoices/{number}/{month}" in page for page in pages.values()] == [True, False, True]
    assert ["20.50" in page for page in pages.values()] == [True, False, True]


def test_the_command_chain_prints_what_the_api_answers(world: World) -> None:
    made = world.of_alice
    answer = Client().get(f"/api/chain/position/{made.position.pk}", headers=world.key(world.staff)).json()
    out = StringIO()
    call_command("chain", f"--position={made.position.pk}", "--json", stdout=out)
    assert json.loads(out.getvalue()) == answer
    assert {"posts", "traces", "signals", "orders", "fills", "ledger", "positions", "events"} <= answer.keys()
    assert all(answer[name] for name in ("orders", "ledger", "positions", "events"))


def test_the_chain_tells_the_whole_way(world: World) -> None:
    headers, made = world.key(world.alice), world.of_alice
    told = Client().get(f"/api/chain/order/{made.entry.pk}", headers=headers).json()
    assert told["correlation_id"] == str(made.post.correlation_id)
    counts = {
        name: len(told[name]) for name in ("posts", "traces", "signals", "orders", "fills", "positions")
    }
    assert counts == {"posts": 1, "traces": 1, "signals": 1, "orders": 2, "fills": 2, "positions": 1}
    assert told["traces"][0]["request"] == {"prompt": "what does it say"}
    assert told["realised_pnl"] == "38.16"
    assert sum(Decimal(line["amount"]) for line in told["ledger"]) == 0
    assert Client().get("/api/chain/moon/1", headers=headers).status_code == 422
    assert Client().get("/api/chain/corr/nonsense", headers=headers).status_code == 422
    assert Client().get("/api/chain/order/99999999", headers=headers).status_code == 404
    assert Client().get(f"/api/chain/order/{'9' * 30}", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "path", ["run-signal-once?agentId=1", "execute-trade-once?signalId=1", "run-pipeline"]
)
def test_only_staff_with_an_admin_key_starts_things(world: World, path: str) -> None:
    was_staff = User.objects.create_user("dan", is_staff=True)
    once_enough = world.key(was_staff, "read", "admin")
    was_staff.is_staff = False
    was_staff.save()
    for headers in (world.key(world.staff), once_enough):
        answer = Client().post(f"/api/admin/{path}", headers=headers)
        assert answer.status_code == 403
        assert "apikey create" in answer.json()["message"]


def test_a_signal_is_made_by_hand(world: World, model: FakeModel) -> None:
    agent = builders.agent(tokens=["ETH"])
    author = builders.account(agent)
    builders.hourly_bars("ETH", builders.calm(bars=60), until=clock.now())
    post = builders.candidate(author, {"ETH": "long"})
    headers = world.key(world.staff, "admin")
    answer = Client().post(f"/api/admin/run-signal-once?agentId={agent.pk}", headers=headers)
    assert answer.status_code == 200, answer.content
    (signal,) = answer.json()["signals"]
    assert (signal["token"], signal["side"], signal["status"]) == ("ETH", "LONG", "PENDING")
    assert signal["correlation_id"] == str(post.correlation_id)
    asked = Event.objects.get(name="api.signal_asked")
    assert asked.subject == f"agents.agent/{agent.pk}"
    assert asked.data["by"].startswith("root by key mxk_")
    again = Client().post(f"/api/admin/run-signal-once?agentId={agent.pk}", headers=headers).json()
    assert again["signals"] == []
    assert again["declined"] == {"bucket_taken": 1}


def test_a_signal_by_hand_is_refused_with_the_fix(world: World) -> None:
    headers = world.key(world.staff, "admin")
    paused = builders.agent(state="paused")
    answer = Client().post(f"/api/admin/run-signal-once?agentId={paused.pk}", headers=headers)
    assert answer.status_code == 409
    assert "activate it" in answer.json()["message"]
    assert Client().post("/api/admin/run-signal-once?agentId=99999", headers=headers).status_code == 404
    assert Client().post("/api/admin/run-signal-once", headers=headers).status_code == 422


def test_a_trade_is_executed_by_hand_and_only_that_one(world: World) -> None:
    Signal.objects.filter(state="pending").update(state="skipped", reason="cooldown")
    agent = builders.agent()
    builders.deployment(agent)
    wanted, other = (builders.signal(agent, usd="2050") for _ in range(2))
    headers = world.key(world.staff, "admin")
    answer = Client().post(f"/api/admin/execute-trade-once?signalId={wanted.pk}", headers=headers)
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert told["sent"] == 1
    assert [row["status"] for row in told["orders"]] == ["FILLED"]
    wanted.refresh_from_db()
    assert wanted.state == "executed"
    asked = Event.objects.get(name="api.trade_asked")
    assert asked.subject == f"signals_app.signal/{wanted.pk}"
    assert asked.data["by"].startswith("root by key mxk_")
    assert not Order.objects.filter(signal=other).exists()
    again = Client().post(f"/api/admin/execute-trade-once?signalId={wanted.pk}", headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "not_pending")


def test_an_expired_signal_is_not_traded_by_hand(world: World) -> None:
    agent = builders.agent()
    builders.deployment(agent)
    late = builders.signal(agent, usd="2050", expires_at=clock.now())
    headers = world.key(world.staff, "admin")
    answer = Client().post(f"/api/admin/execute-trade-once?signalId={late.pk}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "expired")
    assert not Order.objects.filter(signal=late).exists()


def test_a_trade_with_real_money_is_left_to_the_executing_worker(
    world: World, django_capture_on_commit_callbacks: Any
) -> None:
    agent = builders.agent(venue="safe")
    builders.deployment(agent, account="0x1", funded=False)
    signal = builders.signal(agent, usd="2050")
    headers = world.key(world.staff, "admin")
    with wake.collected() as woken, django_capture_on_commit_callbacks(execute=True):
        answer = Client().post(f"/api/admin/execute-trade-once?signalId={signal.pk}", headers=headers)
    told = answer.json()
    assert (told["sent"], told["blocked"], [row["status"] for row in told["orders"]]) == (0, {}, ["PLANNED"])
    assert woken == {"trading.tasks.execute"}


def test_a_trade_by_hand_passes_every_check(world: World) -> None:
    from trading import gate

    gate.kill("no_entries", by="test", reason="drill")
    agent = builders.agent()
    builders.deployment(agent)
    signal = builders.signal(agent, usd="2050")
    headers = world.key(world.staff, "admin")
    told = Client().post(f"/api/admin/execute-trade-once?signalId={signal.pk}", headers=headers).json()
    assert (told["sent"], told["blocked"]) == (0, {"kill_switch": 1})


def test_the_chain_is_started_by_hand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = PipelineRun(pk=77, root_task_id="root")
    asked: list[str] = []

    def start(cause: str, by: str) -> PipelineRun:
        asked.extend((cause, by.partition(" mxk_")[0]))
        return run

    monkeypatch.setattr("maxxit.api.api.start_pipeline", start)
    answer = Client().post("/api/admin/run-pipeline", headers=world.key(world.staff, "admin"))
    assert answer.json() == {"run_id": 77, "root_task_id": "root"}
    assert asked == ["api", "root by key"]


def test_too_many_calls_are_held_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "PER_MINUTE", 3)
    with clock.frozen(timezone.now()):  # within one minute
        headers = world.key(world.alice)
        codes = [Client().get("/api/signals", headers=headers).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert Client().get("/api/signals", headers=world.key(world.bob)).status_code == 200


def test_without_redis_reading_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("Redis is away")

    monkeypatch.setattr(cache, "add", away)
    assert Client().get("/api/signals", headers=world.key(world.alice)).status_code == 200


def test_the_documentation_is_ours_alone_and_declares_refusals(world: World) -> None:
    browser = world.logged_in(world.alice)
    page = browser.get("/api/docs").content.decode()
    assert "/static/ninja/swagger-ui-bundle.js" in page
    assert "cdn" not in page
    schema = browser.get("/api/openapi.json").json()
    operations = [one for path in schema["paths"].values() for one in path.values()]
    assert len(operations) >= 24
    for one in operations:
        if one["operationId"] != "maxxit_api_sources_take_post":  # its sender signs, and has no role
            assert "403" in one["responses"], one["operationId"]
        assert {"401", "422", "429"} <= set(one["responses"]), one["operationId"]
        assert {"200", "201", "202"} & set(one["responses"]), one["operationId"]
        assert one["security"]
        assert one["description"]
    assert set(schema["components"]["securitySchemes"]) >= {"ByHeader", "ByBearer", "ByStaffSession"}
