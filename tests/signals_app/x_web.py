"""A server on this machine that answers as X's web pages ask: GraphQL over GET with the cookies of a session."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from maxxit.core import egress
from signals_app.sources.x_session import XSessionSource

BEARER = "AAAAAAAAAAAAAAAAAAAAAtestbearer%3D"
OPERATIONS = {
    "UserByScreenName": "idOfUserByName",
    "UserTweets": "idOfUserTweets",
    "SearchTimeline": "idOfSearchTime",
}
Answer = tuple[int, dict[str, str], Any]


def cookies(name: str) -> tuple[str, str]:
    """The values of auth_token and ct0 of a session."""
    return f"auth{name}".ljust(40, "0"), f"csrf{name}".ljust(32, "1")


@dataclass
class XWeb:
    """Its users and their posts, and what was asked of it."""

    url: str = ""
    users: dict[str, str] = field(default_factory=dict)
    posts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """User id -> whole results, newest first."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(auth_token, operation) of each request."""
    answers: deque[Answer] = field(default_factory=deque)
    """Answers that go before the sensible one."""
    headers: dict[str, str] = field(default_factory=dict)
    page: int = 20
    """Posts of one page, whatever is asked for."""
    pinned: list[dict[str, Any]] = field(default_factory=list)

    def says(
        self, username: str, ident: str, at: datetime, text: Any = "buying $BTC", **fields: Any
    ) -> dict[str, Any]:
        """One more post of a user, the newest."""
        user = self.users.setdefault(username, str(2000 + len(self.users)))
        legacy = {
            "created_at": at.strftime("%a %b %d %H:%M:%S %z %Y"),
            "full_text": text,
            "favorite_count": 5,
            "retweet_count": 2,
            "reply_count": 1,
            "quote_count": 0,
            "user_id_str": user,
            "id_str": ident,
        }
        author = {"__typename": "User", "rest_id": user, "legacy": {"screen_name": username}}
        core = {"user_results": {"result": author}}
        result = {"__typename": "Tweet", "rest_id": ident, "core": core, "legacy": legacy | fields}
        self.posts.setdefault(user, []).insert(0, result)
        return result

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        """What goes over the wire."""
        operation = path.rpartition("/")[2]
        cookie = dict(part.partition("=")[::2] for part in headers.get("cookie", "").split("; "))
        self.asked.append((cookie.get("auth_token", ""), operation))
        if self.answers:
            return self.answers.popleft()
        if headers.get("authorization") != f"Bearer {BEARER}" or headers.get("x-csrf-token") != cookie.get(
            "ct0"
        ):
            return (
                403,
                {},
                {"errors": [{"code": 353, "message": "This request requires a matching csrf cookie"}]},
            )
        if path != f"/i/api/graphql/{OPERATIONS.get(operation)}/{operation}":
            return 404, {}, {}
        variables = json.loads(query["variables"])
        if operation == "UserByScreenName":
            user = self.users.get(variables["screen_name"])
            found = {"user": {"result": {"__typename": "User", "rest_id": user}}} if user else {}
            return 200, self.headers, {"data": found}
        if operation == "SearchTimeline":
            words = variables["rawQuery"].lower().split()
            items = [one for posts in self.posts.values() for one in posts]
            items = [
                one for one in items if all(word in str(one["legacy"]["full_text"]).lower() for word in words)
            ]
            items.sort(key=lambda one: int(one["rest_id"]), reverse=True)
            timeline = {"timeline": {"instructions": self._instructions(items, variables)}}
            return 200, self.headers, {"data": {"search_by_raw_query": {"search_timeline": timeline}}}
        items = self.posts.get(variables["userId"], [])
        pins = [{"type": "TimelinePinEntry", "entry": _entry(one)} for one in self.pinned]
        instructions = [*pins, *self._instructions(items, variables)]
        result = {"__typename": "User", "timeline_v2": {"timeline": {"instructions": instructions}}}
        return 200, self.headers, {"data": {"user": {"result": result}}}

    def _instructions(self, items: list[dict[str, Any]], variables: dict[str, Any]) -> list[dict[str, Any]]:
        start = int(variables.get("cursor", 0))
        page = items[start : start + min(self.page, variables["count"])]
        advertised = _entry(
            {"rest_id": "999", "legacy": {"full_text": "buy now"}}, promotedMetadata={"advertiser": 1}
        )
        entries = [*map(_entry, page), *([advertised] if page else [])]
        for kind, value in (("Top", "top"), ("Bottom", str(start + len(page)))):
            content = {"entryType": "TimelineTimelineCursor", "value": value, "cursorType": kind}
            entries.append({"entryId": f"cursor-{kind.lower()}-1", "content": content})
        return [{"type": "TimelineClearCache"}, {"type": "TimelineAddEntries", "entries": entries}]


def _entry(result: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"itemType": "TimelineTweet", "tweet_results": {"result": result}} | more
    entry = {"entryType": "TimelineTimelineItem", "itemContent": content}
    return {"entryId": f"tweet-{result['rest_id']}", "content": entry}


def write_files(folder: Path, *lines: str) -> dict[str, Any]:
    """Write both files of a source, with these lines or a session `a`; return the options that name them."""
    accounts, client = folder / "x-accounts.txt", folder / "x-client.json"
    accounts.write_text("\n".join(lines or (line("a"),)) + "\n")
    client.write_text(json.dumps({"bearer": BEARER, "operations": OPERATIONS, "features": {"a": True}}))
    for file in (accounts, client):
        file.chmod(0o600)
    return {"accounts_file": str(accounts), "client_file": str(client)}


def line(name: str, **fields: str) -> str:
    """A line of the accounts file."""
    auth_token, ct0 = cookies(name)
    values = {"auth_token": auth_token, "ct0": ct0} | fields
    return " ".join([name, *(f"{field}={value}" for field, value in values.items())])


def source(web: XWeb, folder: Path, *lines: str, **options: Any) -> XSessionSource:
    """A source that reads this server."""
    port = urlparse(web.url).port or 0
    rules = egress.Rules(schemes=("http",), ports=(port,), hosts=("127.0.0.1",))
    return XSessionSource(**write_files(folder, *lines), base_url=web.url, rules=rules, **options)


@contextmanager
def x_web() -> Iterator[XWeb]:
    """A running one, on a port of the kernel's choice."""
    web = XWeb()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlparse(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, answer = web.answer(url.path, query, headers)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **more}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
