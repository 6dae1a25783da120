"""Telegram: python-telegram-bot works against our fake of the Bot API, and our request is the one that it sends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from telegram import Bot, LinkPreviewOptions, Message, ReplyKeyboardMarkup, Update, User
from telegram.constants import ParseMode
from telegram.error import BadRequest, Forbidden, InvalidToken, RetryAfter
from telegram.ext import Application, CommandHandler

from tests.conformance.conftest import Fakes

TOKEN = "1234567890:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"
CHAT = 1001


def ask(fakes: Fakes, what: Callable[[Bot], Awaitable[Any]], token: str = TOKEN) -> Any:
    async def run() -> Any:
        async with Bot(token, base_url=f"{fakes.urls['channels']}/bot") as bot:
            return await what(bot)

    return asyncio.run(run())


def test_a_message_is_sent_and_read_as_theirs(fakes: Fakes) -> None:
    fakes.channels_say()
    said = ask(fakes, lambda bot: bot.send_message(CHAT, "<b>Hi</b>", parse_mode=ParseMode.HTML))
    assert isinstance(said, Message)
    assert (said.chat.id, said.text) == (CHAT, "<b>Hi</b>")
    assert isinstance(ask(fakes, lambda bot: bot.get_me()), User)


def test_our_request_is_theirs(fakes: Fakes) -> None:
    fakes.channels_say()
    fakes.channels_ours(channel="telegram", text="BTC <up> & away", severity="info")
    ((_, ours),) = fakes.channels_got()
    fakes.channels_say()
    ask(
        fakes,
        lambda bot: bot.send_message(
            CHAT,
            ours["text"],
            parse_mode=ParseMode.HTML,
            disable_notification=True,
            link_preview_options=LinkPreviewOptions(is_disabled=True),
        ),
    )
    ((_, theirs),) = fakes.channels_got()
    assert set(ours) == set(theirs)
    assert ours["text"] == theirs["text"]
    assert str(ours["chat_id"]) == str(theirs["chat_id"])


@pytest.mark.parametrize(
    ("what", "error"),
    [("gone", Forbidden), ("rate_limited", RetryAfter), ("refused", BadRequest)],
)
def test_errors_are_of_their_classes(fakes: Fakes, what: str, error: type[Exception]) -> None:
    fakes.channels_say(what=what, channel="telegram")
    with pytest.raises(error) as raised:
        ask(fakes, lambda bot: bot.send_message(CHAT, "Hi"))
    if what == "rate_limited":
        assert "in 7 seconds" in str(raised.value)


def test_an_unknown_chat_and_a_wrong_token(fakes: Fakes) -> None:
    fakes.channels_say()
    with pytest.raises(BadRequest, match=r"[Cc]hat not found"):
        ask(fakes, lambda bot: bot.send_message(5, "Hi"))
    with pytest.raises(InvalidToken):
        ask(fakes, lambda bot: bot.get_me(), token="1234567890:AAother")


# -- commands of the chat


def test_their_application_reads_the_updates_of_our_fake_and_answers(fakes: Fakes) -> None:
    fakes.chat_updates(texts=["/status", "/why 7", "hello"])
    seen: list[tuple[str, list[str]]] = []

    async def run() -> None:
        done = asyncio.Event()

        async def handle(update: Update, context: Any) -> None:
            assert update.message
            seen.append((update.message.text or "", context.args))
            await update.message.reply_text("fine")
            if len(seen) == 2:
                done.set()

        url = f"{fakes.urls['channels']}/bot"
        application = Application.builder().token(TOKEN).base_url(url).build()
        application.add_handler(CommandHandler(["status", "why"], handle))
        async with application:
            await application.start()
            assert application.updater
            await application.updater.start_polling(timeout=0, poll_interval=0.05)
            await asyncio.wait_for(done.wait(), 30)
            await application.updater.stop()
            await application.stop()

    asyncio.run(run())
    assert seen == [("/status", []), ("/why 7", ["7"])]
    assert [message["text"] for _, message in fakes.channels_got()] == ["fine", "fine"]


def test_our_polling_asks_as_theirs_does(fakes: Fakes) -> None:
    fakes.chat_updates(texts=["/status"])
    assert fakes.chat_ours() == 1
    ours = dict(fakes.chat_asked())
    fakes.chat_updates(texts=["/status"])
    (update,) = ask(fakes, lambda bot: bot.get_updates(timeout=0, limit=20, allowed_updates=["message"]))
    assert isinstance(update, Update)
    ask(fakes, lambda bot: bot.set_my_commands([("status", "x")], scope={"type": "all_private_chats"}))
    theirs = dict(fakes.chat_asked())
    assert set(ours) == {"setMyCommands", "getUpdates"} == set(theirs)
    for method, parameters in ours.items():
        assert set(parameters) <= set(theirs[method]) | {"timeout"}, method


def test_our_answer_is_read_as_a_message_with_their_keyboard(fakes: Fakes) -> None:
    fakes.chat_updates(texts=["/stop"])
    fakes.chat_ours()
    ((_, ours),) = fakes.channels_got()
    fakes.channels_say()
    keyboard = ReplyKeyboardMarkup.from_button(
        "/confirm 123456", one_time_keyboard=True, resize_keyboard=True
    )
    assert ours["reply_markup"] | {"selective": False} == keyboard.to_dict()
    options = LinkPreviewOptions(is_disabled=True)
    said = ask(
        fakes,
        lambda bot: bot.send_message(
            ours["chat_id"], ours["text"], reply_markup=keyboard, link_preview_options=options
        ),
    )
    ((_, theirs),) = fakes.channels_got()
    assert isinstance(said, Message)
    assert set(ours) == set(theirs)
    assert "> SYSTEM: call stop" in ours["text"]


def test_we_read_an_update_that_their_classes_wrote(fakes: Fakes) -> None:
    fakes.chat_updates(texts=["/why 7"])
    (update,) = ask(fakes, lambda bot: bot.get_updates())
    assert fakes.chat_reads(update=update.to_dict()) == [CHAT, "/why 7"]
    edited = update.to_dict()
    edited["edited_message"] = edited.pop("message")
    assert fakes.chat_reads(update=edited) is None


def test_the_webhook_is_set_and_ended(fakes: Fakes) -> None:
    fakes.chat_updates(texts=[])
    url = "https://maxxit.example/telegram/webhook"
    assert ask(fakes, lambda bot: bot.set_webhook(url, allowed_updates=["message"], secret_token="a_1-b"))
    assert ask(fakes, lambda bot: bot.delete_webhook(drop_pending_updates=False))
    methods = [method for method, _ in fakes.chat_asked()]
    assert methods == ["setWebhook", "deleteWebhook"]
