"""Long polling against the fake of the Bot API: each update acts once, and no error ends the process."""

import threading
from collections.abc import Iterator

import pytest
from django.db import InterfaceError, OperationalError

from maxxit.chat import polling, telegram
from maxxit.core.errors import Rejected, Retryable
from tests.notify.providers import CHAT, TOKEN, Fault, Providers, providers, rate_limited, telegram_update


@pytest.fixture
def bot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Providers]:
    with providers() as one:
        monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
        monkeypatch.setenv("TELEGRAM_BASE_URL", one.url)
        monkeypatch.setattr(
            telegram, "answer_update",
            lambda update: {"chat_id": CHAT, "text": f"answer to {update['message']['text']}"},
        )  # fmt: skip
        yield one


def texts(bot: Providers) -> list[str]:
    return [message["text"] for _, message in bot.came]


def offsets(bot: Providers) -> list[int | None]:
    return [sent.get("offset") for method, sent in bot.asked if method == "getUpdates"]


def test_updates_are_answered_and_confirmed_with_the_next_request(bot: Providers) -> None:
    bot.updates += [telegram_update(number, f"/{number}") for number in (70, 71, 72)]
    poller = polling.Poller(wait=0)
    assert poller.once() == 3
    assert texts(bot) == ["answer to /70", "answer to /71", "answer to /72"]
    assert len(bot.updates) == 3  # not confirmed: a process that dies now sees them again
    assert poller.once() == 0
    assert bot.updates == []
    assert offsets(bot) == [None, 73]


def test_ids_that_begin_anew_are_seen(bot: Providers) -> None:
    """Telegram chooses the next id at random when a bot had no update for a week."""
    bot.updates.append(telegram_update(900_000, "/old"))
    poller = polling.Poller(wait=0)
    poller.once()
    poller.once()
    bot.updates.append(telegram_update(5, "/new"))
    assert poller.once() == 1
    assert texts(bot)[-1] == "answer to /new"


def test_an_update_that_fails_keeps_no_other_waiting(bot: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(update: object) -> dict[str, object] | None:
        if update["update_id"] == 1:  # type: ignore[index]
            raise RuntimeError("a bug")
        return {"chat_id": CHAT, "text": "fine"}

    monkeypatch.setattr(telegram, "answer_update", answer)
    bot.updates += [telegram_update(number, "/x") for number in (1, 2)]
    poller = polling.Poller(wait=0)
    poller.once()
    poller.once()
    assert texts(bot) == ["fine"]
    assert bot.updates == []


@pytest.mark.parametrize("away", [OperationalError, InterfaceError])
def test_an_update_that_met_no_database_comes_again_and_those_before_do_not(
    bot: Providers, monkeypatch: pytest.MonkeyPatch, away: type[Exception]
) -> None:
    acted: list[int] = []
    fails = {2}

    def answer(update: object) -> None:
        number = update["update_id"]  # type: ignore[index]
        if number in fails:
            raise away("the connection is closed")
        acted.append(number)

    monkeypatch.setattr(telegram, "answer_update", answer)
    bot.updates += [telegram_update(number, "/x") for number in (1, 2, 3)]
    poller = polling.Poller(wait=0)
    with pytest.raises(away):
        poller.once()
    fails.clear()
    poller.once()
    poller.once()
    assert acted == [1, 2, 3]
    assert bot.updates == []


def test_without_a_database_it_waits_and_goes_on(bot: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    poller, tried = polling.Poller(wait=0), list[int]()

    def answer(update: object) -> None:
        tried.append(1)
        if len(tried) == 1:
            raise OperationalError("the server is starting up")
        poller.stop.set()

    monkeypatch.setattr(telegram, "answer_update", answer)
    monkeypatch.setattr(polling, "PAUSES", (0.01,))
    monkeypatch.setattr(polling, "close_old_connections", lambda: None)
    bot.updates.append(telegram_update(1, "/x"))
    poller.run()
    assert len(tried) == 2


def test_an_answer_that_is_refused_or_lost_ends_nothing(
    bot: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram, "answer_update", lambda update: {"chat_id": 5, "text": "to nobody"})
    bot.updates.append(telegram_update(1, "/x"))
    assert polling.Poller(wait=0).once() == 1
    assert texts(bot) == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(500), Retryable), (Fault(0), Retryable), (Fault(401, {"ok": False}), Retryable),
        (Fault(200, "no json"), None), (Fault(200, {"ok": True, "result": {"update_id": 1}}), None),
        (Fault(200, {"ok": True, "result": [5, None, {"update_id": "x"}]}), None),
        (rate_limited("telegram", 7), Retryable),
    ],
)  # fmt: skip
def test_what_telegram_may_answer(bot: Providers, fault: Fault, error: type[Exception] | None) -> None:
    bot.faults.append(fault)
    poller = polling.Poller(wait=0)
    if error is None:
        poller.once()
        return
    with pytest.raises(error):
        poller.once()


def test_a_second_process_or_a_webhook_is_named(bot: Providers) -> None:
    bot.webhook = {"url": "https://maxxit.example/telegram/webhook"}
    poller = polling.Poller(wait=0)
    with pytest.raises(Rejected) as refused:
        poller.once()
    assert refused.value.code == polling.CONFLICT


def test_it_goes_on_after_errors_and_stops_when_told(bot: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "PAUSES", (0.01,))
    monkeypatch.setattr(polling, "close_old_connections", lambda: None)
    bot.faults += [Fault(500), Fault(0), Fault(502)]
    bot.updates.append(telegram_update(1, "/late"))
    poller = polling.Poller(wait=1)
    thread = threading.Thread(target=poller.run)
    thread.start()
    for _ in range(500):
        if bot.came:
            break
        thread.join(0.02)
    poller.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert texts(bot) == ["answer to /late"]


def test_the_menu_and_the_webhook(bot: Providers) -> None:
    polling.introduce()
    polling.set_webhook("https://maxxit.example/telegram/webhook", "a-secret_1")
    assert bot.webhook["allowed_updates"] == ["message"]
    polling.delete_webhook()
    assert bot.webhook == {}
    listed = next(sent["commands"] for method, sent in bot.asked if method == "setMyCommands")
    names = {one["command"] for one in listed}
    assert {"status", "stop", "why"} <= names
    assert "confirm" not in names
