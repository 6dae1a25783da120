"""Liveness, readiness, metrics."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from maxxit.pipeline.models import CanaryMark, Release
from maxxit.reports import checks
from tests.surface.conftest import World, alive
from trading import gate, ledger


def test_live_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No `db` fixture: any query fails here."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("Redis was asked")

    monkeypatch.setattr("redis.connection.AbstractConnection.send_packed_command", asked)
    assert Client().get("/health/live").json() == {"status": "ok"}


def test_ready_when_every_part_is_well(db: None) -> None:
    alive()
    answer = Client().get("/health/ready")
    assert answer.status_code == 200, answer.json()
    names = set(answer.json()["checks"])
    assert {"postgres", "redis", "migrations", "beat", "worker:llm", "worker:monitor"} <= names
    assert answer.headers["Cache-Control"].count("no-store") == 1


def test_not_ready_while_one_queue_is_unserved(db: None) -> None:
    alive()
    CanaryMark.objects.filter(queue="monitor").update(signed_at=timezone.now() - timedelta(minutes=10))
    answer = Client().get("/health/ready")
    assert answer.status_code == 503
    told = answer.json()["checks"]
    assert not told["worker:monitor"]["ok"]
    assert told["beat"]["ok"]


def test_a_process_of_another_release_says_so_and_names_the_fix(db: None) -> None:
    alive()
    assert checks.releases().ok
    Release.objects.create(fingerprint="newer", declared_at=timezone.now())
    told = checks.releases()

    assert not told.ok
    assert "newer" in told.detail
    assert "manage.py setup" in told.fix


def test_not_ready_without_redis_and_says_nothing_of_where_it_is(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive()
    secret = "redis://:hunter2@127.0.0.1:1/0"
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"redis_url": secret}))
    answer = Client().get("/health/ready")
    assert answer.status_code == 503
    assert not answer.json()["checks"]["redis"]["ok"]
    assert "hunter2" not in answer.content.decode()
    assert "127.0.0.1:1" not in answer.content.decode()


def test_not_ready_without_postgres(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("connection to server at 10.0.0.7 failed")

    with monkeypatch.context() as patched:
        patched.setattr(connection, "cursor", away)
        patched.setattr(checks, "_migrated", [])
        answer = Client().get("/health/ready")
    assert answer.status_code == 503
    assert not answer.json()["checks"]["postgres"]["ok"]
    assert "10.0.0.7" not in answer.content.decode()


def test_not_ready_with_a_migration_to_apply(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    alive()
    monkeypatch.setattr(checks, "_migrated", [])
    monkeypatch.setattr(
        checks.MigrationExecutor, "migration_plan", lambda self, nodes: [("agents.0002", False)]
    )
    assert Client().get("/health/ready").status_code == 503
    assert "agents.0002" in checks.migrations().detail
    assert checks.migrations().fix == "`manage.py migrate`"


def test_metrics_tell_what_the_machine_does(world: World) -> None:
    gate.kill("reduce_only", by="test", reason="drill")
    text = Client().get("/metrics").content.decode()  # a test client comes from 127.0.0.1
    for line in (
        "maxxit_open_positions 2.0",
        "maxxit_open_orders 0.0",
        'maxxit_kill_switch{level="reduce_only"} 1.0',
        'maxxit_kill_switch{level="flatten"} 0.0',
        "maxxit_daily_pnl_usd 76.32",
        'maxxit_queue_length{queue="execute"}',
        'maxxit_job_lag_seconds{job="monitor"}',
        'maxxit_blocked_orders_24h{reason="cooldown"} 2.0',
        "maxxit_owed_usdc 0.0",
        "maxxit_owing_deployments 0.0",
        "maxxit_failed_charges 0.0",
    ):
        assert line in text, line


def test_doctor_and_metrics_tell_of_debts_failed_charges_and_broken_fees(world: World) -> None:
    assert checks.billing().ok
    number = world.of_alice.deployment.pk
    ledger.book_subscription(number, "2026-03-02", Decimal("150.5"))
    world.of_bob.deployment.billing_events.update(state="failed")
    world.of_bob.agent.trade_fee = "nonsense"
    world.of_bob.agent.save()
    check = checks.billing()

    assert not check.ok
    for part in (
        "1 charges failed",
        f"1 deployments owe 150.5 USDC that is above the limit or too old, the most: {number}",
        f"fees that cannot be read, so nothing is charged: {world.of_bob.agent.name}",
    ):
        assert part in check.detail
    text = Client().get("/metrics").content.decode()
    for line in ("maxxit_owed_usdc 150.5", "maxxit_owing_deployments 1.0", "maxxit_failed_charges 1.0"):
        assert line in text, line


@pytest.mark.parametrize(
    ("who", "status"), [("nobody", 401), ("tenant key", 401), ("staff key", 200), ("staff", 200)]
)
def test_metrics_are_not_for_strangers(world: World, who: str, status: int) -> None:
    browser = world.logged_in(world.staff if who == "staff" else None)
    people = {"tenant key": world.alice, "staff key": world.staff}
    headers = world.key(people[who]) if who in people else {}
    assert browser.get("/metrics", headers=headers, REMOTE_ADDR="203.0.113.9").status_code == status


def test_behind_a_proxy_everybody_comes_from_this_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"behind_proxy": True}))
    assert Client().get("/metrics").status_code == 401


def test_the_short_address_of_health_is_readiness(db: None) -> None:
    answers = [Client().get(path, follow=True) for path in ("/health", "/health/ready")]

    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json()["checks"].keys() == answers[1].json()["checks"].keys()


@pytest.mark.parametrize("name", ["x-api-key", "authorization"])
def test_metrics_judge_a_request_with_a_key_by_the_key_alone(world: World, name: str) -> None:
    """A refused key is not made good by a session of staff, nor by the machine's own address."""
    browser = Client(REMOTE_ADDR="127.0.0.1")
    browser.force_login(world.staff)
    assert browser.get("/metrics").status_code == 200
    form = "Bearer {}" if name == "authorization" else "{}"
    for key in (world.key(world.alice)["x-api-key"], "mxk_nobody", ""):
        assert browser.get("/metrics", headers={name: form.format(key)}).status_code == 401
    good = form.format(world.key(world.staff)["x-api-key"])
    assert Client(REMOTE_ADDR="192.0.2.1").get("/metrics", headers={name: good}).status_code == 200
