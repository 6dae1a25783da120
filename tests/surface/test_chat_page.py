"""The settings page Chat, and the webhook of the bot."""

from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from maxxit.chat import connecting
from maxxit.chat.models import ChatCode, ChatUpdate
from maxxit.notify import endpoints
from maxxit.notify import policy as notify_policy
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Endpoint
from tests.notify.providers import TOKEN, Fault, providers, telegram_update
from tests.surface.conftest import World
from tests.surface.test_settings import shown

ALICE = 1001
SECRET = "web-hook_secret-1"


@pytest.fixture(autouse=True)
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    every = notify_policy.policy().model_copy(update={"offered": tuple(CHANNELS)})
    for module in (endpoints, connecting):
        monkeypatch.setattr(module, "policy", lambda: every)
    monkeypatch.setenv("TELEGRAM_WEBHOOK_SECRET", SECRET)


def hook(update: Any, secret: str | None = SECRET) -> Any:
    headers = {} if secret is None else {"x-telegram-bot-api-secret-token": secret}
    return Client().post("/telegram/webhook", update, content_type="application/json", headers=headers)


def test_a_chat_is_connected_and_disconnected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_NAME", "@maxxit_bot")
    browser = world.logged_in(world.alice)
    assert "/start" not in browser.get("/settings/chat").content.decode().partition("<h2>Commands")[0]
    made = browser.post("/settings/chat", {"do": "connect"})
    code = made.context["code"]
    assert f"/start {code}" in shown(made)
    assert f"https://t.me/maxxit_bot?start={code}" in shown(made)
    assert ChatCode.objects.get().sha256 != code
    assert code not in shown(browser.get("/settings/chat"))  # once
    answer = hook(telegram_update(1, f"/start {code}", ALICE))
    assert (answer.status_code, answer.json()["method"], answer.json()["chat_id"]) == (
        200,
        "sendMessage",
        ALICE,
    )
    assert "Your chat is connected" in shown(browser.get("/settings/chat"))
    done = browser.post("/settings/chat", {"do": "disconnect"}, follow=True)
    assert "The chat is disconnected." in shown(done)
    assert not Endpoint.objects.filter(channel="telegram", active=True).exists()
    assert hook(telegram_update(2, "/status", ALICE)).content == b""


def test_the_page_of_a_customer_lists_no_command_of_staff(world: World) -> None:
    assert "/stop platform" not in shown(world.logged_in(world.alice).get("/settings/chat"))
    assert "/stop platform" in shown(world.logged_in(world.staff).get("/settings/chat"))


def test_an_installation_without_the_channel_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    none = notify_policy.policy().model_copy(update={"offered": ("inbox",)})
    monkeypatch.setattr(connecting, "policy", lambda: none)
    browser = world.logged_in(world.alice)
    assert "does not offer Telegram" in shown(browser.get("/settings/chat"))
    assert "does not offer Telegram" in shown(browser.post("/settings/chat", {"do": "connect"}, follow=True))
    assert not ChatCode.objects.exists()


def test_the_webhook_wants_its_secret(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code = connecting.connect_code(world.alice)
    update = telegram_update(1, f"/start {code}", ALICE)
    for secret in (None, "", "wrong", SECRET + "x", "ä"):
        assert hook(update, secret).status_code == 403
    monkeypatch.setenv("TELEGRAM_WEBHOOK_SECRET", "")
    assert hook(update, "").status_code == 403
    assert Client().get("/telegram/webhook").status_code == 405
    assert connecting.user_at(ALICE) is None


def test_an_update_that_telegram_sends_again_acts_once(world: World) -> None:
    hook(telegram_update(1, f"/start {connecting.connect_code(world.alice)}", ALICE))
    update = telegram_update(2, "/status", ALICE)
    first, second = hook(update), hook(update)
    assert "Equity" in first.json()["text"]
    assert (second.status_code, second.content) == (200, b"")
    assert ChatUpdate.objects.filter(update_id=2).count() == 1


@pytest.mark.django_db
def test_what_is_no_update_is_refused_or_left_out() -> None:
    for body, status in (
        ("{", 400),
        ("[" * 300, 400),
        ("{}", 200),
        ("5", 200),
        ('"x' + "y" * 200_000 + '"', 413),
    ):
        assert hook(body).status_code == status, body[:20]


def test_the_command_sets_and_ends_the_webhook(
    monkeypatch: pytest.MonkeyPatch, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.PUBLIC_URL = "https://maxxit.example"
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN", raising=False)
    with pytest.raises(CommandError, match="TELEGRAM_BOT_TOKEN is not set"):
        call_command("chat")
    with providers() as bot:
        monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
        monkeypatch.setenv("TELEGRAM_BASE_URL", bot.url)
        call_command("chat", "--set-webhook")
        assert bot.webhook["url"] == "https://maxxit.example/telegram/webhook"
        assert bot.webhook["secret_token"] == SECRET
        call_command("chat", "--delete-webhook")
        assert bot.webhook == {}
        bot.faults.append(Fault(500))
        with pytest.raises(CommandError):
            call_command("chat", "--delete-webhook")
        monkeypatch.setenv("TELEGRAM_WEBHOOK_SECRET", "")
        with pytest.raises(CommandError, match="TELEGRAM_WEBHOOK_SECRET is not set"):
            call_command("chat", "--set-webhook")
    assert TOKEN not in capsys.readouterr().out
