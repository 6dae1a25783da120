"""SSRF-safe HTTP: which addresses it refuses, and that the checked address is the one connected to."""

import gzip
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from maxxit.core import egress
from maxxit.core.egress import Rules, Validators, fetch, is_public, locate, parse
from maxxit.core.errors import Rejected, Retryable
from maxxit.core.http import _authorities

HERE, INSIDE = "127.0.0.1", "127.0.0.2"
"""Two addresses of this machine: the tests' rules call the first public; the second stays what it is."""

BAD = [
    "",
    "example.org",
    "//example.org/",
    "http://example.org/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "javascript:alert(1)",
    "data:text/html,hi",
    "HTTPS:example.org",
    "https://",
    "https:///path",
    "https://user@example.org/",
    "https://user:password@example.org/",
    "https://example.org@127.0.0.1/",
    "https://@example.org/",
    "https://example.org:80/",
    "https://example.org:22/",
    "https://example.org:0/",
    "https://example.org:99999/",
    "https://example.org:443x/",
    "https://exam ple.org/",
    "https://example.org/a b",
    "https://example.org\\@127.0.0.1/",
    "https://example.org/\r\nHost: inside",
    "https://example.org/\x00",
    "https://exa\tmple.org/",
    "https://example.org/\u2028",
    "https://-example.org/",
    "https://example..org/",
    "https://.example.org/",
    "https://example.org../",
    "https://exa%6dple.org/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0x7f.1/",
    "https://0x7f000001/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.01/",
    "https://256.256.256.256/",
    "https://1.2.3.4.5/",
    "https://foo.0x7f/",
    "https://example.123/",
    "https://[127.0.0.1]/",
    "https://[::1/",
    "https://[::g]/",
    "https://\u2488.example.org/",
    "https://xn--\ud800.org/",
    "https://" + "a" * 64 + ".org/",
    "https://" + "a." * 130 + "org/",
    "https://example.org/" + "a" * 2000,
]

PRIVATE = [
    "https://localhost/",
    "https://LOCALHOST./",
    "https://intranet/",
    "https://printer.local/",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://app.localhost/",
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://127\u30020\u30020\u30021/",
    "https://\u2460\u2461\u2466.0.0.1/",
    "https://0.0.0.0/",
    "https://10.1.2.3/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/",
    "https://100.64.0.1/",
    "https://100.100.100.200/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://198.51.100.7/",
    "https://203.0.113.9/",
    "https://192.88.99.1/",
    "https://224.0.0.1/",
    "https://239.255.255.250/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::808:808]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:808:808::]/",
    "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "https://[2001:db8::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    "https://[3fff::1]/",
    "https://[5f00::1]/",
    "https://[4000::1]/",
]

GOOD = [
    ("https://example.org", "https://example.org/"),
    ("HTTPS://EXAMPLE.ORG./a?b=c#d", "https://example.org/a?b=c"),
    ("https://example.org:443/", "https://example.org/"),
    ("https://b\u00fccher.example/", "https://xn--bcher-kva.example/"),
    ("https://\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.org/", "https://example.org/"),
    ("https://8.8.8.8/dns", "https://8.8.8.8/dns"),
    ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"),
    ("https://a_b.example.org/", "https://a_b.example.org/"),
]


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_plain_address_is_refused_before_anything_is_looked_up(url: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse(url)
    assert caught.value.code == "bad_address"


@pytest.mark.parametrize("url", PRIVATE)
def test_private_places_are_refused_in_every_spelling(url: str) -> None:
    with pytest.raises(Rejected) as caught:
        locate(parse(url), Rules(resolve=must_not_resolve), 1)
    assert caught.value.code == "private_address"


def must_not_resolve(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was looked up")


@pytest.mark.parametrize(("url", "canonical"), GOOD)
def test_a_plain_address_has_one_spelling(url: str, canonical: str) -> None:
    assert parse(url).url == canonical


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("bad", ["10.0.0.1", "::ffff:10.0.0.1", "169.254.169.254", "fe80::1%eth0", "::1"])
def test_one_private_address_among_public_ones_is_enough_to_refuse(bad: str) -> None:
    rules = Rules(resolve=lambda host, port: ["1.1.1.1", bad])
    with pytest.raises(Rejected, match="not public"):
        locate(parse("https://example.org/"), rules, 1)


def test_a_name_without_address_and_a_resolver_that_hangs_may_work_later() -> None:
    def none(host: str, port: int) -> list[str]:
        raise OSError("unknown name")

    over = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        over.wait(20)
        return ["1.1.1.1"]

    for resolver in (none, hang):
        with pytest.raises(Retryable, match="does not resolve"):
            fetch("https://example.org/", Rules(resolve=resolver, max_seconds=0.2))
    over.set()


class Server(BaseHTTPRequestHandler):
    """Answers as the path says and remembers who was asked for what."""

    seen: list[tuple[str, str, str]] = []

    def do_GET(self) -> None:
        here = self.connection.getsockname()[0]
        self.seen.append((here, self.headers["host"], self.path))
        what, _, rest = self.path[1:].partition("/")
        try:
            getattr(self, "say_" + what)(rest)
        except OSError:
            return

    def answer(self, body: bytes, kind: str = "text/html; charset=utf-8", **headers: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def say_page(self, _: str) -> None:
        self.answer("grüße".encode())

    def say_latin(self, _: str) -> None:
        self.answer("grüße".encode("latin-1"), "text/plain; charset=iso-8859-1")

    def say_odd(self, _: str) -> None:
        self.answer("grüße".encode(), "text/plain; charset=no-such")

    def say_gzip(self, _: str) -> None:
        self.answer(gzip.compress(b"packed"), content_encoding="gzip")

    def say_bomb(self, _: str) -> None:
        self.answer(gzip.compress(bytes(50_000_000)), content_encoding="gzip")

    def say_cutgzip(self, _: str) -> None:
        self.answer(gzip.compress(b"packed" * 100)[:-12], content_encoding="gzip")

    def say_brotli(self, _: str) -> None:
        self.answer(b"?", content_encoding="br")

    def say_big(self, _: str) -> None:
        self.answer(b"x" * 300_000)

    def say_binary(self, _: str) -> None:
        self.answer(b"MZ", "application/octet-stream")

    def say_tagged(self, _: str) -> None:
        self.answer(b"tagged", ETag='"grüße"', Last_Modified="Mon, 02 Mar 2026 10:00:00 GMT")

    def say_untyped(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()

    def say_code(self, code: str) -> None:
        self.send_response(int(code))
        self.send_header("retry-after", "7")
        self.end_headers()

    def say_to(self, where: str) -> None:
        self.send_response(302)
        self.send_header("location", where)
        self.end_headers()

    def say_nowhere(self, _: str) -> None:
        self.send_response(302)
        self.end_headers()

    def say_loop(self, _: str) -> None:
        self.say_to("/loop")

    def say_cookie(self, _: str) -> None:
        self.send_response(302)
        self.send_header("set-cookie", "a=b")
        self.send_header("location", "/cookies")
        self.end_headers()

    def say_cookies(self, _: str) -> None:
        self.answer(repr([self.headers.get("cookie"), self.headers.get("authorization")]).encode())

    def say_drip(self, where: str) -> None:
        """One byte every 50 ms: of the headers, or of the body."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"content-type: text/html\r\n\r\n" if where else b"x-a: "))
        for _ in range(400):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    outside = ThreadingHTTPServer((HERE, 0), Server)
    inside = ThreadingHTTPServer((INSIDE, outside.server_port), Server)
    for server in (outside, inside):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield outside.server_port
    for server in (outside, inside):
        server.shutdown()
        server.server_close()


@pytest.fixture
def rules(port: int, monkeypatch: pytest.MonkeyPatch) -> Rules:
    monkeypatch.setattr(Server, "seen", [])
    return Rules(
        schemes=("http", "https"),
        ports=(port,),
        max_bytes=100_000,
        max_seconds=10,
        resolve=lambda host, port: [INSIDE if host.startswith("inside") else HERE],
        admits=lambda address: str(address) == HERE or is_public(address),
    )


def get(path: str, rules: Rules) -> egress.Page:
    return fetch(f"http://example.org:{rules.ports[0]}/{path}", rules)


def test_a_page_comes_with_its_name_as_host_from_the_address_that_was_checked(rules: Rules) -> None:
    page = get("page", rules)

    assert (page.text(), page.content_type) == ("grüße", "text/html")
    assert Server.seen == [(HERE, f"example.org:{rules.ports[0]}", "/page")]


@pytest.mark.parametrize(("path", "text"), [("latin", "grüße"), ("odd", "grüße"), ("gzip", "packed")])
def test_charset_and_compression_are_undone(rules: Rules, path: str, text: str) -> None:
    assert get(path, rules).text() == text


def test_a_tag_that_no_request_can_carry_is_not_sent_again(rules: Rules) -> None:
    page = get("tagged", rules)
    assert page.validators == Validators("", "Mon, 02 Mar 2026 10:00:00 GMT")
    assert fetch(page.url, rules, page.validators).text() == "tagged"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("big", "answer_too_large"),
        ("bomb", "answer_too_large"),
        ("brotli", "content_type"),
        ("binary", "content_type"),
        ("untyped", "content_type"),
        ("code/404", "http_404"),
        ("code/204", "http_204"),
        ("nowhere", "bad_address"),
        ("loop", "too_many_redirects"),
    ],
)
def test_what_will_never_do_is_rejected_with_its_reason(rules: Rules, path: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        get(path, rules)
    assert caught.value.code == code


@pytest.mark.parametrize("path", ["code/429", "code/500", "code/503", "cutgzip"])
def test_what_may_work_later_is_retryable(rules: Rules, path: str) -> None:
    with pytest.raises(Retryable) as caught:
        get(path, rules)
    assert caught.value.after == (7 if path == "code/429" else caught.value.after)


@pytest.mark.parametrize("path", ["drip/", "drip/body"])
def test_a_server_that_drips_is_left_when_the_time_is_over(rules: Rules, path: str) -> None:
    with pytest.raises(Retryable, match="did not finish within"):
        get(path, replace(rules, max_seconds=0.5))


@pytest.mark.parametrize(
    "where",
    [
        f"http://{INSIDE}:{{port}}/page",
        "http://inside.example.org:{port}/page",
        "http://localhost:{port}/page",
        "http://169.254.169.254:{port}/page",
        "http://[::ffff:127.0.0.1]:{port}/page",
        "//inside.example.org:{port}/page",
        "http://2130706433:{port}/page",
        "http://u:p@example.org:{port}/page",
        "http://example.org:22/page",
        "http://exa[mple.org:{port}/page",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_to_a_private_place_is_not_followed(rules: Rules, where: str) -> None:
    with pytest.raises(Rejected) as caught:
        get("to/" + where.format(port=rules.ports[0]), rules)

    assert caught.value.code in {"private_address", "bad_address"}
    assert [path.split("/")[1] for _, _, path in Server.seen] == ["to"]


def test_a_redirect_to_a_public_place_is_followed_without_cookies(rules: Rules) -> None:
    page = get("cookie", rules)

    assert page.text() == "[None, None]"
    assert page.url.endswith("/cookies")


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(
    rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return [HERE] if len(asked) == 1 else [INSIDE]

    get("page", replace(rules, resolve=rebinding))
    assert (asked, [where for where, _, _ in Server.seen]) == (["example.org"], [HERE])

    asked.clear()
    with pytest.raises(Rejected, match="not public"):  # the second hop is looked up, and checked, anew
        get("to//page", replace(rules, resolve=rebinding))
    assert asked == ["example.org", "example.org"]
    assert INSIDE not in {where for where, _, _ in Server.seen}


def test_proxies_of_the_environment_are_not_used(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://{INSIDE}:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    assert get("page", rules).text() == "grüße"


@pytest.fixture
def tls_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server whose certificate names example.org and nothing else; its issuer is trusted for this test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.org")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.org")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    issued, secret = tmp_path / "issued.pem", tmp_path / "key.pem"
    issued.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    monkeypatch.setattr("certifi.where", lambda: str(issued))
    monkeypatch.setattr("maxxit.core.http._authorities", _authorities.__wrapped__)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued, secret)

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that does not trust us hangs up."""

    server = Quiet((HERE, 0), Server)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_tls_proves_the_name_although_the_address_is_called(rules: Rules, tls_port: int) -> None:
    secure = replace(rules, ports=(tls_port,))

    assert fetch(f"https://example.org:{tls_port}/page", secure).text() == "grüße"
    asked = len(Server.seen)
    for other in ("other.org", "www.example.org", HERE):
        with pytest.raises(Retryable, match=r"(?i)certificate"):
            fetch(f"https://{other}:{tls_port}/page", secure)
    assert len(Server.seen) == asked == 1
