"""SSRF-safe HTTP for untrusted URLs: fetch pages that users or documents name, from public addresses only.

The host name is resolved once, all its addresses must be public, and the connection goes to the address that was
checked (TLS still verifies the name), which defeats DNS rebinding. Each redirect is checked the same way. No proxy,
no cookies, no credentials. One time limit covers all hops together; one size limit covers the decompressed body.

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
MAX_VALIDATOR = 500
"""Characters of an ETag or a Last-Modified."""

_REFUSED = [
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's own services, on an address that looks public
        *("64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2002::/16", "3fff::/20", "5f00::/16"),
    )
]
"""In addition to `is_global`, which differs by Python's patch release: carrier-grade NAT, relays, benchmark ranges,
and IPv6 that wraps an IPv4 address (NAT64, Teredo, 6to4)."""
_GLOBAL_IPV6 = ip_network("2000::/3")
"""All globally allocated IPv6; mapped, compatible, unique-local and link-local addresses are outside."""
_PRIVATE_SUFFIXES = (
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
_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x20\x7f\\\s]")


def is_public(address: Address) -> bool:
    """Return whether the address is reachable from the public internet."""
    if isinstance(address, IPv6Address) and (address not in _GLOBAL_IPV6 or address.scope_id):
        return False
    usual = address.is_global and not address.is_multicast and not address.is_reserved
    return usual and not any(address in net for net in _REFUSED if net.version == address.version)


def resolve(host: str, port: int) -> list[str]:
    """Return every address of a host name. Raises OSError when it has none."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Rules:
    """Which URLs may be fetched, and the limits on time and size."""

    schemes: tuple[str, ...] = ("https",)
    ports: tuple[int, ...] = (443,)
    hosts: tuple[str, ...] = ()
    """The only host names; `.example.org` admits those under it. Empty: any."""
    content_types: tuple[str, ...] = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")
    max_redirects: int = 5
    max_bytes: int = 2_000_000
    """Of the decompressed body."""
    max_seconds: float = 30.0
    """In total: DNS, hops, headers and body."""
    resolve: Callable[[str, int], list[str]] = resolve
    admits: Callable[[Address], bool] = is_public
    """Replaced only by tests, whose servers run on this machine."""


@dataclass(frozen=True)
class Target:
    """A parsed URL, not yet resolved."""

    scheme: str
    host: str
    """Lower case ASCII without a trailing dot, or an IP address without brackets."""
    port: int
    path: str
    """With the query."""

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The normalised URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True)
class Validators:
    """What a server said of a page's version, for a conditional request (RFC 9110, section 13)."""

    etag: str = ""
    last_modified: str = ""

    def headers(self) -> dict[str, str]:
        """Return the headers that ask for the page only if it has changed."""
        given = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True)
class Page:
    """A fetched page."""

    url: str
    """Of the last redirect."""
    content_type: str
    charset: str
    body: bytes = field(repr=False)
    validators: "Validators" = field(default_factory=lambda: Validators())
    """For the next request."""
    modified: bool = True
    """False: the server says that the page is as it was when `validators` were given; the body is empty."""

    def text(self) -> str:
        """Decode the body by its declared charset, else as UTF-8; invalid bytes become U+FFFD."""
        try:
            return self.body.decode(self.charset or "utf-8", "replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", "replace")


def _bad_address(url: str, why: str) -> Rejected:
    return Rejected(f"{url[:120]!r}: {why}", code="bad_address")


def parse(url: str, rules: Rules | None = None) -> Target:
    """Parse `url` strictly, so that no two programs could read it differently. Raises Rejected."""
    rules = rules or Rules()
    if len(url) > MAX_URL or _FORBIDDEN_CHARACTERS.search(url):
        raise _bad_address(
            url, f"longer than {MAX_URL} characters, or contains spaces, control characters or backslashes"
        )
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise _bad_address(url, str(error)) from error
    if parts.scheme not in rules.schemes or parts.scheme not in DEFAULT_PORTS:
        raise _bad_address(url, f"the scheme must be {' or '.join(rules.schemes)}")
    if "@" in parts.netloc:
        raise _bad_address(url, "remove the user name and password from the URL")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    if port not in rules.ports:
        raise _bad_address(url, f"port {port} is not one of {', '.join(map(str, rules.ports))}")
    query = f"?{parts.query}" if parts.query else ""
    target = Target(parts.scheme, _host(url, host, parts.netloc), port, (parts.path or "/") + query)
    if rules.hosts and not any(
        target.host.endswith(name) if name.startswith(".") else target.host == name for name in rules.hosts
    ):
        raise _bad_address(url, f"the host must be {' or '.join(rules.hosts)}")
    return target


def _host(url: str, host: str, netloc: str) -> str:
    if netloc.startswith("["):
        try:
            return str(IPv6Address(host))
        except ValueError as error:
            raise _bad_address(url, str(error)) from error
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise _bad_address(url, str(error)) from error
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _bad_address(url, "not a valid host name")
    if _NUMBER.fullmatch(labels[-1]):  # 127.1, 0x7f.1, 2130706433: numbers have one spelling here
        try:
            return str(IPv4Address(name))
        except ValueError as error:
            raise _bad_address(url, f"write the IP address in its usual form ({error})") from error
    if len(labels) < 2 or labels[-1] in _PRIVATE_SUFFIXES:
        raise Rejected(f"{name} is a host name of private networks", code="private_address")
    return name


def locate(target: Target, rules: Rules, seconds: float) -> str:
    """Return the address to connect to.

    Raises Rejected when any address of the name is not public, Retryable when it has none.
    """
    try:
        addresses = [str(ip_address(target.host))]
    except ValueError:
        addresses = _resolve_within(seconds, target, rules)
    for address in addresses:
        if not rules.admits(ip_address(address)):
            raise Rejected(
                f"{target.host} resolves to {address}, which is not public", code="private_address"
            )
    return addresses[0]


def _resolve_within(seconds: float, target: Target, rules: Rules) -> list[str]:
    """Resolve the name on a thread, which is abandoned after `seconds`: DNS lookups cannot be interrupted."""
    addresses: list[str] = []
    errors: list[Exception] = []

    def lookup() -> None:
        try:
            addresses.extend(rules.resolve(target.host, target.port))
        except (OSError, UnicodeError) as error:
            errors.append(error)

    thread = threading.Thread(target=lookup, daemon=True)
    thread.start()
    thread.join(seconds)
    if not addresses:
        reason = errors[0] if errors else f"no answer within {seconds:.0f} s"
        raise Retryable(f"{target.host} does not resolve: {reason}")
    return list(addresses)


def fetch(url: str, rules: Rules | None = None, known: Validators | None = None) -> Page:
    """Fetch the page at `url`, following redirects; of a page that is still as `known` only that it is."""
    rules, known = rules or Rules(), known or Validators()
    deadline = time.monotonic() + rules.max_seconds
    target = parse(url, rules)
    for _ in range(rules.max_redirects + 1):
        answer = _request(target, rules, deadline, known)
        if isinstance(answer, Page):
            return answer
        target = parse(_joined(target.url, answer), rules)
    raise Rejected(f"{url[:120]}: more than {rules.max_redirects} redirects", code="too_many_redirects")


def _joined(url: str, location: str) -> str:
    """Return the URL that a redirect names. Raises Rejected for one that is no URL."""
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise _bad_address(location, str(error)) from error


def _request(target: Target, rules: Rules, deadline: float, known: Validators) -> Page | str:
    """Send one request; return the page, or the location that it redirects to."""
    left = deadline - time.monotonic()
    address = locate(target, rules, max(0.0, left))
    left = deadline - time.monotonic()
    if left <= 0:
        raise _timed_out(target, rules)
    shown = f"[{address}]" if ":" in address else address
    headers = {
        "Host": target.authority,
        "User-Agent": "maxxit",
        "Accept": ", ".join(rules.content_types),
        "Accept-Encoding": "gzip",
        **known.headers(),
    }
    with http.client(headers=headers, timeout=left, trust_env=False) as client, close_after(left) as trace:
        try:
            with client.stream(
                "GET",
                f"{target.scheme}://{shown}:{target.port}{target.path}",
                extensions={"sni_hostname": target.host, "trace": trace},
            ) as response:
                if response.status_code == 304 and known.headers():
                    return Page(target.url, "", "", b"", known, modified=False)
                return _answer(response, target, rules, deadline)
        except http.HTTPError as error:
            if time.monotonic() >= deadline:
                raise _timed_out(target, rules) from error
            raise Retryable(f"{target.host}: {type(error).__name__} {error}") from error


def _timed_out(target: Target, rules: Rules) -> Retryable:
    return Retryable(f"{target.host} did not finish within {rules.max_seconds:g} s")


@contextmanager
def close_after(seconds: float) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Close the connection after `seconds`, even if the server keeps sending: a read timeout alone never fires.

    Yields the trace callback for httpx, which reports each connection as it is made.
    """
    streams: list[Any] = []
    over = threading.Event()

    def close() -> None:
        over.set()
        for stream in streams[-1:]:
            with suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def trace(event: str, info: dict[str, Any]) -> None:
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            streams.append(info["return_value"])
            if over.is_set():
                close()

    timer = threading.Timer(seconds, close)
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
            f"{target.url} has content type {content_type or 'none'}; allowed: {', '.join(rules.content_types)}",
            code="content_type",
        )
    body = _body(response, target, rules, deadline)
    return Page(target.url, content_type, charset, body, _validators(response))


def _validators(response: http.Response) -> Validators:
    """Return the validators of an answer; one that is too long, or that no request may repeat, is ignored."""
    etag, last = (_repeatable(response.headers.get(name, "")) for name in ("etag", "last-modified"))
    return Validators(etag, last)


def _repeatable(value: str) -> str:
    """Return a header's value if a request can carry it, else an empty string."""
    return value if len(value) <= MAX_VALIDATOR and value.isascii() and value.isprintable() else ""


def _type(header: str) -> tuple[str, str]:
    message = Message()
    message["content-type"] = header
    return (message.get_content_type() if header else ""), str(message.get_content_charset() or "")


def _body(response: http.Response, target: Target, rules: Rules, deadline: float) -> bytes:
    """Return the decompressed body; decompression stops at the size limit, before a zip bomb fills memory."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise Rejected(f"{target.host} answers with encoding {encoding!r}, not gzip", code="content_type")
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding != "identity" else None
    body = bytearray()
    for chunk in response.iter_raw():
        if time.monotonic() > deadline:
            raise _timed_out(target, rules)
        try:
            body += unpack.decompress(chunk, rules.max_bytes + 1 - len(body)) if unpack else chunk
        except zlib.error as error:
            raise Retryable(f"{target.host}: broken gzip ({error})") from error
        if len(body) > rules.max_bytes:
            raise Rejected(f"{target.url} is larger than {rules.max_bytes} bytes", code="answer_too_large")
    if time.monotonic() >= deadline:  # we closed it; without a content length that looks like the end
        raise _timed_out(target, rules)
    if unpack and not unpack.eof:
        raise Retryable(f"{target.host}: the answer is truncated")
    return bytes(body)
