"""Slack, Discord and Teams: their own libraries are taken by our fakes, and read what we send."""

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import discord
import pytest
from slack_sdk.models.blocks import Block, ContextBlock, SectionBlock
from slack_sdk.webhook import WebhookClient

from tests.conformance.conftest import Fakes

HERE = Path(__file__).parent
NASTY = "<!channel> @everyone *BTC* [x](http://evil.example) & more"


def ours(fakes: Fakes, channel: str, text: str) -> dict[str, Any]:
    """What our channel sends."""
    fakes.channels_say()
    assert fakes.channels_ours(channel=channel, text=text, severity="critical") == ""
    ((_, body),) = fakes.channels_got()
    return dict(body)


# --- Slack -----------------------------------------------------------------------------------------------------------


def test_slacks_client_is_taken(fakes: Fakes) -> None:
    fakes.channels_say()
    client = WebhookClient(fakes.channels_address(channel="slack"))
    answer = client.send(text="hello", blocks=[SectionBlock(text="hello")])
    assert (answer.status_code, answer.body) == (200, "ok")
    assert fakes.channels_got()[0][1]["text"] == "hello"


@pytest.mark.parametrize(("what", "status"), [("gone", 404), ("rate_limited", 429)])
def test_slacks_client_reads_the_errors(fakes: Fakes, what: str, status: int) -> None:
    fakes.channels_say(what=what, channel="slack")
    answer = WebhookClient(fakes.channels_address(channel="slack")).send(text="hello")
    assert answer.status_code == status
    if status == 429:
        assert {name.lower(): value for name, value in answer.headers.items()}["retry-after"] in ("7", ["7"])


def test_slacks_models_accept_our_blocks(fakes: Fakes) -> None:
    body = ours(fakes, "slack", NASTY)
    blocks = Block.parse_all(body["blocks"])
    assert [type(block) for block in blocks] == [SectionBlock, ContextBlock]
    for block in blocks:
        block.validate_json()
    assert [block.to_dict() for block in blocks] == body["blocks"]
    client = WebhookClient(fakes.channels_address(channel="slack"))
    assert client.send(text=body["text"], blocks=blocks).body == "ok"
    assert fakes.channels_got()[-1][1]["blocks"] == body["blocks"]


# --- Discord ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def webhook(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """discord.py's client of the fake's webhook."""
    monkeypatch.setattr(discord.http.Route, "BASE", f"{fakes.urls['channels']}/api")
    *_, ident, token = urlsplit(fakes.channels_address(channel="discord")).path.split("/")
    return discord.SyncWebhook.partial(int(ident), token)


def test_discords_client_is_taken(fakes: Fakes, webhook: discord.SyncWebhook) -> None:
    fakes.channels_say()
    webhook.send("hello", embed=discord.Embed(title="t", description="d"))
    ((_, body),) = fakes.channels_got()
    assert body["content"] == "hello"


def test_discords_client_reads_the_errors(
    fakes: Fakes, webhook: discord.SyncWebhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.channels_say(what="gone", channel="discord")
    with pytest.raises(discord.NotFound) as gone:
        webhook.send("hello")
    assert gone.value.code == 10015
    waits: list[float] = []
    monkeypatch.setattr("discord.webhook.sync.time.sleep", waits.append)
    fakes.channels_say(what="rate_limited", channel="discord")
    webhook.send("hello")
    assert 7.0 in waits
    assert len(fakes.channels_got()) == 1, "sent after the wait that the fake asked for"


def test_discords_models_read_our_embed_and_nobody_is_mentioned(fakes: Fakes) -> None:
    body = ours(fakes, "discord", NASTY)
    [embed] = body["embeds"]
    read = discord.Embed.from_dict(embed)
    assert (read.title, read.description) == (embed["title"], embed["description"])
    shown = read.to_dict()
    assert set(embed) <= set(shown)
    assert body["allowed_mentions"] == discord.AllowedMentions.none().to_dict()


# --- Teams -----------------------------------------------------------------------------------------------------------


def read_card(card: dict[str, Any]) -> dict[str, Any]:
    """What Microsoft's library makes of a card."""
    done = subprocess.run(
        ["node", str(HERE / "teams.mjs"), json.dumps(card)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_microsofts_library_reads_our_card_whole(fakes: Fakes) -> None:
    body = ours(fakes, "teams", NASTY)
    [attachment] = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    found = read_card(attachment["content"])
    assert found["objections"] == []
    texts = [line["inlines"][0]["text"] for line in found["card"]["body"]]
    assert NASTY in texts


def test_microsofts_library_objects_to_what_is_no_card() -> None:
    card = {
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": "x", "color": "Purple"}]},
            {"type": "Nothing"},
        ],
    }
    assert len(read_card(card)["objections"]) == 2
