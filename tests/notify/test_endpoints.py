"""Addresses of users on channels: encrypted, confirmed by a code, removed when the provider says they are gone."""

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.contrib.auth.models import User
from django.db import connection

from maxxit import sealing
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.notify import endpoints, policy, trials, worker
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Alert, Endpoint
from tests.builders import RecordedClock
from tests.contracts.test_channels import BY_HTTP, SECRETS, reach
from tests.notify.providers import Fault, Providers, gone, providers, rate_limited

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    return User.objects.create_superuser("ann")


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[Providers]:
    every = policy.policy().model_copy(update={"offered": tuple(CHANNELS)})
    monkeypatch.setattr(endpoints, "policy", lambda: every)
    with providers() as one:
        reach(one, monkeypatch)
        yield one


def confirmed(ann: User, channel: str, address: str) -> Endpoint:
    endpoint = endpoints.set_endpoint(ann, channel, address)
    if endpoint.verified_at is None:
        endpoint = endpoints.confirm(ann, channel, endpoints.code_of(endpoint))
        Alert.objects.all().delete()
    return endpoint


@pytest.mark.parametrize("channel", BY_HTTP)
def test_an_address_is_encrypted_in_its_row_and_stands_in_no_event_or_alert(
    ann: User, far: Providers, channel: str, time: RecordedClock
) -> None:
    endpoint = confirmed(ann, channel, far.address(channel))
    trials.send_to_channel(ann, channel)
    worker.deliver()
    secret = SECRETS[channel] if channel != "telegram" else ""
    for table in ("notify_endpoints", "events", "alerts"):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT string_agg({table}::text, '') FROM {table}")
            text = cursor.fetchone()[0]
        assert endpoints.secret_of(endpoint) not in text
        if secret:
            assert secret not in text
            assert secret.encode().hex() not in text
    assert endpoints.open_address(endpoint)
    assert [name for name, _ in far.came] == [channel]


def test_a_process_with_the_public_key_stores_addresses_and_opens_none(
    ann: User, far: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = X25519PrivateKey.generate()
    monkeypatch.setenv("NOTIFY_PUBLIC_KEY", sealing.encode(key.public_key()))
    monkeypatch.delenv("NOTIFY_PRIVATE_KEY")
    endpoint = endpoints.set_endpoint(ann, "slack", far.address("slack"))
    with pytest.raises(Misconfigured, match="set NOTIFY_PRIVATE_KEY_FILE"):
        endpoints.open_address(endpoint)
    monkeypatch.setenv("NOTIFY_PRIVATE_KEY", sealing.encode(key))
    assert endpoints.open_address(endpoint) == far.address("slack")
    Endpoint.objects.update(salt="another")
    with pytest.raises(Misconfigured, match="belong to another account"):
        endpoints.open_address(Endpoint.objects.get())


def test_a_rotation_encrypts_every_address_again(
    ann: User, far: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = endpoints.set_endpoint(ann, "slack", far.address("slack"))
    monkeypatch.setenv("NOTIFY_PREVIOUS_PRIVATE_KEY", os.environ["NOTIFY_PRIVATE_KEY"])
    monkeypatch.setenv("NOTIFY_PRIVATE_KEY", sealing.encode(X25519PrivateKey.generate()))
    assert (endpoints.rotate(), endpoints.rotate()) == (1, 0)
    monkeypatch.delenv("NOTIFY_PREVIOUS_PRIVATE_KEY")
    assert endpoints.open_address(Endpoint.objects.get()) == far.address("slack")
    assert Endpoint.objects.get().key_id != endpoint.key_id


def test_nothing_but_the_code_goes_to_an_address_until_it_is_confirmed(
    ann: User, far: Providers, time: RecordedClock
) -> None:
    endpoint = endpoints.set_endpoint(ann, "telegram", far.address("telegram"))
    record("gate.closed", ann)
    with pytest.raises(Rejected, match="is not confirmed"):
        trials.send_to_channel(ann, "telegram")
    worker.deliver()
    ((_, said),) = far.came
    assert endpoints.code_of(endpoint) in said["text"]
    assert endpoints.code_of(endpoint) not in str(list(Event.objects.values_list("data", flat=True)))
    assert "code" not in worker.text_of(Alert.objects.get(channel="telegram")).lower().replace(
        "this code", ""
    )
    endpoints.confirm(ann, "telegram", f" {endpoints.code_of(endpoint)} ")
    record("gate.opened", ann)
    worker.deliver()
    assert "gate opened" in far.came[-1][1]["text"]
    with pytest.raises(Rejected, match="waits for a code"):
        endpoints.confirm(ann, "telegram", endpoints.code_of(endpoint))


def test_a_code_is_guessed_five_times_and_ends_after_half_an_hour(
    ann: User, far: Providers, time: RecordedClock
) -> None:
    endpoint = endpoints.set_endpoint(ann, "telegram", far.address("telegram"))
    wrong = f"{(int(endpoints.code_of(endpoint)) + 1) % 10**6:06}"
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(Rejected, match=f"{left} tries left"):
            endpoints.confirm(ann, "telegram", wrong)
    with pytest.raises(Rejected, match="set the address again"):
        endpoints.confirm(ann, "telegram", endpoints.code_of(endpoint))
    again = endpoints.set_endpoint(ann, "telegram", far.address("telegram"))
    assert endpoints.code_of(again) != endpoints.code_of(endpoint)
    time.move(minutes=31)
    with pytest.raises(Rejected, match="set the address again"):
        endpoints.confirm(ann, "telegram", endpoints.code_of(again))


def test_codes_to_strangers_are_limited(ann: User, far: Providers, time: RecordedClock) -> None:
    for number in range(endpoints.PER_HOUR):
        endpoints.set_endpoint(ann, "email", f"stranger{number}@example.org")
    with pytest.raises(Rejected, match="are the limit"):
        endpoints.set_endpoint(ann, "email", "one-more@example.org")
    assert endpoints.current(ann, "email").hint == f"stranger{endpoints.PER_HOUR - 1}@example.org"  # type: ignore[union-attr]


def test_a_channel_that_is_not_offered_takes_no_address(ann: User) -> None:
    for channel in ("email", "telegram", "push"):
        with pytest.raises(Rejected, match="does not offer"):
            endpoints.set_endpoint(ann, channel, "ann@example.org")


@pytest.mark.parametrize("channel", BY_HTTP)
def test_an_address_that_is_no_more_is_removed_and_its_user_told_in_the_inbox(
    ann: User, far: Providers, channel: str, time: RecordedClock
) -> None:
    confirmed(ann, channel, far.address(channel))
    record("gate.closed", ann)
    record("gate.opened", ann)
    far.faults = [gone(channel)]
    worker.deliver()
    assert endpoints.current(ann, channel) is None
    assert len(far.tries) == 1
    states = Alert.objects.filter(channel=channel).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["dead", "dead"]
    worker.deliver()
    told = Alert.objects.get(event__name="endpoint.gone")
    assert (told.channel, told.state) == ("inbox", "sent")
    assert SECRETS[channel] not in worker.text_of(told)


@pytest.mark.parametrize("channel", BY_HTTP)
def test_a_rate_limit_is_waited_for_and_nothing_is_lost(
    ann: User, far: Providers, channel: str, time: RecordedClock
) -> None:
    confirmed(ann, channel, far.address(channel))
    record("gate.closed", ann)
    far.faults = [rate_limited(channel, 40)]
    worker.deliver()
    row = Alert.objects.get(channel=channel)
    assert (row.state, row.due_at - time.now) == ("pending", timedelta(seconds=40))
    time.move(seconds=39)
    worker.deliver()
    assert len(far.tries) == 1
    time.move(seconds=2)
    worker.deliver()
    assert [name for name, _ in far.came] == [channel]
    assert row.attempts == 1


def test_no_error_of_a_provider_shows_an_address(
    ann: User, far: Providers, time: RecordedClock, caplog: Any
) -> None:
    confirmed(ann, "slack", far.address("slack"))
    record("gate.closed", ann)
    far.faults = [Fault(500, far.address("slack")), Fault(400, f"no {SECRETS['slack']}")]
    for _ in range(2):
        worker.deliver()
        time.move(minutes=1)
    row = Alert.objects.get(channel="slack")
    assert row.state == "dead"
    assert SECRETS["slack"] not in row.last_error + caplog.text
