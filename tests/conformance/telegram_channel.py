"""Updates of a Telegram channel: python-telegram-bot reads our fake's, and asks as our source asks."""

import asyncio
import json
from typing import Any

from telegram import Bot, Update

from tests.conformance.conftest import Fakes

TOKEN = "1234567890:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"
KINDS = ["channel_post", "edited_channel_post"]


def updates(fakes: Fakes, **asked: Any) -> list[Update]:
    async def run() -> tuple[Update, ...]:
        async with Bot(TOKEN, base_url=f"{fakes.urls['bot_api']}/bot") as bot:
            read: tuple[Update, ...] = await bot.get_updates(timeout=0, allowed_updates=KINDS, **asked)
            return read

    return list(asyncio.run(run()))


def test_the_posts_of_a_channel_and_their_edits_are_read(fakes: Fakes) -> None:
    ids = fakes.telegram_says(posts=3)
    read = updates(fakes, limit=100)

    assert [one.update_id for one in read] == ids
    posts = [one.channel_post or one.edited_channel_post for one in read]
    assert [post.text for post in posts if post] == [
        "buying $BTC 1", "buying $BTC 2", "buying $BTC 3", "buying $BTC after all",
    ]  # fmt: skip
    assert all(post and post.chat.type == "channel" and post.date.tzinfo for post in posts)
    assert posts[-1]
    assert posts[-1].edit_date


def test_an_offset_confirms_what_lies_before_it(fakes: Fakes) -> None:
    ids = fakes.telegram_says(posts=3)
    assert [one.update_id for one in updates(fakes, offset=ids[2])] == ids[2:]
    assert fakes.telegram_left() == 2


def test_our_requests_are_theirs(fakes: Fakes) -> None:
    ids = fakes.telegram_says(posts=120)
    ours = fakes.telegram_ours()
    assert fakes.telegram_left() == 0
    fakes.telegram_says(posts=1)
    updates(fakes, limit=100)
    updates(fakes, limit=100, offset=ids[100])
    theirs = [one for one in fakes.telegram_ours() if isinstance(one.get("allowed_updates"), str)]

    assert [one.get("offset") for one in ours] == [None, ids[99] + 1, ids[-1] + 1]
    for mine, other in zip(ours, theirs, strict=False):
        assert {name for name in mine if mine[name]} == {
            name for name in other if other[name] not in ("0", "")
        }
        assert mine["allowed_updates"] == json.loads(other["allowed_updates"])
