"""Importer of Telegram Desktop's export (https://core.telegram.org/import-export): `result.json` of one chat, or of all
chats of an account."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signals_app.importers.base import Record, first, json_file, moment
from signals_app.sources.base import RawPost

NOT_IN_NAMES = re.compile(r"\W+")


class TelegramExport:
    """`{"name", "type", "id", "messages": [{"id", "type": "message", "date_unixtime", "from", "text"}]}`."""

    def sniff(self, head: str) -> bool:
        """Return whether the file begins as an export: an object with `messages` of a chat, or `chats`."""
        one = '"messages"' in head and '"type"' in head
        return head.lstrip().startswith("{") and (
            one or '"personal_information"' in head or '"chats"' in head
        )

    def records(self, path: Path) -> Iterator[Record]:
        """Read the messages of all channels and chats of the file, each with its chat; its place is file:message."""
        found = json_file(path)
        chats = first(found, "chats.list") or [found] if isinstance(found, dict) else []
        if not isinstance(chats, list):
            yield Record(f"{path}:1", "the export has no list `chats.list`")
            return
        for chat in chats:
            messages = chat.get("messages") if isinstance(chat, dict) else None
            if not isinstance(messages, list):
                yield Record(f"{path}:1", "the chat has no list `messages`")
                continue
            about = {name: chat.get(name) for name in ("name", "type", "id")}
            for place, message in enumerate(messages, start=1):
                if isinstance(message, dict):
                    yield Record(f"{path}:{place}", {**message, "chat": about})
                else:
                    yield Record(f"{path}:{place}", "the entry is not an object")

    def post(self, value: Any, username: str) -> RawPost | None:
        """Convert a message; service messages, forwarded ones and those without a text are skipped.

        An edited message counts from its edit: the export has only the text after it. The author is `username`, else
        the channel's name, in a group that of the sender.
        """
        if isinstance(value, str):
            raise ValueError(value)
        text = _text(first(value, "text"))
        if first(value, "type") != "message" or first(value, "forwarded_from") or not text.strip():
            return None
        channel = "channel" in str(first(value, "chat.type"))
        name = str(first(value, "chat.name") if channel else first(value, "from", "chat.name") or "")
        author = username or NOT_IN_NAMES.sub("_", name).strip("_")[:50]
        if not author:
            raise ValueError("the author is missing: give --username")
        posted = first(value, "edited_unixtime", "date_unixtime")
        if posted is None:
            raise ValueError(
                "it has no date_unixtime, and its date is the local time of the computer that exported it: export it "
                "again with a current Telegram Desktop"
            )
        return RawPost(_id(value), author, text, moment(posted))


def _id(value: Any) -> str:
    """Return the id that the source `telegram` gives the same message."""
    chat, message = first(value, "chat.id"), first(value, "id")
    if not isinstance(chat, int) or not isinstance(message, int):
        raise ValueError(f"the id is not a whole number: {str(message)[:40]!r} of chat {str(chat)[:40]!r}")
    kind = str(first(value, "chat.type"))
    return f"tg{'-100' if 'channel' in kind or 'supergroup' in kind else ''}{chat}/{message}"


def _text(value: Any) -> str:
    """Return a text that is a string, or a list of strings and of objects with `text`."""
    parts = value if isinstance(value, list) else [value]
    texts = [one.get("text") if isinstance(one, dict) else one for one in parts]
    return "".join(one for one in texts if isinstance(one, str))
