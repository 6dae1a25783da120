"""SSRF-safe HTTP for untrusted URLs: fetches what people or documents name, and only from public addresses.

The name is resolved once, every address it has must be public, and the connection goes to the very address that was
checked (TLS still proves the name), so that a name which changes its address in between gains nothing. Each redirect
begins anew. No proxy, no cookies, no credentials. One time limit holds for all hops together, one size limit for the
bytes after decompression.

    page = fetch("https://example.org/paper.html")
    page.url, page.content_type, page.text()

Raises `Rejected` with a code for what will never be fetched (bad_address, private_address, too_many_redirects,
content_type, answer_too_large, http_404 …) and `Retryable` for what may work later.
"""

import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urljoin, urlsplit

import idna

from maxxit.core import http
from maxxit.core.errors import Rejected, Retryable

Address = IPv4Address | IPv6Address
DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_URL = 2000
"""Characters."""

_REFUSED = [
    ip_network(one)
    for one in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's own services, on an address that looks public
        *("64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2002::/16", "3fff::/20", "5f00::/16"),
    )
]
"""Beside what `is_global` knows, which differs by Python's patch release: carriers' NAT, relays, benchmarks, and all
IPv6 that only wraps an IPv4 address (NAT64, Teredo, 6to4)."""
_WORLD6 = ip_network("2000::/3")
"""All of IPv6 that was ever given out; mapped, compatible, unique-local and link-local addresses lie outside."""
_INWARD = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "arpa",
    "onion",
    "test",
    "invalid",
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"0x[0-9a-f]*|\d+")
_UNSEEN = re.compile(r"[\x00-\x20\x7f\\\s]")


def is_public(address: Address) -> bool:
    """Whether the whole world could call it."""
    if isinstance(address, IPv6Address) and (address not in _WORLD6 or address.scope_id):
        return False
    usual = address.is_global and not address.is_multicast and not address.is_reserved
    return usual and not any(address in net for net in _REFUSED if net.version == address.version)


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name. Raises OSError when it has none."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Rules:
    """What may be fetched, and how much of it."""

    schemes: tuple[str, ...] = ("https",)
    ports: tuple[int, ...] = (443,)
    content_types: tuple[str, ...] = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")
    max_redirects: int = 5
    max_bytes: int = 2_000_000
    """After decompression."""
    max_seconds: float = 30.0
    """For everything: names, hops, headers and body."""
    resolve: Callable[[str, int], list[str]] = resolve
    admits: Callable[[Address], bool] = is_public
    """The tests' servers stand on this machine; nothing else replaces it."""


@dataclass(frozen=True)
class Target:
    """An address taken apart; nothing of it has been looked up."""

    scheme: str
    host: str
    """Lower case ASCII without a trailing dot, or an IP address without brackets."""
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """In its one spelling."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True)
class Page:
    """What came back."""

    url: str
    """Of the last hop."""
    content_type: str
    charset: str
    body: bytes = field(repr=False)

    def text(self) -> str:
        """The body by its declared charset, or UTF-8; bytes that fit neither become U+FFFD."""
        try:
            return self.body.decode(self.charset or "utf-8", "replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", "replace")


def _bad(url: str, why: str) -> Rejected:
    return Rejected(f"{url[:120]!r}: {why}", code="bad_address")


def parse(url: str, rules: Rules | None = None) -> Target:
    """`url` taken apart, by rules strict enough that no two programs could read it differently. Raises Rejected."""
    rules = rules or Rules()
    if len(url) > MAX_URL or _UNSEEN.search(url):
        raise _bad(url, f"longer than {MAX_URL} characters, or with blanks, controls or backslashes in it")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise _bad(url, str(error)) from error
    if parts.scheme not in rules.schemes or parts.scheme not in DEFAULT_PORTS:
        raise _bad(url, f"the scheme must be {' or '.join(rules.schemes)}")
    if "@" in parts.netloc:
        raise _bad(url, "credentials do not belong into an address")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    if port not in rules.ports:
        raise _bad(url, f"port {port} is not one of {', '.join(map(str, rules.ports))}")
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, _host(url, host, parts.netloc), port, (parts.path or "/") + query)


def _host(url: str, host: str, netloc: str) -> str:
    if netloc.startswith("["):
        try:
            return str(IPv6Address(host))
        except ValueError as error:
            raise _bad(url, str(error)) from error
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise _bad(url, str(error)) from error
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _bad(url, "not the name of a host")
    if _NUMBER.fullmatch(labels[-1]):  # 127.1, 0x7f.1, 2130706433: numbers have one spelling here
        try:
            return str(IPv4Address(name))
        except ValueError as error:
            raise _bad(url, f"an IP address in an odd spelling ({error})") from error
    if len(labels) < 2 or labels[-1] in _INWARD:
        raise Rejected(f"{name} is a name of private networks", code="private_address")
    return name


def locate(target: Target, rules: Rules, seconds: float) -> str:
    """The one address to connect to. Raises Rejected when any that the name has is not public, Retryable for none."""
    try:
        found = [str(ip_address(target.host))]
    except ValueError:
        found = _within(seconds, target, rules)
    for one in found:
        if not rules.admits(ip_address(one)):
            raise Rejected(f"{target.host} stands at {one}, which is not public", code="private_address")
    return found[0]


def _within(seconds: float, target: Target, rules: Rules) -> list[str]:
    """`rules.resolve`, which cannot be interrupted, on a thread that is left behind when it takes too long."""
    found: list[str] = []
    failed: list[Exception] = []

    def look() -> None:
        try:
            found.extend(rules.resolve(target.host, target.port))
        except (OSError, UnicodeError) as error:
            failed.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        why = failed[0] if failed else f"no answer within {seconds:.0f} s"
        raise Retryable(f"{target.host} has no address now: {why}")
    return list(found)


def fetch(url: str, rules: Rules | None = None) -> Page:
    """Get the page at `url`, redirects included."""
    rules = rules or Rules()
    deadline = time.monotonic() + rules.max_seconds
    target = parse(url, rules)
    for _ in range(rules.max_redirects + 1):
        got = _hop(target, rules, deadline)
        if isinstance(got, Page):
            return got
        target = parse(urljoin(target.url, got), rules)
    raise Rejected(f"{url[:120]}: more than {rules.max_redirects} redirects", code="too_many_redirects")


def _hop(target: Target, rules: Rules, deadline: float) -> Page | str:
    """One request: the page, or where it has gone."""
    left = deadline - time.monotonic()
    address = locate(target, rules, max(0.0, left))
    left = deadline - time.monotonic()
    if left <= 0:
        raise _late(target, rules)
    shown = f"[{address}]" if ":" in address else address
    headers = {
        "Host": target.authority,
        "User-Agent": "maxxit",
        "Accept": ", ".join(rules.content_types),
        "Accept-Encoding": "gzip",
    }
    with http.client(headers=headers, timeout=left, trust_env=False) as client, hang_up_after(left) as trace:
        try:
            with client.stream(
                "GET",
                f"{target.scheme}://{shown}:{target.port}{target.path}",
                extensions={"sni_hostname": target.host, "trace": trace},
            ) as response:
                return _answer(response, target, rules, deadline)
        except http.HTTPError as error:
            if time.monotonic() >= deadline:
                raise _late(target, rules) from error
            raise Retryable(f"{target.host}: {type(error).__name__} {error}") from error


def _late(target: Target, rules: Rules) -> Retryable:
    return Retryable(f"{target.host} was not done after {rules.max_seconds:g} s")


@contextmanager
def hang_up_after(seconds: float) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Hang up after `seconds`, whatever the other side drips: each single read would be in time.

    Yields httpx's trace callback, which tells us the connection as it is made.
    """
    streams: list[Any] = []
    over = threading.Event()

    def hang_up() -> None:
        over.set()
        for stream in streams[-1:]:
            with suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def trace(event: str, info: dict[str, Any]) -> None:
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            streams.append(info["return_value"])
            if over.is_set():
                hang_up()

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield trace
    finally:
        timer.cancel()


def _answer(response: http.Response, target: Target, rules: Rules, deadline: float) -> Page | str:
    code = response.status_code
    if code in {301, 302, 303, 307, 308}:
        if not (location := response.headers.get("location")):
            raise Rejected(f"{target.host} answered {code} without a location", code="bad_address")
        return str(location)
    if code == 429 or code >= 500:
        raise Retryable(f"{target.host} answered {code}", after=http.retry_after(response))
    if code != 200:
        raise Rejected(f"{target.host} answered {code}", code=f"http_{code}")
    content_type, charset = _type(response.headers.get("content-type", ""))
    if content_type not in rules.content_types:
        raise Rejected(
            f"{target.url} is {content_type or 'of no type'}, not one of {', '.join(rules.content_types)}",
            code="content_type",
        )
    return Page(target.url, content_type, charset, _body(response, target, rules, deadline))


def _type(header: str) -> tuple[str, str]:
    message = Message()
    message["content-type"] = header
    return (message.get_content_type() if header else ""), str(message.get_content_charset() or "")


def _body(response: http.Response, target: Target, rules: Rules, deadline: float) -> bytes:
    """The decompressed body. A bomb is stopped at the limit, not after it has gone off."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise Rejected(f"{target.host} answers as {encoding!r} unasked", code="content_type")
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding != "identity" else None
    body = bytearray()
    for chunk in response.iter_raw():
        if time.monotonic() > deadline:
            raise _late(target, rules)
        try:
            body += unpack.decompress(chunk, rules.max_bytes + 1 - len(body)) if unpack else chunk
        except zlib.error as error:
            raise Retryable(f"{target.host}: broken gzip ({error})") from error
        if len(body) > rules.max_bytes:
            raise Rejected(f"{target.url} is larger than {rules.max_bytes} bytes", code="answer_too_large")
    if time.monotonic() >= deadline:  # hung up by ourselves: without a length that looks like the end
        raise _late(target, rules)
    if unpack and not unpack.eof:
        raise Retryable(f"{target.host}: the answer was cut off")
    return bytes(body)
