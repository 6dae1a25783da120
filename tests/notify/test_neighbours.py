"""No customer delays another: a silent or slow endpoint and a flood of matches cost only themselves."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

import pytest
from django.contrib.auth.models import User

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable
from maxxit.events.record import record
from maxxit.market import intake
from maxxit.market.feeds.base import Tick
from maxxit.notify import breaker, delivery_queue, endpoints, rules, tasks, worker
from maxxit.notify.channels import CHANNELS, webhook
from maxxit.notify.channels.base import Message
from maxxit.notify.channels.webhook import Webhook
from maxxit.notify.models import Alert, Endpoint, RuleDelivery
from maxxit.notify.policy import NotifyPolicy
from tests.builders import RecordedClock

pytestmark = pytest.mark.django_db


class Post:
    """In place of the webhook's network: remembers who was sent what, and fails for the silent ones."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []
        """(user, event name), in the order of arrival."""
        self.silent: set[str] = set()
        self.meet: threading.Barrier | None = None
        self.lock = threading.Lock()
        self.now: dict[str, int] = {}
        self.most_at_once: dict[str, int] = {}

    def __call__(self, _: Webhook, message: Message) -> None:
        with self.lock:
            self.came.append((message.user, message.name))
            self.now[message.user] = self.now.get(message.user, 0) + 1
            self.most_at_once[message.user] = max(
                self.now[message.user], self.most_at_once.get(message.user, 0)
            )
        try:
            if self.meet is not None:
                self.meet.wait(10)
            if message.user in self.silent:
                raise Retryable("no answer within 10 s")
        finally:
            with self.lock:
                self.now[message.user] -= 1

    def to(self, user: str) -> int:
        return sum(name == user for name, _ in self.came)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    one = Post()
    monkeypatch.setattr(Webhook, "verify", lambda self, address: address)
    monkeypatch.setattr(Webhook, "send", lambda self, message: one(self, message))
    return one


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., NotifyPolicy]:
    def change(**values: int) -> NotifyPolicy:
        changed = worker.policy().model_copy(update=values)
        monkeypatch.setattr(worker, "policy", lambda: changed)
        return changed

    return change


def person(name: str, **fields: Any) -> User:
    user = User.objects.create(username=name, **fields)
    endpoints.set_endpoint(user, "webhook", f"https://hooks.example/{name}")
    return user


def matches(user: User, count: int, channel: str = "webhook") -> list[RuleDelivery]:
    """`count` deliveries of one user that are due now."""
    known = set(RuleDelivery.objects.values_list("pk", flat=True))
    for _ in range(count):
        rules.add(user, ["BTC"], "any", channel=channel)
    intake.queue_moves([Tick("BTC", Decimal(60_000), worker.clock.now(), "test")])
    rules.match()
    return list(RuleDelivery.objects.filter(user=user).exclude(pk__in=known).order_by("pk"))


def again(row: RuleDelivery) -> RuleDelivery:
    return RuleDelivery.objects.get(pk=row.pk)


def test_a_silent_endpoint_costs_one_timeout_a_pass_and_burns_one_try(
    post: Post, time: RecordedClock
) -> None:
    rows = matches(person("silent"), 4)
    post.silent = {"silent"}
    assert worker.deliver() == worker.DeliveryResult(later=1)
    assert post.to("silent") == 1
    assert [again(row).attempts for row in rows] == [1, 0, 0, 0]
    assert worker.deliver() == worker.DeliveryResult(), "it rests a little even before its breaker opens"


def test_others_are_sent_while_a_silent_endpoint_waits_for_its_timeout(
    post: Post, time: RecordedClock
) -> None:
    """The barrier opens only when all three sends are under way at the same time."""
    for name in ("silent", "ann", "bob"):
        matches(person(name), 1)
    post.silent, post.meet = {"silent"}, threading.Barrier(3)
    assert worker.deliver() == worker.DeliveryResult(sent=2, later=1)


def test_an_endpoint_has_one_connection_at_a_time(post: Post, time: RecordedClock) -> None:
    matches(person("ann"), 6)
    assert worker.deliver().sent == 6
    assert post.most_at_once == {"ann": 1}


def test_a_flood_for_one_person_leaves_the_first_turn_to_everyone(
    post: Post, time: RecordedClock, limits: Callable[..., NotifyPolicy]
) -> None:
    limits(at_a_time=4)
    matches(person("loud"), 20)
    matches(person("ann"), 2)
    matches(person("bob"), 1)
    assert worker.deliver().sent == 4, "a pass claims once"
    assert sorted(name for name, _ in post.came) == ["ann", "bob", "loud", "loud"]


def test_what_a_pass_leaves_wakes_the_next(
    post: Post, time: RecordedClock, limits: Callable[..., NotifyPolicy], woken: set[str]
) -> None:
    limits(at_a_time=2)
    matches(person("ann"), 3)
    woken.clear()
    worker.deliver()
    assert woken == {tasks.deliver.name}
    woken.clear()
    worker.deliver()
    assert woken == set(), "nothing is left"


def test_the_breaker_opens_and_waiting_deliveries_keep_their_tries(
    post: Post, time: RecordedClock, limits: Callable[..., NotifyPolicy]
) -> None:
    policy = limits(breaker_failures=2, breaker_first_seconds=600, breaker_most_seconds=1000)
    user = person("silent")
    rows = matches(user, 3)
    post.silent = {"silent"}
    worker.deliver()
    time.move(seconds=policy.first_wait_seconds)
    worker.deliver()
    assert Endpoint.objects.get(user=user).rests_until == time.now + timedelta(seconds=600)
    for _ in range(5):
        time.move(seconds=100)
        worker.deliver()
    assert post.to("silent") == 2
    assert sum(again(row).attempts for row in rows) == 2

    time.move(seconds=101)
    worker.deliver()
    assert post.to("silent") == 3, "one probe after the rest"
    assert Endpoint.objects.get(user=user).rests_until == time.now + timedelta(seconds=1000)

    post.silent = set()
    time.move(seconds=1001)
    worker.deliver()
    endpoint = Endpoint.objects.get(user=user)
    assert (endpoint.failures, endpoint.rests_until) == (0, None)
    worker.deliver()
    assert [again(row).state for row in rows] == ["sent"] * 3


def test_an_answer_that_refuses_a_message_closes_the_circuit(
    post: Post, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = person("ann")
    matches(user, 1)
    Endpoint.objects.update(failures=3)

    def refuse(self: Webhook, message: Message) -> None:
        raise Rejected("answered 410")

    monkeypatch.setattr(Webhook, "send", refuse)
    assert worker.deliver().dead == 1
    assert Endpoint.objects.get(user=user).failures == 0


def test_a_delivery_that_waited_a_day_for_a_resting_endpoint_is_a_dead_letter(
    post: Post, time: RecordedClock
) -> None:
    policy = worker.policy()
    user = person("silent")
    [row] = matches(user, 1)
    other = matches(person("ann"), 1)[0]
    time.move(hours=policy.give_up_hours + 1)
    Endpoint.objects.filter(user=user).update(failures=9, rests_until=time.now + timedelta(hours=1))
    assert worker.deliver() == worker.DeliveryResult(sent=1, dead=1)
    assert again(row).state == "dead"
    assert "24 hours" in again(row).last_error
    assert again(other).state == "sent", "a day without a worker is no fault of the endpoint"

    assert worker.redrive(RuleDelivery, [row.pk]) == 1
    assert Endpoint.objects.get(user=user).rests_until is None
    assert worker.deliver().sent == 1, "a person's redrive ends the rest"


def test_rests_grow_to_their_limit() -> None:
    policy = worker.policy()
    first, rests = policy.breaker_failures, []
    for failures in (1, first - 1, first, first + 1, first + 2, first + 50):
        rests.append(breaker.pause_seconds(failures, policy))
    assert rests == [5, 5, 60, 120, 240, 3600]


def test_a_pass_that_is_over_starts_nothing_and_gives_back_what_it_claimed(
    post: Post, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = matches(person("ann"), 2)
    monkeypatch.setattr(worker.time, "monotonic", iter(range(0, 10_000, 1_000)).__next__)
    assert worker.deliver() == worker.DeliveryResult()
    assert post.came == []
    assert [(again(row).attempts, again(row).due_at) for row in rows] == [(0, time.now)] * 2


def test_a_slow_endpoint_has_only_its_seconds_of_a_pass(post: Post, time: RecordedClock) -> None:
    user = person("slow")
    rows = matches(user, 3)
    policy = worker.policy()
    delivery_queue.claim(RuleDelivery, policy)
    one = worker.Pass(RuleDelivery, (), policy, worker.DeliveryResult())
    lane = worker.Lane(endpoints.current(user, "webhook"), worker.deque(rows[1:]))
    ended = worker.Finished(lane, again(rows[0]), worker.Attempt(float(policy.endpoint_seconds)))
    assert one._finish([ended]) == []
    assert (again(rows[0]).state, again(rows[1]).state) == ("sent", "pending")
    assert again(rows[1]).due_at == time.now + timedelta(seconds=policy.first_wait_seconds)


# --- staff alerts ----------------------------------------------------------------------------------------------------


def test_a_thousand_matches_do_not_delay_an_alert(
    post: Post, time: RecordedClock, limits: Callable[..., NotifyPolicy]
) -> None:
    limits(at_a_time=5)
    matches(person("loud"), 50)
    boss = person("boss", is_staff=True)
    record("kill_switch.pulled", boss, level="pause")
    worker.deliver()
    assert post.came[0] == ("boss", "kill_switch.pulled")


def test_the_alert_task_sends_alerts_and_nothing_else(post: Post, time: RecordedClock) -> None:
    matches(person("loud"), 3)
    boss = person("boss", is_staff=True)
    record("kill_switch.pulled", boss, level="pause")
    assert tasks.alert() == {"sent": 1, "later": 0, "dead": 0}, "by webhook; the inbox needs no sending"
    assert set(post.came) == {("boss", "kill_switch.pulled")}
    assert set(Alert.objects.values_list("state", flat=True)) == {"sent"}


@pytest.mark.django_db(transaction=True)
def test_two_passes_over_the_same_deliveries_never_run_at_once(post: Post, time: RecordedClock) -> None:
    matches(person("ann"), 1)
    entered, leave = threading.Event(), threading.Event()

    def other_worker() -> None:
        with delivery_queue.advisory_lock("rule_deliveries") as mine:
            assert mine
            entered.set()
            leave.wait(10)
        delivery_queue.connection.close()

    thread = threading.Thread(target=other_worker)
    thread.start()
    assert entered.wait(10)
    assert worker.deliver() == worker.DeliveryResult()
    leave.set()
    thread.join(10)
    assert worker.deliver().sent == 1


@pytest.mark.django_db(transaction=True)
def test_an_endpoint_that_another_pass_sends_to_is_left_to_it(post: Post, time: RecordedClock) -> None:
    user = person("boss", is_staff=True)
    [row] = matches(user, 1)
    endpoint = Endpoint.objects.get(user=user)
    entered, leave = threading.Event(), threading.Event()

    def alerts_pass() -> None:
        with delivery_queue.advisory_lock(f"endpoint:{endpoint.pk}"):
            entered.set()
            leave.wait(10)
        delivery_queue.connection.close()

    thread = threading.Thread(target=alerts_pass)
    thread.start()
    assert entered.wait(10)
    assert worker.deliver() == worker.DeliveryResult()
    assert (again(row).attempts, post.came) == (0, [])
    leave.set()
    thread.join(10)
    time.to(again(row).due_at)
    assert worker.deliver().sent == 1


# --- the webhook itself ----------------------------------------------------------------------------------------------


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A receiver that sends one byte of its headers after the other and never ends."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
                while not stop.wait(0.05):
                    self.wfile.write(b"a")
            except OSError:
                return

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    port = server.server_port
    here = egress.Rules(schemes=("http",), ports=(port,), admits=lambda address: True, max_seconds=0.5)
    monkeypatch.setattr(webhook, "RULES", here)
    yield f"http://127.0.0.1:{port}/"
    stop.set()
    server.shutdown()
    server.server_close()


def test_a_receiver_that_drips_its_headers_is_hung_up_on(dripping: str) -> None:
    message = Message("d_1", "rule.matched", "2026-05-01T00:00:00Z", "ann", "text", {}, dripping, "secret")
    with pytest.raises(Retryable):
        Webhook().send(message)


def test_a_receiver_that_accepts_and_says_nothing_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        here = egress.Rules(ports=(port,), admits=lambda address: True, max_seconds=0.3)
        monkeypatch.setattr(webhook, "RULES", here)
        message = Message(
            "d_1", "rule.matched", "", "ann", "text", {}, f"https://127.0.0.1:{port}/", "secret"
        )
        with pytest.raises(Retryable):
            Webhook().send(message)


def test_a_claim_must_outlast_its_pass() -> None:
    values = json.loads(worker.policy().model_dump_json())
    with pytest.raises(ValueError, match="claim_seconds must exceed"):
        NotifyPolicy.model_validate(values | {"claim_seconds": 30})


# --- channels --------------------------------------------------------------------------------------------------------


def test_a_channel_whose_provider_hangs_delays_no_other(
    monkeypatch: pytest.MonkeyPatch, limits: Callable[..., NotifyPolicy], time: RecordedClock
) -> None:
    """More users than threads wait on a channel that answers nothing, while every message of another is sent."""
    limits(at_a_time=8, at_once=2, pass_seconds=60)
    all_came, came, hung = threading.Event(), [], []
    lock = threading.Lock()

    def answers(self: Any, message: Message) -> None:
        with lock:
            came.append(message.user)
            if len(came) == 20:
                all_came.set()

    def hangs(self: Any, message: Message) -> None:
        hung.append(all_came.wait(60))

    for channel, send in (("slack", hangs), ("discord", answers)):
        one = type(CHANNELS.open(channel))
        monkeypatch.setattr(one, "verify", lambda self, address: address)
        monkeypatch.setattr(one, "send", send)
        for number in range({"slack": 6, "discord": 20}[channel]):
            user = User.objects.create(username=f"{channel}{number}")
            endpoints.set_endpoint(user, channel, "https://example.org/services/secret-token-1234")
            record("kill_switch.pulled", user, owner_id=user.pk)
    worker.deliver_alerts()
    assert len(set(came)) == len(came) == 20
    assert all(hung), "all of the other were sent in the same pass"


def test_a_channels_rate_limit_is_over_all_users() -> None:
    policy = worker.policy().model_copy(update={"per_second": {"telegram": 10}})
    one = worker.Pass(Alert, (), policy, worker.DeliveryResult())
    slots = [one._slot("telegram") for _ in range(21)]
    assert slots[-1] - slots[0] == pytest.approx(2.0)
    assert one._slot("slack") <= monotonic()
