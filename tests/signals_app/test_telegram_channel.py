"""Telegram channels as a source: nothing is confirmed before it is stored, and one token has one reader."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app.ingest import ingest
from signals_app.models import CtPost, InboundPost, RejectedPost
from signals_app.sources.base import Cursor
from signals_app.sources.telegram import TelegramSource
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.signals_app.bot_api import CHANNEL, OTHER, TOKEN, BotApi, bot_api

TEXT = "buying $BTC here, this looks like the bottom"


@pytest.fixture
def api(db: None, time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[BotApi]:
    monkeypatch.setenv("TELEGRAM_SOURCE_TOKEN", TOKEN)
    with bot_api() as running:
        yield running


def reader(api: BotApi) -> TelegramSource:
    return TelegramSource(name="telegram", channels={"alpha": CHANNEL}, base_url=api.url)


@pytest.mark.django_db(transaction=True)
def test_posts_and_edits_land_and_the_bot_confirms_only_what_is_stored(
    api: BotApi, time: RecordedClock
) -> None:
    make.account(username="alpha", source="telegram")
    for number in range(1, 131):
        api.says(number, T0 - timedelta(minutes=200 - number), f"{TEXT} {number}")
    source = reader(api)
    first = ingest({"telegram": source})
    api.says(130, T0 - timedelta(minutes=70), f"{TEXT} after all", kind="edited_channel_post")
    time.move(minutes=5)
    second = ingest({"telegram": source})

    assert (first.new, second.new, second.edited) == (130, 0, 1)
    assert [one.get("offset") for one in api.asked[:3]] == [None, 870_000_101, 870_000_131]
    post = CtPost.objects.get(post_id=f"tg{CHANNEL}/130")
    assert post.text == f"{TEXT} after all"
    assert post.link == "https://t.me/alpha_calls/130"
    assert InboundPost.objects.count() == 131


def test_a_reader_that_dies_between_two_requests_loses_nothing(api: BotApi) -> None:
    api.says(1, T0, TEXT)
    first = reader(api)
    api.answer = None
    original, calls = first._updates, []

    def dies(offset: int | None) -> list[dict[str, object]]:
        calls.append(offset)
        if offset is not None:
            raise SystemExit
        return original(offset)

    first._updates = dies  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        list(first.fetch("alpha", Cursor()))
    again = list(reader(api).fetch("alpha", Cursor()))

    assert calls == [None, 870_000_002]
    assert [post.text for post in again] == [TEXT]


def test_another_chat_is_ignored_and_a_caption_counts(api: BotApi) -> None:
    api.says(1, T0, "not for us", chat={"id": OTHER, "type": "channel", "title": "Other"})
    api.says(2, T0, None, caption=TEXT)
    api.says(3, T0, None)
    source = reader(api)

    assert [post.text for post in source.fetch("Alpha", Cursor())] == [TEXT]
    assert ["neither text nor caption" in one.reason for one in source.refused()] == [True]
    assert not RejectedPost.objects.exists()


def test_a_channel_is_known_by_its_public_name(api: BotApi) -> None:
    api.says(1, T0, TEXT)
    source = TelegramSource(name="telegram", channels={"alpha": "@Alpha_Calls"}, base_url=api.url)

    assert len(list(source.fetch("alpha", Cursor()))) == 1


def test_telegram_is_asked_once_for_all_channels(api: BotApi, time: RecordedClock) -> None:
    source = TelegramSource(name="telegram", channels={"alpha": CHANNEL, "beta": OTHER}, base_url=api.url)
    for name in ("alpha", "beta", "alpha"):
        list(source.fetch(name, Cursor()))
    time.move(seconds=6)
    list(source.fetch("beta", Cursor()))

    assert len(api.asked) == 2


@pytest.mark.parametrize(
    ("status", "said"), [(409, "one token has one reader"), (401, "token is refused"), (500, "answered 500")]
)
def test_an_error_names_the_fix_and_no_token(api: BotApi, status: int, said: str) -> None:
    api.answer = status, {"ok": False, "error_code": status, "description": "x"}
    with pytest.raises(Retryable) as error:
        list(reader(api).fetch("alpha", Cursor()))

    assert said in str(error.value)
    assert TOKEN not in str(error.value)


def test_an_unknown_channel_and_a_missing_token_are_named(
    api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Rejected, match="known: alpha"):
        list(reader(api).fetch("other", Cursor()))
    monkeypatch.delenv("TELEGRAM_SOURCE_TOKEN")
    with pytest.raises(Misconfigured, match="TELEGRAM_SOURCE_TOKEN"):
        reader(api)
