"""Deliveries: each is told at least once, tried again, or set aside with its reason; signed, and only to the public."""

import hashlib
import hmac
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.market import intake
from maxxit.market.feeds.base import Tick
from maxxit.notify import delivery_queue, endpoints, rules, tasks, worker
from maxxit.notify.channels import webhook
from maxxit.notify.channels.webhook import Webhook
from maxxit.notify.models import Alert, Endpoint, RuleDelivery
from maxxit.pipeline.stages import WAKES
from maxxit.reports import dead_letters
from positions.exits import pauses
from tests.builders import RecordedClock
from trading import gate

pytestmark = pytest.mark.django_db


class Receiver:
    """A person's webhook: remembers what came, and answers the `codes` in turn, then 200."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.retry_after = ""
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.url = ""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """On loopback, which the guard would refuse."""
    one = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            one.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(one.codes.pop(0) if one.codes else 200)
            if one.retry_after:
                self.send_header("retry-after", one.retry_after)
            self.send_header("location", "https://elsewhere.example/")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    here = egress.Rules(schemes=("http",), ports=(server.server_port,), admits=lambda address: True)
    monkeypatch.setattr(webhook, "RULES", here)
    yield one
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def matched(ann: User, time: RecordedClock) -> Callable[..., RuleDelivery]:
    """Call it with a channel: a rule of ann's that has just matched."""

    def make(channel: str, symbol: str = "BTC", price: int = 71_000) -> RuleDelivery:
        rules.add(ann, [symbol], "gt", threshold=Decimal(70_000), channel=channel)
        time.move(seconds=1)
        intake.take([Tick(symbol, Decimal(price), time.now, "coinbase")])
        rules.match()
        return RuleDelivery.objects.order_by("-pk")[:1].get()

    return make


def test_inbox_and_log_deliveries_are_sent_at_once(
    matched: Callable[..., RuleDelivery],
    time: RecordedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(rules.wake, "after_commit", happened.append)
    first, second = matched("inbox"), matched("log", "ETH", 80_000)
    assert [WAKES[name] for name in happened if name == "rule.matched"] == [(tasks.deliver.name,)] * 2

    assert tasks.deliver() == {"sent": 2, "later": 0, "dead": 0}
    for row in (first, second):
        row.refresh_from_db()
        assert (row.state, row.sent_at, row.attempts) == ("sent", time.now, 1)
    assert Event.objects.filter(name="ruledelivery.sent").count() == 2
    assert tasks.deliver() == {"sent": 0, "later": 0, "dead": 0}


def test_a_webhook_is_signed_and_says_what_happened(
    ann: User, receiver: Receiver, matched: Callable[..., RuleDelivery], time: RecordedClock, settings: Any
) -> None:
    endpoint = endpoints.set_endpoint(ann, "webhook", receiver.url)
    row = matched("webhook")

    assert worker.deliver().sent == 1
    headers, body = receiver.came[0]
    at, _, mac = headers["x-maxxit-signature"].removeprefix("t=").partition(",v1=")
    secret = endpoints.secret_of(endpoint)
    assert int(at) == int(time.now.timestamp())
    assert mac == hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    said = json.loads(body)
    assert (
        (said["id"], said["type"])
        == (f"d_{row.pk}", "rule.matched")
        == (headers["x-maxxit-delivery"], said["type"])
    )
    assert said["data"]["price"] == "71000"
    assert said["text"] == "BTC is at 71000 USD (price above 70000 USD)"
    assert endpoint.salt not in secret
    settings.SECRET_KEY = "another key of this installation"
    assert endpoints.secret_of(endpoint) != secret


def test_a_receiver_that_fails_is_asked_again_ever_later_with_the_same_id(
    ann: User, receiver: Receiver, matched: Callable[..., RuleDelivery], time: RecordedClock
) -> None:
    endpoints.set_endpoint(ann, "webhook", receiver.url)
    row = matched("webhook")
    receiver.codes = [503, 500, 429]
    receiver.retry_after = "33"
    waits = []
    for _ in range(3):
        assert worker.deliver().later == 1
        assert worker.deliver() == worker.DeliveryResult()  # not before its time
        row.refresh_from_db()
        waits.append((row.due_at - time.now).total_seconds())
        time.to(row.due_at)
    assert worker.deliver().sent == 1

    row.refresh_from_db()
    assert waits == [5, 10, 33]  # the third as long as the receiver asked
    assert (row.state, row.attempts, row.last_error) == ("sent", 4, "")
    assert {headers["x-maxxit-delivery"] for headers, _ in receiver.came} == {f"d_{row.pk}"}


def test_after_so_many_tries_it_is_dead_and_a_person_may_redrive_it(
    ann: User, receiver: Receiver, matched: Callable[..., RuleDelivery], time: RecordedClock
) -> None:
    endpoints.set_endpoint(ann, "webhook", receiver.url)
    row = matched("webhook")
    receiver.codes = [503] * worker.policy().tries
    for _ in range(worker.policy().tries):
        worker.deliver()
        row.refresh_from_db()
        time.to(max(row.due_at, time.now))

    assert (row.state, row.attempts) == ("dead", 8)
    letter = dead_letters.dead_letter(f"delivery:{row.pk}")
    assert "answered 503" in letter.error
    assert "/hook" not in letter.error  # a path may hold a token
    assert worker.deliver() == worker.DeliveryResult()
    assert dead_letters.redrive([letter.name]) == 1
    assert worker.deliver().sent == 1


@pytest.mark.parametrize("code", [301, 401, 404, 410])
def test_a_receiver_that_says_no_is_not_asked_again(
    ann: User, receiver: Receiver, matched: Callable[..., RuleDelivery], code: int
) -> None:
    endpoints.set_endpoint(ann, "webhook", receiver.url)
    row = matched("webhook")
    receiver.codes = [code]

    assert worker.deliver().dead == 1
    row.refresh_from_db()
    assert (row.state, len(receiver.came)) == ("dead", 1)
    assert str(code) in row.last_error


def test_an_address_that_was_taken_away_is_a_dead_letter(
    ann: User, receiver: Receiver, matched: Callable[..., RuleDelivery]
) -> None:
    endpoints.set_endpoint(ann, "webhook", receiver.url)
    row = matched("webhook")
    assert endpoints.forget(ann, "webhook")
    assert not endpoints.forget(ann, "webhook")
    assert Event.objects.filter(name="endpoint.forgotten").count() == 1

    worker.deliver()
    row.refresh_from_db()
    assert (row.state, receiver.came) == ("dead", [])
    assert "removed their webhook address" in row.last_error


def test_a_worker_that_died_leaves_its_delivery_to_another_but_not_for_ever(
    matched: Callable[..., RuleDelivery], time: RecordedClock
) -> None:
    row = matched("inbox")
    rules_ = worker.policy()
    for _ in range(rules_.tries):
        assert delivery_queue.claim(RuleDelivery, rules_) == [row.pk]
        assert delivery_queue.claim(RuleDelivery, rules_) == []  # nobody else gets it meanwhile
        time.move(seconds=rules_.claim_seconds)

    assert worker.deliver().dead == 1
    row.refresh_from_db()
    assert "ended while it was sending" in row.last_error


def test_a_bug_in_one_channel_does_not_hold_up_the_others(
    matched: Callable[..., RuleDelivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(self: Any, message: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("maxxit.notify.channels.log.Log.send", buggy)
    bad, good = matched("log"), matched("inbox", "ETH", 80_000)

    assert worker.deliver() == worker.DeliveryResult(sent=1, later=1)
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, bad.last_error, good.state) == ("pending", "ZeroDivisionError: a bug", "sent")


def test_nobody_is_sent_more_than_so_much_a_minute(
    ann: User, receiver: Receiver, matched: Callable[..., RuleDelivery], monkeypatch: pytest.MonkeyPatch,
    time: RecordedClock,
) -> None:  # fmt: skip
    limited = worker.policy().model_copy(update={"per_minute": 2})
    monkeypatch.setattr(worker, "policy", lambda: limited)
    endpoints.set_endpoint(ann, "webhook", receiver.url)
    for symbol in ("BTC", "ETH", "LTC"):
        matched("webhook", symbol, 80_000)

    assert worker.deliver().sent == 2
    assert worker.deliver().sent == 0
    time.move(seconds=61)
    assert worker.deliver().sent == 1


def test_the_deliveries_of_a_rule_from_before_this_release_are_due(
    matched: Callable[..., RuleDelivery],
) -> None:
    """The columns have defaults in the database: an old release may go on writing while the new one starts."""
    row = matched("inbox")
    values = (row.rule_id, row.user_id, row.match.pk)
    row.delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rule_deliveries (match_id, rule_id, user_id, symbol, channel, bucket, at) "
            "SELECT m.id, %s, %s, m.symbol, 'inbox', m.bucket, m.at FROM rule_matches m WHERE m.id = %s",
            values,
        )
        cursor.execute("SELECT state, attempts FROM rule_deliveries")
        assert cursor.fetchone() == ("pending", 0)


# -- addresses


def answers(*addresses: str) -> Callable[..., Any]:
    return lambda host, port, **_: [(2, 1, 6, "", (one, port)) for one in addresses]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.5", "192.168.1.1", "172.16.9.9", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"],
)  # fmt: skip
def test_a_webhook_never_goes_inside(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxxit.core.egress.socket.getaddrinfo", answers("93.184.216.34", address))
    with pytest.raises(Rejected, match="not public"):
        Webhook().verify("https://hooks.example/x")


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example/", "https://hooks.example:8443/", "https://a:b@hooks.example/", "ftp://x/", "https://",
     "https://[::1", "file:///etc/passwd", "https://hooks.example:99999/"],
)  # fmt: skip
def test_what_is_no_public_https_address_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxxit.core.egress.socket.getaddrinfo", answers("93.184.216.34"))
    with pytest.raises(Rejected):
        Webhook().verify(url)


def test_a_public_address_is_taken_and_a_name_without_one_may_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "maxxit.core.egress.socket.getaddrinfo", answers("93.184.216.34", "2606:2800:220:1::1")
    )
    Webhook().verify("https://hooks.example/x")

    def nothing(*_: Any, **__: Any) -> Any:
        raise OSError("Name or service not known")

    monkeypatch.setattr("maxxit.core.egress.socket.getaddrinfo", nothing)
    with pytest.raises(Retryable):
        Webhook().verify("https://hooks.example/x")


def test_a_private_address_cannot_be_named_and_one_channel_has_one_address(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxxit.core.egress.socket.getaddrinfo", answers("10.0.0.5"))
    with pytest.raises(Rejected):
        endpoints.set_endpoint(ann, "webhook", "https://intranet.example/")
    assert not Endpoint.objects.exists()
    monkeypatch.setattr("maxxit.core.egress.socket.getaddrinfo", answers("93.184.216.34"))
    old = endpoints.set_endpoint(ann, "webhook", "https://a.example/")
    new = endpoints.set_endpoint(ann, "webhook", "https://b.example/")

    assert Endpoint.objects.get(active=True) == new
    assert endpoints.secret_of(old) != endpoints.secret_of(new)
    with pytest.raises(Rejected, match="needs no address"):
        endpoints.set_endpoint(ann, "inbox", "https://a.example/")


def test_an_address_that_moved_inside_is_refused_when_it_is_sent_to(
    ann: User, matched: Callable[..., RuleDelivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxxit.core.egress.socket.getaddrinfo", answers("93.184.216.34"))
    endpoints.set_endpoint(ann, "webhook", "https://hooks.example/")
    row = matched("webhook")
    monkeypatch.setattr("maxxit.core.egress.socket.getaddrinfo", answers("169.254.169.254"))

    assert worker.deliver().dead == 1
    row.refresh_from_db()
    assert "not public" in row.last_error


def test_a_rule_on_a_channel_that_does_not_work_is_refused(ann: User) -> None:
    with pytest.raises(Rejected, match="rules endpoint --user … --channel webhook"):
        endpoints.require(ann, "webhook")
    with pytest.raises(Rejected, match="known: apprise, discord, email, inbox"):
        endpoints.require(ann, "pigeon")
    for name in ("inbox", "log"):
        endpoints.require(ann, name)


def test_who_is_told_late_is_told_of_the_price_then(
    matched: Callable[..., RuleDelivery], time: RecordedClock
) -> None:
    row = matched("inbox")
    time.move(hours=1)
    said = worker.message_of(row, None)
    assert (said.data["price"], said.at) == ("71000", (time.now - timedelta(hours=1)).isoformat())


# --- alerts: what staff is told of ---------------------------------------------------------------------------------


@pytest.fixture
def boss() -> User:
    return User.objects.create(username="boss", is_staff=True)


def test_a_pulled_switch_is_told_to_staff_once_and_wakes_the_worker(
    boss: User, ann: User, receiver: Receiver, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints.set_endpoint(boss, "webhook", receiver.url)
    happened: list[str] = []
    monkeypatch.setattr("maxxit.events.record.wake.after_commit", happened.append)
    gate.kill("flatten", by="ana", reason="prices are nonsense")
    assert [tasks.alert.name in WAKES[name] for name in happened] == [True]

    assert tasks.deliver() == {"sent": 1, "later": 0, "dead": 0}
    assert tasks.deliver() == {"sent": 0, "later": 0, "dead": 0}
    assert set(Alert.objects.values_list("user__username", "channel", "state")) == {
        ("boss", "inbox", "sent"),
        ("boss", "webhook", "sent"),
    }
    [(_, body)] = receiver.came
    told = json.loads(body)
    assert told["type"] == "kill_switch.pulled"
    assert "kill switch pulled" in told["text"]
    assert "prices are nonsense" in told["text"]
    assert told["data"]["level"] == "flatten"


def test_staff_is_told_of_every_move_of_switch_gate_and_exits(boss: User, time: RecordedClock) -> None:
    gate.kill("reduce_only", by="ana", reason="test")
    gate.release(by="ana", reason="test")
    for dry_run in (True, False):
        gate.set_dry_run("paper", dry_run, by="ana", reason="test")
    gate.approve("paper", by="ana", until=time.now + timedelta(hours=1), reason="test")
    gate.revoke("paper", by="ana", reason="test")
    pauses.pause(by="ana", reason="test")
    pauses.resume(by="ana", reason="test")
    tasks.deliver()
    assert sorted(Alert.objects.filter(user=boss, state="sent").values_list("event__name", flat=True)) == [
        "exits.paused", "exits.resumed", "gate.approved", "gate.closed", "gate.opened", "gate.revoked",
        "kill_switch.pulled", "kill_switch.released",
    ]  # fmt: skip


def test_an_alert_survives_a_day_in_which_nothing_ran_but_not_for_ever(
    boss: User, time: RecordedClock
) -> None:
    gate.set_dry_run("paper", True, by="ana", reason="test")
    time.move(hours=23)
    tasks.deliver()
    assert Alert.objects.count() == 1
    gate.set_dry_run("paper", False, by="ana", reason="test")
    time.move(hours=25)
    tasks.deliver()
    assert Alert.objects.count() == 1


def test_an_alert_that_nobody_takes_is_a_dead_letter_that_can_be_redriven(
    boss: User, receiver: Receiver, time: RecordedClock
) -> None:
    endpoints.set_endpoint(boss, "webhook", receiver.url)
    receiver.codes = [410]
    pauses.pause(by="ana", reason="test")
    assert tasks.deliver() == {"sent": 0, "later": 0, "dead": 1}
    [letter] = dead_letters.dead_letters()
    assert (letter.name.partition(":")[0], letter.what) == ("alert", "exits.paused by webhook")
    receiver.codes = []
    assert dead_letters.redrive([letter.name]) == 1
    assert tasks.deliver()["dead"] == 1, "410: the address is removed"
    endpoints.set_endpoint(boss, "webhook", receiver.url)
    assert dead_letters.redrive([letter.name]) == 1
    assert tasks.deliver()["sent"] == 1


def test_a_batch_of_alerts_holds_the_users_of_its_event_not_once_for_each_of_them(receiver: Receiver) -> None:
    crowd = [User.objects.create(username=f"person {number}") for number in range(20)]
    for person in crowd:
        endpoints.set_endpoint(person, "webhook", receiver.url)
    owners = [*(person.pk for person in crowd), *range(10**7, 10**7 + 20_000)]
    record("author.unread", crowd[0], text="cannot be read", owner_ids=owners)
    worker.deliver_alerts()  # loads what a first send loads
    receiver.came.clear()
    record("author.unread", crowd[1], text="cannot be read", owner_ids=owners)

    tracemalloc.start()
    try:
        result = worker.deliver_alerts()
        _, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert result.sent == len(receiver.came) == 20
    assert all(b"owner_ids" not in body for _, body in receiver.came)
    assert highest < 4 * 2**20  # twenty lists of them are 14 MiB
