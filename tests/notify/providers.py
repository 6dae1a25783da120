"""A fake of every provider of notification channels on loopback, with the wire format of each, and a mail server.

Formats: Telegram's Bot API (getMe, sendMessage, getUpdates and what belongs to it), incoming webhooks of Slack and
Discord, workflow webhooks of Teams, a push service (RFC 8030, 8291, 8292) and SMTP. `faults` are answered first.
"""

import base64
import html
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

TOKEN = "1234567890:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"
CHAT = 1001
PATHS = {
    "slack": "/services/T0001/B0001/SlackSecretXyz1",
    "teams": "/workflows/0123456789abcdef/triggers/manual/paths/invoke?sig=TeamsSecret12",
    "discord": "/api/webhooks/99887766/DiscordSecret-34",
    "webhook": "/hook/WebhookSecret56",
    "push": "/fcm/send/PushSecret:78",
}


class Browser:
    """A browser's push subscription, which decrypts what it gets."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.auth = bytes(range(16))

    def subscription(self, url: str) -> str:
        """What the page posts."""
        keys = {"p256dh": _b64(self.point), "auth": _b64(self.auth)}
        return json.dumps({"endpoint": url, "expirationTime": None, "keys": keys})

    def decrypt(self, body: bytes) -> bytes:
        """One record of aes128gcm."""
        salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
        point, sealed = body[21 : 21 + length], body[21 + length :]
        assert len(body) <= size <= 4096
        shared = self.key.exchange(
            ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        )
        secret = _hkdf(self.auth, shared, b"WebPush: info\0" + self.point + point, 32)
        key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
        plain = AESGCM(key).decrypt(_hkdf(salt, secret, b"Content-Encoding: nonce\0", 12), sealed, None)
        assert plain.rstrip(b"\0").endswith(b"\x02")
        return plain.rstrip(b"\0")[:-1]


@dataclass
class Fault:
    """One answer in place of the usual: `status` 0 closes the connection without one."""

    status: int
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Providers:
    """What arrived, and how they misbehave."""

    port: int = 0
    came: list[tuple[str, Any]] = field(default_factory=list)
    """(channel, JSON), in the order of arrival; only what was taken."""
    tries: list[str] = field(default_factory=list)
    """The channel of every request."""
    faults: list[Fault] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Channel -> how long it takes to answer."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the last request."""
    browser: Browser = field(default_factory=Browser)
    updates: list[dict[str, Any]] = field(default_factory=list)
    """Of the bot, which nobody has confirmed."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """(method, parameters) of every call of the Bot API that is about updates or the menu."""
    webhook: dict[str, Any] = field(default_factory=dict)
    """As setWebhook set it."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, channel: str) -> str:
        """An address on the channel."""
        if channel == "telegram":
            return str(CHAT)
        url = self.url + PATHS[channel]
        return self.browser.subscription(url) if channel == "push" else url


@contextmanager
def providers() -> Iterator[Providers]:
    """Run all of them."""
    state = Providers()

    class Handler(_Handler):
        one = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    one: Providers
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        channel = next((name for name, known in PATHS.items() if known in (self.path, path)), "")
        if path.startswith("/bot"):
            channel = "telegram"
        with self.one.lock:
            self.one.tries.append(channel)
            self.one.headers = {name.lower(): value for name, value in self.headers.items()}
            fault = self.one.faults.pop(0) if self.one.faults else None
        time.sleep(self.one.seconds.get(channel, 0))
        if fault is not None:
            if not fault.status:
                self.close_connection = True
                return
            self._answer(fault.status, fault.body, fault.headers)
            return
        if not channel:
            self._answer(404, "no_service")
            return
        getattr(self, f"_{channel}")(body, path)

    def _take(self, channel: str, value: Any) -> None:
        with self.one.lock:
            self.one.came.append((channel, value))

    def _answer(self, status: int, body: Any = "", headers: dict[str, str] | None = None) -> None:
        as_json = not isinstance(body, str)
        raw = (json.dumps(body) if as_json else body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json" if as_json else "text/plain")
        if status != 204:
            self.send_header("content-length", str(len(raw)))
        self.end_headers()
        if status != 204:
            self.wfile.write(raw)

    def _telegram(self, body: bytes, path: str) -> None:
        token, _, method = path.removeprefix("/bot").partition("/")
        if token != TOKEN:
            self._refuse(401, "Unauthorized")
        elif method == "getMe":
            self._answer(200, {"ok": True, "result": _bot()})
        elif method == "sendMessage":
            self._send_message(_parameters(self.headers["content-type"], body))
        elif method in ("getUpdates", "setMyCommands", "setWebhook", "deleteWebhook"):
            sent = _parameters(self.headers["content-type"] or "", body)
            with self.one.lock:
                self.one.asked.append((method, sent))
            getattr(self, f"_{method}")(sent)
        else:
            self._refuse(404, "Not Found")

    def _getUpdates(self, sent: dict[str, Any]) -> None:
        """Confirm what lies before `offset`; wait up to `timeout` seconds for an update."""
        if self.one.webhook.get("url"):
            self._refuse(409, "Conflict: can't use getUpdates method while webhook is active")
            return
        offset, ends = int(sent.get("offset", 0)), time.monotonic() + float(sent.get("timeout", 0))
        allowed = _value(sent.get("allowed_updates", []))
        with self.one.lock:
            self.one.updates = [one for one in self.one.updates if one["update_id"] >= offset]
        while True:
            with self.one.lock:
                found = [one for one in self.one.updates if not allowed or set(allowed) & set(one)]
            if found or time.monotonic() >= ends:
                break
            time.sleep(0.02)
        self._answer(200, {"ok": True, "result": found[: int(sent.get("limit", 100))]})

    def _setMyCommands(self, sent: dict[str, Any]) -> None:
        listed = _value(sent["commands"])
        wrong = not 1 <= len(listed) <= 100 or any(
            not re.fullmatch("[a-z0-9_]{1,32}", one["command"]) or not 1 <= len(one["description"]) <= 256
            for one in listed
        )
        if wrong:
            self._refuse(400, "Bad Request: BOT_COMMAND_INVALID")
        else:
            self._answer(200, {"ok": True, "result": True})

    def _setWebhook(self, sent: dict[str, Any]) -> None:
        if not str(sent.get("url", "")).startswith("https://"):
            self._refuse(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        elif not re.fullmatch("[A-Za-z0-9_-]{1,256}", sent.get("secret_token", "x")):
            self._refuse(400, "Bad Request: secret token contains unallowed characters")
        else:
            self.one.webhook = sent
            self._answer(200, {"ok": True, "result": True, "description": "Webhook was set"})

    def _deleteWebhook(self, sent: dict[str, Any]) -> None:
        self.one.webhook = {}
        self._answer(200, {"ok": True, "result": True, "description": "Webhook was deleted"})

    def _refuse(self, status: int, description: str) -> None:
        self._answer(status, {"ok": False, "error_code": status, "description": description})

    def _send_message(self, sent: dict[str, Any]) -> None:
        if str(sent.get("chat_id")) != str(CHAT):
            self._refuse(400, "Bad Request: chat not found")
        elif not sent.get("text"):
            self._refuse(400, "Bad Request: message text is empty")
        elif len(html.unescape(re.sub(r"<[^>]*>", "", sent["text"]))) > 4096:  # marks of HTML do not count
            self._refuse(400, "Bad Request: message is too long")
        else:
            self._take("telegram", sent)
            chat = {"id": CHAT, "type": "private", "first_name": "Ann"}
            result = {
                "message_id": len(self.one.came), "date": 1777636800, "chat": chat, "from": _bot(),
                "text": sent["text"],
            }  # fmt: skip
            self._answer(200, {"ok": True, "result": result})

    def _slack(self, body: bytes, path: str) -> None:
        value = _json(body)
        if not isinstance(value, dict):
            self._answer(400, "invalid_payload")
        elif not value.get("text") and not value.get("blocks"):
            self._answer(400, "no_text")
        elif any(len(one.get("text", {}).get("text", "")) > 3000 for one in value.get("blocks", [])):
            self._answer(400, "invalid_blocks")
        else:
            self._take("slack", value)
            self._answer(200, "ok")

    def _teams(self, body: bytes, path: str) -> None:
        value = _json(body)
        cards = [one["content"] for one in (value or {}).get("attachments", [])]
        if len(body) > 28_000 or not cards or any(one["type"] != "AdaptiveCard" for one in cards):
            self._answer(400, {"error": {"code": "TriggerInputSchemaMismatch"}})
        else:
            self._take("teams", value)
            self._answer(202)

    def _discord(self, body: bytes, path: str) -> None:
        value = _json(body) or {}
        if len(value.get("content", "")) > 2000:
            self._answer(400, {"code": 50035, "message": "Invalid Form Body"})
        elif not value.get("content") and not value.get("embeds"):
            self._answer(400, {"code": 50006, "message": "Cannot send an empty message"})
        else:
            self._take("discord", value)
            self._answer(204)

    def _webhook(self, body: bytes, path: str) -> None:
        self._take("webhook", _json(body))
        self._answer(200)

    def _push(self, body: bytes, path: str) -> None:
        if self.headers["content-encoding"] != "aes128gcm" or not (self.headers["ttl"] or "").isdecimal():
            self._answer(400, "bad headers")
        elif not _vapid_is_valid(self.headers["authorization"] or "", self.one.url):
            self._answer(403, "invalid VAPID")
        else:
            self._take("push", json.loads(self.one.browser.decrypt(body)))
            self._answer(201, "", {"location": f"{self.one.url}/message/1"})

    def log_message(self, format: str, *args: Any) -> None:
        return


def rate_limited(channel: str, seconds: int) -> Fault:
    """The 429 of a provider."""
    if channel == "telegram":
        text = f"Too Many Requests: retry after {seconds}"
        body = {"ok": False, "error_code": 429, "description": text, "parameters": {"retry_after": seconds}}
        return Fault(429, body)
    if channel == "discord":
        body = {"message": "You are being rate limited.", "retry_after": float(seconds), "global": False}
        # Without Via the answer would be Cloudflare's, which bans a sender: discord.py tries no more then.
        return Fault(429, body, {"via": "1.1 google", "retry-after": str(seconds)})
    return Fault(429, "rate_limited", {"retry-after": str(seconds)})


def gone(channel: str) -> Fault:
    """The answer of a provider for an address that is no more."""
    return {
        "telegram": Fault(
            403, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"}
        ),
        "slack": Fault(404, "no_service"),
        "teams": Fault(404, {"error": {"code": "WorkflowNotFound"}}),
        "discord": Fault(404, {"code": 10015, "message": "Unknown Webhook"}),
        "push": Fault(410, "push subscription has unsubscribed or expired."),
        "webhook": Fault(410, "gone"),
    }[channel]


def _bot() -> dict[str, Any]:
    return {
        "id": 1234567890, "is_bot": True, "first_name": "Maxxit", "username": "maxxit_bot",
        "can_join_groups": True, "can_read_all_group_messages": False, "supports_inline_queries": False,
    }  # fmt: skip


def _parameters(content_type: str, body: bytes) -> dict[str, Any]:
    """Telegram takes JSON and forms."""
    if content_type.startswith("application/json"):
        return dict(json.loads(body))
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def _value(value: Any) -> Any:
    """A list of a form is JSON."""
    return json.loads(value) if isinstance(value, str) else value


def telegram_update(number: int, text: str, chat: int = CHAT, **fields: Any) -> dict[str, Any]:
    """An update with a text message, of a person in their private chat; `fields` are those of the message."""
    person = {"id": chat, "is_bot": False, "first_name": "Ann"}
    message = {
        "message_id": number, "from": person, "chat": {"id": chat, "type": "private", "first_name": "Ann"},
        "date": int(time.time()), "text": text,
    }  # fmt: skip
    if text.startswith("/"):
        message["entities"] = [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}]
    return {"update_id": number, "message": message | fields}


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _vapid_is_valid(header: str, origin: str) -> bool:
    parts = dict(part.strip().split("=", 1) for part in header.removeprefix("vapid ").split(","))
    head, claims, signature = parts["t"].split(".")
    point, raw = _bytes(parts["k"]), _bytes(signature)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    said = json.loads(_bytes(claims))
    return json.loads(_bytes(head))["alg"] == "ES256" and said["aud"] == origin and bool(said["sub"])


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


# --- mail ------------------------------------------------------------------------------------------------------------


class MailServer:
    """What arrived, and what it answers to RCPT and DATA instead of 250."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuses: dict[str, str] = {}
        """RCPT or DATA -> SMTP answer."""
        self.port = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if said := self.refuses.get("RCPT"):
            return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if said := self.refuses.get("DATA"):
            return said
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """A real SMTP server (aiosmtpd) on loopback."""
    one = MailServer()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        one.port = free.getsockname()[1]
    controller = Controller(one, hostname="127.0.0.1", port=one.port)
    controller.start()
    try:
        yield one
    finally:
        controller.stop()
