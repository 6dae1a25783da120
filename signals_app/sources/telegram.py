"""Post source for Telegram channels, read by a bot of ours that is their administrator.

    telegram: {adapter: telegram, channels: {alpha: -1001234567890, beta: "@beta_calls"}}

The Bot API is at https://core.telegram.org/bots/api#getupdates; `token_env` names the variable of the token.
The bot reads every channel at once: each update is stored (`signals_app.inbound`) before the next request confirms it,
because Telegram forgets what was confirmed. One token has one reader: Telegram answers 409 to a second one, so this bot
is not the one of the notification channel or the chat. Telegram keeps updates for 24 hours.

Refused: a channel post without a text or caption.
"""

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from maxxit.core import clock, http, redact, untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app import inbound
from signals_app.inbound import Arrived
from signals_app.sources.base import Cursor, RawPost, Refused, check_names, unfit, web_link

API = "https://api.telegram.org"
PAGE, MAX_PAGES = 100, 20
"""Updates of one request (Telegram's maximum), and requests of one pass."""
EVERY_SECONDS = 5.0
"""How often Telegram is asked, whatever the number of channels."""
KINDS = ("channel_post", "edited_channel_post")


class _Chat(BaseModel):
    id: int
    username: str = ""


class _Message(BaseModel):
    message_id: int = Field(ge=0)
    date: int = Field(ge=0, lt=2**40)
    chat: _Chat
    text: str = ""
    caption: str = ""


class TelegramSource:
    """Reads the posts of channels by the Bot API."""

    unmetered = True
    concurrency = 2
    """In threads, so that a slow answer delays no other source."""

    def __init__(
        self,
        *,
        name: str,
        channels: Mapping[str, int | str],
        token_env: str = "TELEGRAM_SOURCE_TOKEN",  # noqa: S107 (the name of a variable)
        base_url: str = "",
    ) -> None:
        check_names("channel", channels)
        if not (token := variable(token_env)):
            raise Misconfigured(
                f"source {name}: set {token_env}, or remove the source from config/signals.yaml"
            )
        redact.know(token)
        self.name = name
        self.channels = {str(chat).lower().removeprefix("@"): account for account, chat in channels.items()}
        """Chat id or public name -> account."""
        self._path = f"/bot{token}/getUpdates"
        self._http = http.client(base_url or API)
        self._refused: deque[Refused] = deque(maxlen=1_000)
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._error: Retryable | None = None

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Return the channel's posts that may not be stored yet, oldest first; an edit follows what it edits."""
        if username.lower() not in {account.lower() for account in self.channels.values()}:
            known = ", ".join(self.channels.values()) or "none"
            raise Rejected(
                f"no channel {username!r} in config/signals.yaml; known: {known}", code="unknown_account"
            )
        with self._lock:
            now = clock.now().timestamp()
            if now - self._asked_at >= EVERY_SECONDS or now < self._asked_at:
                self._asked_at, self._error = now, None
                try:
                    self._pull()
                except Retryable as error:
                    self._error = error
            if self._error:
                raise self._error
        return inbound.waiting(self.name, username)

    def refused(self) -> Iterable[Refused]:
        """Return the channel posts that were no post since the last call."""
        while self._refused:
            yield self._refused.popleft()

    def _pull(self) -> None:
        """Store every waiting update. A request for the updates from `offset` on confirms those before it."""
        offset: int | None = None
        for _ in range(MAX_PAGES):
            updates = self._updates(offset)
            arrived = [item for update in updates if (item := self._arrived(update))]
            inbound.keep(self.name, arrived)
            ids = [update["update_id"] for update in updates]
            if not ids:
                return
            offset = max(ids) + 1

    def _updates(self, offset: int | None) -> list[dict[str, Any]]:
        query: dict[str, Any] = {"limit": PAGE, "timeout": 0, "allowed_updates": list(KINDS)}
        if offset is not None:
            query["offset"] = offset
        try:
            answer = http.fetch(self._http, "POST", self._path, json=query, max_seconds=20)
            body = untrusted.loads(answer.content)
        except Rejected as error:
            raise Retryable(f"Telegram: {_advice(error)}") from None
        except Retryable as error:
            raise Retryable(
                f"Telegram: {redact.text(str(error))}", after=error.after, limited=error.limited
            ) from None
        except ValueError:
            raise Retryable("Telegram: the answer is not JSON") from None
        updates = body.get("result") if isinstance(body, dict) else None
        if not isinstance(updates, list):
            raise Retryable("Telegram: the answer has no list of updates")
        return [one for one in updates if isinstance(one, dict) and isinstance(one.get("update_id"), int)]

    def _arrived(self, update: Mapping[str, Any]) -> Arrived | None:
        """Return the item of an update; None for another chat, and for what is refused."""
        kind = next((kind for kind in KINDS if kind in update), "")
        if not kind:
            return None
        place = f"{self.name}:{update['update_id']}"
        try:
            message = _Message.model_validate(update[kind])
            posted_at = datetime.fromtimestamp(message.date, UTC)
        except (ValidationError, ValueError, OverflowError) as error:
            self._refuse(place, f"no channel post: date and text as the Bot API has them ({error})", update)
            return None
        account = self.channels.get(str(message.chat.id)) or self.channels.get(message.chat.username.lower())
        if account is None:
            return None
        text = message.text or message.caption
        chat = message.chat.username or f"c/{str(message.chat.id).removeprefix('-100')}"
        link = web_link(f"https://t.me/{chat}/{message.message_id}")
        post = RawPost(f"tg{message.chat.id}/{message.message_id}", account, text, posted_at, link=link)
        if why := unfit(post) or ("" if text.strip() else "the post has neither text nor caption"):
            self._refuse(place, why, update)
            return None
        return Arrived(str(update["update_id"]), post)

    def _refuse(self, place: str, why: str, update: Mapping[str, Any]) -> None:
        self._refused.append(Refused(place, redact.text(why)[:300], str(redact.value(dict(update)))[:2000]))


def _advice(error: Rejected) -> str:
    """Return what an operator does about a refusal; the token is part of every URL, so the answer is not quoted."""
    if error.code == "http_409":
        return "another program reads the updates of this bot, or it has a webhook: one token has one reader"
    if error.code in {"http_401", "http_404"}:
        return "the bot's token is refused: check the variable that `token_env` names"
    return f"getUpdates is refused ({error.code})"
