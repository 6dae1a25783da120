"""Telegram's Bot API as far as a channel's reader needs it: getUpdates, which forgets what an offset confirms."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "1234567890:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"
CHANNEL, OTHER = -1001234567890, -1009999999999
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class BotApi:
    """The updates that wait for the bot, and what it asked."""

    url: str = ""
    updates: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    next_id: int = 870_000_001
    answer: tuple[int, dict[str, Any]] | None = None
    """In place of the usual."""

    def says(
        self, ident: int, at: datetime, text: Any = None, *, kind: str = "channel_post", **more: Any
    ) -> None:
        """A post of the channel; without a text it is a picture."""
        post: dict[str, Any] = {
            "message_id": ident,
            "sender_chat": {"id": CHANNEL, "title": "Alpha", "type": "channel", "username": "alpha_calls"},
            "chat": {"id": CHANNEL, "title": "Alpha", "type": "channel", "username": "alpha_calls"},
            "date": int((at - EPOCH).total_seconds()),
        }
        if text is None:
            post["photo"] = [{"file_id": "A", "file_unique_id": "B", "width": 1, "height": 1}]
        else:
            post["text"] = text
        if kind.startswith("edited"):
            post["edit_date"] = post["date"] + 60
        self.updates.append({"update_id": self.next_id, kind: post | more})
        self.next_id += 1

    def get_updates(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(asked)
        offset = int(asked.get("offset") or 0)
        self.updates = [one for one in self.updates if one["update_id"] >= offset]
        kinds = asked.get("allowed_updates") or []
        kinds = json.loads(kinds) if isinstance(kinds, str) else kinds
        shown = [one for one in self.updates if not kinds or set(kinds) & set(one)]
        return {"ok": True, "result": shown[: int(asked.get("limit") or 100)]}


@contextmanager
def bot_api() -> Iterator[BotApi]:
    state = BotApi()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-type", "").startswith("application/json"):
                asked = json.loads(raw or b"{}")
            else:
                asked = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
            method = self.path.rpartition("/")[2]
            if self.path != f"/bot{TOKEN}/{method}":
                status, body = 401, {"ok": False, "error_code": 401, "description": "Unauthorized"}
            elif method == "getMe":
                bot = {"id": 1234567890, "is_bot": True, "first_name": "Reader", "username": "reader_bot"}
                status, body = 200, {"ok": True, "result": bot}
            else:
                status, body = state.answer or (200, state.get_updates(asked))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing: tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
