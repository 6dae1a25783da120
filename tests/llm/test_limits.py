"""Budget, breaker and slots: what bounds the calls to a provider."""

import threading
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from maxxit.core import clock, config
from maxxit.core.errors import Retryable
from maxxit.llm.budget import AccountSpent, calls_left
from maxxit.llm.errors import NotCalled
from maxxit.llm.models import LlmCircuit, LlmSpend
from maxxit.llm.slots import QUEUE, slot, width
from maxxit.llm.trace import AgentRef
from tests.llm import server as fake
from tests.llm.questions import NOW, answer, asked, edit, reading, together
from tests.llm.server import ModelServer

pytestmark = pytest.mark.django_db


def test_the_call_cap_holds_and_ends_with_the_day(policy_dir: Path, server: ModelServer) -> None:
    edit(policy_dir, calls_per_day=2)
    server.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW):
        asked()
        asked()
        with pytest.raises(Retryable, match="budget") as failed:
            asked()
        assert failed.value.after == 12 * 3600
    assert len(server.asked) == 2
    with clock.frozen(NOW + timedelta(days=1)):
        asked()
    assert LlmSpend.objects.filter(account="").count() == 2


def test_the_money_cap_holds(policy_dir: Path, server: ModelServer, second: ModelServer) -> None:
    edit(policy_dir, budget_usd_per_day=0.002)
    server.otherwise = fake.says(answer(reading()))
    asked()
    asked()
    with pytest.raises(Retryable, match="budget"):
        asked()
    assert LlmSpend.objects.get(account="").usd == Decimal("0.0028")
    assert second.asked == []


def test_one_account_cannot_use_up_the_day_of_the_others(policy_dir: Path, server: ModelServer) -> None:
    edit(policy_dir, calls_per_account_per_day=2)
    server.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW):
        asked(account="x:loud")
        asked(account="x:loud")
        with pytest.raises(AccountSpent, match=r"classify x:loud.*2 calls of 2.*calls_per_account_per_day"):
            asked(account="x:loud")
        asked(account="x:quiet")
        asked(agent=AgentRef(7, "Follower"))
    with clock.frozen(NOW + timedelta(days=1)):
        asked(account="x:loud")
    spent = dict(LlmSpend.objects.filter(day=NOW.date()).values_list("account", "calls"))
    assert spent == {"x:loud": 2, "x:quiet": 1, "Follower (7)": 1, "first": 4, "": 4}, (
        "a refused call counts nowhere"
    )


def test_one_account_cannot_spend_the_money_of_the_others(policy_dir: Path, server: ModelServer) -> None:
    edit(policy_dir, budget_usd_per_account_per_day=0.002)
    server.otherwise = fake.says(answer(reading()))
    asked(account="x:loud")
    asked(account="x:loud")
    with pytest.raises(AccountSpent, match=r"0\.0028 USD of 0\.002.*budget_usd_per_account_per_day"):
        asked(account="x:loud")
    assert asked(account="x:quiet").provider == "first"


def test_an_account_without_budget_is_that_also_where_another_provider_is_away(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    edit(policy_dir, calls_per_account_per_day=1)
    server.otherwise = fake.says(answer(reading()))
    asked(account="x:loud")
    LlmCircuit.objects.create(provider="first", failures=5, retry_at=timezone.now() + timedelta(minutes=5))
    with pytest.raises(AccountSpent):
        asked(account="x:loud")


def test_a_provider_bills_no_more_than_its_budget_and_the_next_is_asked(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    values = yaml.safe_load((policy_dir / "llm.yaml").read_text())
    values["providers"]["first"]["budget_usd_per_day"] = 0.002
    (policy_dir / "llm.yaml").write_text(yaml.safe_dump(values))
    server.otherwise = second.otherwise = fake.says(answer(reading()))
    assert [asked().provider for _ in range(3)] == ["first", "first", "other"]
    assert LlmSpend.objects.get(purpose="", account="first").usd == Decimal("0.0028")


def test_the_breaker_opens_and_one_probe_closes_it(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = fake.status(500)
    second.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW):
        for _ in range(3):
            asked()
    assert len(server.asked) == 2
    assert LlmCircuit.objects.get(provider="first").retry_at == NOW + timedelta(seconds=30)
    server.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW + timedelta(seconds=31)):
        assert asked().provider == "first"
    assert LlmCircuit.objects.get(provider="first").failures == 0


def test_a_failed_probe_keeps_it_open(policy_dir: Path, server: ModelServer, second: ModelServer) -> None:
    server.otherwise = fake.status(500)
    second.otherwise = fake.says(answer(reading()))
    for seconds in (0, 1, 32, 33):
        with clock.frozen(NOW + timedelta(seconds=seconds)):
            asked()
    assert len(server.asked) == 3


def test_a_rate_limit_rests_the_provider_at_once(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = fake.status(429, retry_after="100")
    second.otherwise = fake.says(answer(reading()))
    for seconds in (0, 50):
        with clock.frozen(NOW + timedelta(seconds=seconds)):
            asked()
    assert len(server.asked) == 1


@pytest.mark.django_db(transaction=True)
def test_only_one_probe_passes_a_half_open_breaker(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    LlmCircuit.objects.create(provider="first", failures=5, retry_at=NOW - timedelta(hours=1))
    server.otherwise = fake.slow(0.6)
    second.otherwise = fake.says(answer(reading()))
    together(6, asked)
    assert server.most_in_flight == 1


@pytest.mark.django_db(transaction=True)
def test_calls_in_flight_are_bounded_over_all_workers(policy_dir: Path, server: ModelServer) -> None:
    def reply(handler: Any, body: Any) -> None:
        threading.Event().wait(0.1)
        fake.says(answer(reading()))(handler, body)

    server.otherwise = reply
    together(6, asked)
    assert len(server.asked) == 6
    assert server.most_in_flight == 2


@pytest.mark.django_db(transaction=True)
def test_a_slot_is_given_back() -> None:
    failed: list[Exception] = []
    with slot("x", 1, 0):
        together(1, lambda: take_slot(failed))
    assert "slots" in str(failed[0])
    with slot("x", 1, 0) as number:
        assert number == 0


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_gives_its_slot_back() -> None:
    """A counter would stay too high; a lock ends with the database session that holds it."""
    holder: list[int] = []
    taken, killed = threading.Event(), threading.Event()

    def worker() -> None:
        with suppress(OperationalError, InterfaceError), slot("x", 1, 0):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                holder.append(cursor.fetchone()[0])
            taken.set()
            killed.wait(60)
        connection.close()

    thread = threading.Thread(target=worker)
    thread.start()
    assert taken.wait(60)
    failed: list[Exception] = []
    take_slot(failed)
    assert len(failed) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 60000)", holder)
    with slot("x", 1, 0) as number:
        assert number == 0
    killed.set()
    thread.join(60)


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_takes_slot_after_slot_lets_the_one_that_waits_go_first() -> None:
    served, taken = threading.Event(), threading.Event()
    again: list[int] = []

    def waits() -> None:
        assert taken.wait(60)
        with slot("x", 1, 60):
            served.set()

    def takes_all() -> None:
        with slot("x", 1, 60):
            taken.set()
            assert in_the_queue()
        while not served.is_set():
            with slot("x", 1, 60):
                again.append(1)

    works = iter((waits, takes_all))
    together(2, lambda: next(works)())

    assert served.is_set()
    assert again in ([], [1])


def in_the_queue() -> bool:
    """Whether a call waits for a slot, after at most a minute."""
    with connection.cursor() as cursor:
        for _ in range(6000):
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                [QUEUE % 2**32],
            )
            if cursor.fetchone()[0]:
                return True
            threading.Event().wait(0.01)
    return False


@pytest.mark.parametrize(
    ("paused", "keys", "expected"),
    [((), True, 2), (("first",), True, 3), (("first", "other"), True, 1), ((), False, 1)],
)
def test_as_many_calls_fit_as_the_first_provider_that_may_be_called_has_slots(
    policy_dir: Path, monkeypatch: pytest.MonkeyPatch, paused: tuple[str, ...], keys: bool, expected: int
) -> None:
    values = yaml.safe_load((policy_dir / "llm.yaml").read_text())
    values["providers"]["other"]["concurrency"] = 3
    (policy_dir / "llm.yaml").write_text(yaml.safe_dump(values))
    for name in paused:
        LlmCircuit.objects.create(provider=name, failures=5, retry_at=timezone.now() + timedelta(minutes=5))
    if not keys:
        monkeypatch.delenv("FIRST_API_KEY")
        monkeypatch.delenv("OTHER_API_KEY")

    assert width("classify") == expected


def test_answers_of_this_process_come_one_after_the_other_and_cost_nothing(
    policy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "replay")
    assert (width("classify"), calls_left("classify")) == (1, None)
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "off")
    edit(policy_dir, chain=["rules"])
    config._read.cache_clear()
    assert (width("classify"), calls_left("classify")) == (1, None)


def test_the_calls_left_today_follow_calls_and_money(policy_dir: Path) -> None:
    edit(policy_dir, calls_per_day=100, budget_usd_per_day=1)
    with clock.frozen(NOW):
        assert calls_left("classify") == 100
        spend = LlmSpend.objects.create(day=NOW.date(), purpose="classify", calls=90, usd=0)
        assert calls_left("classify") == 10
        LlmSpend.objects.filter(pk=spend.pk).update(calls=10, usd=Decimal("0.5"))  # 0.05 USD a call
        assert calls_left("classify") == 10
        LlmSpend.objects.filter(pk=spend.pk).update(usd=2)
        assert calls_left("classify") == 0
    with clock.frozen(NOW + timedelta(days=1)):
        assert calls_left("classify") == 100


def test_the_calls_left_today_follow_the_budgets_of_all_providers_together(policy_dir: Path) -> None:
    edit(policy_dir, calls_per_day=1000, budget_usd_per_day=100)
    values = yaml.safe_load((policy_dir / "llm.yaml").read_text())
    values["providers"]["first"]["budget_usd_per_day"] = 1
    values["providers"]["other"]["budget_usd_per_day"] = 3
    (policy_dir / "llm.yaml").write_text(yaml.safe_dump(values))
    with clock.frozen(NOW):
        LlmSpend.objects.create(day=NOW.date(), purpose="classify", calls=10, usd=1)
        LlmSpend.objects.create(day=NOW.date(), account="first", calls=10, usd=1)

        assert calls_left("classify") == 30


@pytest.mark.django_db(transaction=True)
def test_what_was_not_asked_is_told_from_what_was_not_answered(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = fake.status(500)
    for name in ("first", "other"):
        LlmCircuit.objects.create(provider=name, failures=5, retry_at=timezone.now() + timedelta(minutes=5))
    with pytest.raises(NotCalled):
        asked()
    LlmCircuit.objects.filter(provider="first").delete()
    with pytest.raises(Retryable) as failed:
        asked()
    assert not isinstance(failed.value, NotCalled)


def take_slot(failed: list[Exception]) -> None:
    try:
        with slot("x", 1, 0):
            pass
    except Retryable as error:
        failed.append(error)
