"""Receipts: what a provider took is not sent again when the worker that sent it died before it could store that."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from maxxit.core import egress, http
from maxxit.events.record import record
from maxxit.notify import alerts, receipts, worker
from maxxit.notify.channels import teams
from maxxit.notify.channels.webhook import Webhook
from maxxit.notify.models import Alert
from tests import builders as make
from tests.builders import RecordedClock
from tests.notify.providers import Fault, providers

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_cache")]


class Killed(BaseException):
    """What SIGKILL is to a worker: nothing after it runs."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    came: list[str] = []
    monkeypatch.setattr(Webhook, "send", lambda self, message: came.append(message.ident))
    return came


@pytest.fixture
def alert(time: RecordedClock) -> Alert:
    ann = User.objects.create(username="ann")
    make.webhook(ann, "https://example.com/x")
    record("kill_switch.pulled", ann, owner_id=ann.pk)
    alerts.write()
    return Alert.objects.get(channel="webhook")


def dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker dies after its sends, before it stores anything."""

    def killed(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(worker.Pass, "_finish", killed)
        with pytest.raises(Killed):
            worker.deliver_alerts()


def test_what_was_taken_is_stored_as_sent_and_not_sent_again(
    alert: Alert, sent: list[str], time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies(monkeypatch)
    alert.refresh_from_db()
    assert (alert.state, sent) == ("pending", [f"a_{alert.pk}"])
    time.to(alert.due_at)
    assert worker.deliver_alerts().sent == 1
    alert.refresh_from_db()
    assert (alert.state, len(sent)) == ("sent", 1)
    assert receipts.found([f"a_{alert.pk}"]) == set(), "it is no longer needed"


def test_a_worker_that_died_right_after_the_answer_had_kept_the_receipt(
    alert: Alert, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def answered(self: Any, message: Any) -> None:
        tries.append(message.ident)
        act = http._answered.get()
        assert act is not None
        act()
        raise Killed

    monkeypatch.setattr(Webhook, "send", answered)
    with pytest.raises(Killed):
        worker.deliver_alerts()
    time.to(Alert.objects.get(pk=alert.pk).due_at)
    assert worker.deliver_alerts().sent == 1
    assert len(tries) == 1


def test_without_redis_it_is_sent_again(
    alert: Alert, sent: list[str], time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("no Redis")

    monkeypatch.setattr(receipts, "_store", Away)
    dies(monkeypatch)
    alert.refresh_from_db()
    time.to(alert.due_at)
    assert worker.deliver_alerts().sent == 1
    assert len(sent) == 2


def test_a_message_that_was_not_taken_has_no_receipt(
    alert: Alert, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(self: Any, message: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(Webhook, "send", silent)
    worker.deliver_alerts()
    assert receipts.found([f"a_{alert.pk}"]) == set()


TEAMS_REFUSES = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429"
"""With the status 200: https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using"""


def test_a_message_that_a_provider_refuses_in_the_body_of_a_200_has_no_receipt(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = User.objects.create(username="ann")
    with providers() as far:
        here = egress.Rules(schemes=("http",), ports=(far.port,), admits=lambda address: True)
        monkeypatch.setattr(teams, "RULES", here)
        make.webhook(ann, far.address("teams"), "teams")
        record("kill_switch.pulled", ann, owner_id=ann.pk)
        alerts.write()
        far.faults = [Fault(200, TEAMS_REFUSES)]
        result = worker.deliver_alerts()
        alert = Alert.objects.get(channel="teams")
        assert (result.later, alert.state) == (1, "pending")
        assert receipts.found([f"a_{alert.pk}"]) == set()
        assert not far.came

        time.to(alert.due_at)
        assert worker.deliver_alerts().sent == 1
        assert [channel for channel, _ in far.came] == ["teams"]
