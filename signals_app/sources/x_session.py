"""Post source for X by the interface of its web pages, with sessions of the operator's own accounts. Opt-in.

    xweb: {adapter: x_session, accounts_file: accounts/x-accounts.txt, client_file: accounts/x-client.json}

**X's terms forbid this, and X may suspend the accounts** (docs/sources.md#x-by-session). It costs nothing per post,
so it is read every few minutes: one request after another for each session, within limits lower than X's own.

`accounts_file` has one session a line, and is read again when it changes. A line that is none is refused by file and
line, among the rejected posts of the admin and in the log; the others are used:

    NAME auth_token=… ct0=… [proxy=http://user:password@host:port] [proxy_expires=2026-12-01T00:00:00Z]

`client_file` is what the operator's own browser sends, which X changes every few weeks: {"bearer": "…", "operations":
{"UserByScreenName": "ID", "UserTweets": "ID", "SearchTimeline": "ID"}, "features": {…}}.

Users are divided among the sessions. A session that X limits rests until X's reset, one that fails rests 10 s, then
twice as long each time up to 15 minutes; the next one reads its users meanwhile. A session that X refuses is not used
again until its line changes. Nothing here logs in, solves a challenge or passes for another program.
"""

import json
import re
import stat
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import structlog
from django.core.cache import cache
from pydantic import BaseModel, Field, ValidationError

from maxxit.core import clock, egress, http, redact, untrusted
from maxxit.core.config import ROOT
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app.sources.base import Cursor, RawPost, Refused, SourcePaused
from signals_app.sources.x_items import checked_queries, number, post_of

log = structlog.get_logger(__name__)
BASE, HOST = "https://x.com", "x.com"
PAGE, MAX_PAGES = 100, 20
"""Posts that a page is asked for, and pages of one fetch: X often gives fewer."""
WINDOW = 900
"""Seconds of X's rate limits."""
FIRST_REST, LONGEST_REST = 10, 900
"""Seconds for which a session rests after a failure, and at most after several."""
BEFORE_EXPIRY = timedelta(seconds=15)
"""How long before its end a proxy is no longer used."""
DAY = 86_400
REFUSALS = {32, 64, 141, 215, 326}
"""X's codes of a session that is logged out, suspended or locked."""
LIMITED, NOT_NULL = 88, 336
COOKIE = re.compile(r"[A-Za-z0-9%_-]{16,300}")
CREATED = "%a %b %d %H:%M:%S %z %Y"


@dataclass(frozen=True, slots=True)
class Session:
    """A line of the accounts file."""

    name: str
    auth_token: str
    ct0: str
    proxy: str = ""
    proxy_expires: datetime | None = None

    @property
    def key(self) -> str:
        """What names it in the cache: a line that changes is another session."""
        return sha256("\0".join((self.name, self.auth_token, self.ct0, self.proxy)).encode()).hexdigest()[:16]

    @property
    def expired(self) -> bool:
        """Whether its proxy has ended, or is about to."""
        return self.proxy_expires is not None and clock.now() >= self.proxy_expires - BEFORE_EXPIRY


class Client(BaseModel):
    """The client file."""

    bearer: str = Field(pattern=r"^[A-Za-z0-9%_=-]{20,300}$")
    operations: dict[str, str]
    features: dict[str, bool] = {}
    user_agent: str = Field(default="maxxit", pattern=r"^[ -~]{1,300}$")


@dataclass(eq=False)
class Line:
    """A session with what its requests are sent by."""

    session: Session
    client: Client
    http: http.Client
    busy: threading.Lock
    """Held during a request: a session sends one after another, also while its line is replaced."""
    replaced: bool = False

    def replace(self) -> None:
        """Close its connections once its request has ended; a request that waits for it uses another session."""
        with self.busy:
            self.replaced = True
            self.http.close()


class XSessionSource:
    """Reads posts of users, or those that match a query; `fetch` may be called by several threads at once."""

    unmetered = True

    def __init__(
        self,
        *,
        accounts_file: str,
        client_file: str,
        queries: Mapping[str, str] | None = None,
        posts_per_user: int = 200,
        requests_per_window: int = 40,
        concurrency: int = 2,
        base_url: str = BASE,
        rules: egress.Rules | None = None,
    ) -> None:
        """Args: posts_per_user: of one fetch, at most. requests_per_window: of one session in 15 minutes."""
        self.queries = checked_queries("x_session", queries)
        for option, value, most in (
            ("posts_per_user", posts_per_user, 1_000),
            ("requests_per_window", requests_per_window, 500),
            ("concurrency", concurrency, 16),
        ):
            if not isinstance(value, int) or not 1 <= value <= most:
                raise _misconfigured(f"{option} {value!r} is not a whole number from 1 to {most}")
        try:
            egress.parse(base_url, rules or egress.Rules(hosts=(HOST,)))  # cookies go to X alone
        except Rejected as error:
            raise _misconfigured(f"base_url: {error}") from None
        self.posts_per_user, self.requests_per_window = posts_per_user, requests_per_window
        self.concurrency = concurrency
        self._base_url = base_url
        self._accounts, self._client_file = (ROOT / file for file in (accounts_file, client_file))
        self._read_at: tuple[int, ...] = ()
        self._lines: tuple[Line, ...] = ()
        """Replaced as a whole when a file changes, so that a fetch under way sees the old or the new ones."""
        self._lock = threading.Lock()
        self._unread: dict[str, str] = {}
        self._refused: deque[Refused] = deque(maxlen=1_000)
        self._load()

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Fetch the posts after `cursor.since_id` (and before `cursor.until_id`), oldest first.

        At most `posts_per_user`, the newest first; `unread_below` tells where it stopped above the cursor.
        """
        self._load()
        name = username.lower()
        self._unread.pop(name, None)
        search = self.queries.get(name)
        user_id = "" if search else self._user_id(name)
        found: dict[str, RawPost] = {}
        token = str(cache.get(self._next_key(name), "")) if cursor.until_id else ""
        reached, ids = False, list[str]()
        for _ in range(MAX_PAGES):
            items, token = self._page(name, user_id, search, token)
            for item in items:
                if not (user_id and item.author_id != user_id):
                    self._take(username, item, found, cursor)
            ids = [item.post_id for item in items if not item.pinned]
            reached = bool(cursor.since_id) and any(number(one) <= number(cursor.since_id) for one in ids)
            if reached or not token or not ids or len(found) >= self.posts_per_user:
                break
        posts = sorted(found.values(), key=lambda post: number(post.post_id))
        if not cursor.since_id:
            return posts[-self.posts_per_user :]
        if token and ids and not reached:
            self._unread[name] = posts[0].post_id if posts else cursor.until_id
            cache.set(self._next_key(name), token, timeout=DAY)
            log.warning("posts_unread", provider="x_session", account=username, read=len(posts))
        return posts

    def unread_below(self, username: str) -> str:
        """Return the oldest id of the last `fetch` if it stopped above the cursor; empty otherwise."""
        return self._unread.get(username.lower(), "")

    def refused(self) -> Iterable[Refused]:
        """Return the items that were no post since the last call."""
        while self._refused:
            yield self._refused.popleft()

    def _take(self, username: str, raw: "_Raw", found: dict[str, RawPost], cursor: Cursor) -> None:
        """Add a post to those that were found, or refuse it."""
        post_id = raw.post_id
        if cursor.since_id and number(post_id) <= number(cursor.since_id):
            return
        if cursor.until_id and number(post_id) >= number(cursor.until_id):
            return
        author = raw.author or ("" if username.lower() in self.queries else username)
        post = post_of(raw.fields, username, lambda item: author, provider="x_session")
        if isinstance(post, Refused):
            self._refused.append(post)
        else:
            found.setdefault(post.post_id, post)

    # -- X's answers

    def _page(self, name: str, user_id: str, search: str | None, token: str) -> tuple[list["_Raw"], str]:
        """Fetch one page of a timeline: its posts, and the token of the next page."""
        variables: dict[str, Any] = {"count": PAGE} | ({"cursor": token} if token else {})
        if search:
            query = {"rawQuery": search, "querySource": "typed_query", "product": "Latest"}
            body = self._ask(name, "SearchTimeline", variables | query)
            timeline = _at(body, "data", "search_by_raw_query", "search_timeline", "timeline")
        else:
            body = self._ask(
                name, "UserTweets", variables | {"userId": user_id, "includePromotedContent": False}
            )
            user = _at(body, "data", "user", "result")
            timeline = _at(user, "timeline_v2", "timeline") or _at(user, "timeline", "timeline")
        instructions = timeline.get("instructions") if isinstance(timeline, dict) else None
        if not isinstance(instructions, list):
            raise Retryable(
                f"x_session: the answer for {name} has no timeline: X changed its format, or an error"
            )
        return read_timeline(instructions)

    def _user_id(self, name: str) -> str:
        key = f"x:user:{name}"
        if user_id := cache.get(key):
            return str(user_id)
        body = self._ask(name, "UserByScreenName", {"screen_name": name})
        user = _at(body, "data", "user", "result")
        if not isinstance(user, dict):
            raise Rejected(f"x_session: X knows no @{name}", code="unknown_account")
        if user.get("__typename") == "UserUnavailable":
            why = redact.text(str(user.get("message") or user.get("reason") or ""))[:200]
            raise Rejected(f"x_session: @{name} cannot be read: {why}", code="unknown_account")
        user_id = user.get("rest_id")
        if not isinstance(user_id, str) or not user_id.isdecimal():
            raise Retryable(f"x_session: the answer for @{name} has no id")
        cache.set(key, user_id, timeout=30 * DAY)
        return user_id

    def _ask(self, name: str, operation: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Ask X with the session of this user, or with the next one where that rests; SourcePaused if none can."""
        failed: Retryable | None = None
        for line in self._in_order(name):
            with line.busy:
                if line.replaced or self._rests(line.session):
                    continue
                try:
                    return self._request(line, operation, variables)
                except Retryable as error:
                    failed = error
        if failed is not None:
            raise failed
        raise SourcePaused(f"x_session: no session can be used now ({'; '.join(self._states())})")

    def _request(self, line: "Line", operation: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request. Raises Retryable once the session rests, Rejected where no session would be answered."""
        session = line.session
        self._count(session)
        query = {
            "variables": json.dumps(variables, separators=(",", ":")),
            "features": json.dumps(line.client.features, separators=(",", ":")),
        }
        path = f"/i/api/graphql/{line.client.operations[operation]}/{operation}"
        try:
            response = http.fetch(line.http, "GET", path, params=query, max_seconds=30)
            body = untrusted.loads(response.content)
        except Retryable as error:
            self._fail(session, error.after if error.limited else None, limited=error.limited)
            raise Retryable(f"x_session: {redact.text(str(error))}") from None
        except Rejected as error:
            raise self._refusal(session, operation, error) from None
        except ValueError:
            self._fail(session)
            raise Retryable("x_session: the answer is not JSON") from None
        if response.headers.get("x-rate-limit-remaining") == "0":
            self._rest(session, http.retry_after(response) or WINDOW, "X's rate limit is used up")
        if not isinstance(body, dict):
            self._fail(session)
            raise Retryable("x_session: the answer is no JSON object")
        self._check_errors(session, body)
        cache.delete(self._key(session, "failures"))
        return body

    def _refusal(self, session: Session, operation: str, error: Rejected) -> Exception:
        if error.code in {"http_401", "http_403"}:
            self._give_up(session, f"X answers {error.code.removeprefix('http_')}")
            return Retryable(f"x_session: X refuses the session {session.name}")
        if error.code in {"http_404", "http_400", "http_422"}:
            return Rejected(
                f"x_session: X does not answer {operation} as {self._client_file.name} asks for it ({error.code}): "
                "copy operations and features anew from your browser. Where X wants a transaction id it cannot be read",
                code="outdated",
            )
        self._fail(session)
        return Retryable(f"x_session: {redact.text(str(error))}")

    def _check_errors(self, session: Session, body: Mapping[str, Any]) -> None:
        """Raise for an answer that holds errors instead of data."""
        errors = [one for one in body.get("errors") or [] if isinstance(one, dict)]
        codes = {one.get("code") for one in errors}
        text = redact.text("; ".join(str(one.get("message", "")) for one in errors))[:200]
        if codes & REFUSALS:
            self._give_up(session, text)
            raise Retryable(f"x_session: X refuses the session {session.name}: {text}")
        if LIMITED in codes:
            self._rest(session, WINDOW, "X's rate limit is used up")
            raise Retryable(f"x_session: {text}")
        if NOT_NULL in codes:
            raise Rejected(f"x_session: {self._client_file.name}: add `features`: {text}", code="outdated")
        if errors and not body.get("data"):
            self._fail(session)
            raise Retryable(f"x_session: {text}")

    # -- sessions

    def _in_order(self, name: str) -> tuple["Line", ...]:
        """Return the sessions, the one of this user first."""
        lines = self._lines
        first = crc32(name.encode()) % len(lines)
        return lines[first:] + lines[:first]

    def _rests(self, session: Session) -> str:
        """Return why a session is not used now; empty when it is."""
        if session.expired:
            return "its proxy has ended: write a new one into the accounts file"
        if why := cache.get(self._key(session, "rests")):
            return str(why)
        used = int(cache.get(self._key(session, "used"), 0))
        return f"{used} requests in 15 minutes" if used >= self.requests_per_window else ""

    def _states(self) -> list[str]:
        sessions = [line.session for line in self._lines]
        return [f"{session.name}: {self._rests(session) or 'usable'}" for session in sessions]

    def _count(self, session: Session) -> None:
        key = self._key(session, "used")
        cache.add(key, 0, timeout=WINDOW)
        cache.incr(key)

    def _fail(self, session: Session, after: float | None = None, *, limited: bool = False) -> None:
        """Let a session rest: as long as X says, else longer with each failure in a row."""
        key = self._key(session, "failures")
        cache.add(key, 0, timeout=DAY)
        doubled = FIRST_REST * 2 ** min(cache.incr(key) - 1, 10)
        seconds = after or (WINDOW if limited else min(doubled, LONGEST_REST))
        self._rest(session, seconds, "X's rate limit is used up" if limited else "it failed")

    def _rest(self, session: Session, seconds: float, why: str) -> None:
        until = clock.now() + timedelta(seconds=seconds)
        text = f"{why}, until {until:%H:%M:%S} UTC"
        cache.set(self._key(session, "rests"), text, timeout=max(1, round(min(seconds, DAY))))

    def _give_up(self, session: Session, why: str) -> None:
        log.error("x_session_refused", session=session.name, error=why)
        text = (
            f"X refuses it ({why}): log in with your browser and write its new cookies into the accounts file"
        )
        cache.set(self._key(session, "rests"), text, timeout=30 * DAY)

    def _key(self, session: Session, what: str) -> str:
        return f"x:session:{session.key}:{what}"

    def _next_key(self, name: str) -> str:
        return f"x:session:next:{name}"

    def _load(self) -> None:
        """Read both files if they have changed. Raises Misconfigured."""
        with self._lock:
            read_at = tuple(_stamp(file) for file in (self._accounts, self._client_file))
            if read_at == self._read_at:
                return
            client, (sessions, refused) = _client(self._client_file), _sessions(self._accounts)
            for one in refused:
                log.error("x_session_line_refused", place=one.place, error=one.reason)
            self._refused.extend(refused)
            before, locks = self._lines, {line.session.key: line.busy for line in self._lines}
            self._lines = tuple(
                Line(one, client, _http(self._base_url, one, client), locks.get(one.key) or threading.Lock())
                for one in sessions
            )
            self._read_at = read_at
        for line in before:
            line.replace()


@dataclass(frozen=True, slots=True)
class _Raw:
    """A post of a timeline, in the fields of X's API v2."""

    post_id: str
    author_id: str
    author: str
    fields: dict[str, Any]
    pinned: bool


def read_timeline(instructions: Iterable[Any]) -> tuple[list[_Raw], str]:
    """Return the posts of a timeline, without advertisements, and the token of its next page (empty at the end)."""
    found: list[_Raw] = []
    token = ""
    for instruction in instructions:
        if not isinstance(instruction, dict):
            continue
        pinned = instruction.get("type") == "TimelinePinEntry"
        entries = [instruction.get("entry"), *_list(instruction.get("entries"))]
        for content in (_at(entry, "content") for entry in entries):
            if _at(content, "cursorType") == "Bottom":
                token = str(_at(content, "value") or "")
            parts = [content, *(_at(one, "item") for one in _list(_at(content, "items")))]
            found += [raw for part in parts if (raw := _raw(_at(part, "itemContent"), pinned=pinned))]
    return found, token


def _raw(content: Any, *, pinned: bool) -> _Raw | None:
    """Return the post of an entry; None for an advertisement, and for what is no post or is withheld."""
    if not isinstance(content, dict) or content.get("promotedMetadata"):
        return None
    result = _at(content, "tweet_results", "result")
    result = _at(result, "tweet") or result  # of limited visibility
    legacy = _at(result, "legacy")
    if not isinstance(legacy, dict):
        return None
    user = _at(result, "core", "user_results", "result")
    name = _at(user, "core", "screen_name") or _at(user, "legacy", "screen_name")
    note = _at(result, "note_tweet", "note_tweet_results", "result", "text")
    fields = {
        "id": _at(result, "rest_id"),
        "text": legacy.get("full_text"),
        "created_at": _iso(legacy.get("created_at")),
        "author_id": str(legacy.get("user_id_str") or ""),
        "public_metrics": {
            "like_count": legacy.get("favorite_count"),
            "retweet_count": legacy.get("retweet_count"),
            "reply_count": legacy.get("reply_count"),
            "quote_count": legacy.get("quote_count"),
        },
        **({"note_tweet": {"text": note}} if note else {}),
    }
    post_id = fields["id"] if isinstance(fields["id"], str) else ""
    author = name if isinstance(name, str) and re.fullmatch(r"\w{1,15}", name, re.ASCII) else ""
    return _Raw(post_id, str(fields["author_id"]), author, fields, pinned)


def _iso(created: Any) -> Any:
    """Return X's own form of a time as ISO 8601; anything else as it is, to be refused."""
    try:
        return datetime.strptime(str(created), CREATED).isoformat()  # noqa: DTZ007 (CREATED has a zone)
    except ValueError:
        return created


def _at(value: Any, *names: str) -> Any:
    """Return what nested objects hold under these names; None where one is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- the files


def _http(base_url: str, session: Session, client: Client) -> http.Client:
    return http.client(
        base_url,
        headers={
            "authorization": f"Bearer {client.bearer}",
            "cookie": f"auth_token={session.auth_token}; ct0={session.ct0}",
            "x-csrf-token": session.ct0,
            "x-twitter-auth-type": "OAuth2Session",
            "x-twitter-active-user": "yes",
            "user-agent": client.user_agent,
        },
        trust_env=not session.proxy,
        proxy=session.proxy or None,
    )


def _misconfigured(why: str) -> Misconfigured:
    return Misconfigured(f"post source x_session (config/signals.yaml): {why}")


def _stamp(file: Path) -> int:
    try:
        found = file.stat()
    except OSError as error:
        raise _misconfigured(f"{file}: {error.strerror}") from None
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise _misconfigured(f"{file} holds secrets that others may read: chmod 600 {file}")
    return found.st_mtime_ns


def _client(file: Path) -> Client:
    try:
        client = Client.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise _misconfigured(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name in ("UserByScreenName", "UserTweets", "SearchTimeline"):
        if not re.fullmatch(r"[A-Za-z0-9_-]{8,60}", client.operations.get(name, "")):
            raise _misconfigured(f"{file}: operations.{name}: give its id from the requests of your browser")
    redact.know(client.bearer)
    return client


def _sessions(file: Path) -> tuple[list[Session], list[Refused]]:
    """Return the sessions, and the lines that are none. Raises Misconfigured where no session is left."""
    sessions: dict[str, Session] = {}
    refused: list[Refused] = []
    for at, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
        if not line.strip() or line.lstrip()[0] == "#":
            continue
        try:
            session = _session(line.split())
            if session.name in sessions:
                raise ValueError(f"the name {session.name!r} has an earlier line: each session needs its own")
        except ValueError as error:
            refused.append(Refused(f"{file}:{at}", str(error), ""))
        else:
            sessions[session.name] = session
    if not sessions:
        why = "; ".join(f"{one.place}: {one.reason}" for one in refused[:3])
        raise _misconfigured(why or f"{file} has no session: NAME auth_token=… ct0=…")
    return list(sessions.values()), refused


def _session(words: list[str]) -> Session:
    """Return the session of a line. Raises ValueError, which quotes none of its values: they are secrets."""
    name, fields = words[0], dict(word.partition("=")[::2] for word in words[1:])
    if unknown := sorted(set(fields) - {"auth_token", "ct0", "proxy", "proxy_expires"}):
        raise ValueError(f"unknown field {unknown[0][:20]!r}: give auth_token, ct0, proxy and proxy_expires")
    for field in ("auth_token", "ct0"):
        if not COOKIE.fullmatch(fields.get(field, "")):
            raise ValueError(f"{field} is not the value of that cookie of your browser")
        redact.know(fields[field])
    proxy = fields.get("proxy", "")
    if proxy:
        redact.know(proxy)
        _check_proxy(proxy)
    try:
        expires = datetime.fromisoformat(fields["proxy_expires"]) if "proxy_expires" in fields else None
    except ValueError:
        raise ValueError("proxy_expires is no time such as 2026-12-01T00:00:00Z") from None
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return Session(name, fields["auth_token"], fields["ct0"], proxy, expires)


def _check_proxy(proxy: str) -> None:
    try:
        parts = urlsplit(proxy)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port
    except ValueError:
        valid = None
    if not valid:
        raise ValueError("proxy is not of the form http://user:password@host:port")
