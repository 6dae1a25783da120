"""What every notification channel must do. A new channel enrols with one line in `CHANNELS`.

The retries, claims and circuit breaker around the channels are in `tests/notify`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.notify.channels import CHANNELS as REGISTRY
from maxxit.notify.channels import discord, push, slack, teams, webhook
from maxxit.notify.channels.base import GONE, Channel, Message
from tests.notify.providers import (
    PATHS,
    TOKEN,
    Fault,
    MailServer,
    Providers,
    gone,
    mail_server,
    providers,
    rate_limited,
)

CHANNELS: dict[str, ModuleType | None] = {
    "inbox": None,
    "log": None,
    "webhook": webhook,
    "slack": slack,
    "teams": teams,
    "discord": discord,
    "push": push,
    "telegram": None,
    "email": None,
    "apprise": None,
}
"""Name -> its module where it sends to a URL of the user within the limits `RULES` of that module; else None."""
BY_URL = [name for name, module in CHANNELS.items() if module is not None]
BY_HTTP = [*BY_URL, "telegram"]
WITH_ADDRESS = [*BY_HTTP, "email", "apprise"]
SENDING = [name for name in CHANNELS if name != "apprise"]
"""Apprise sends in tests/conformance/apprise_services.py, where the library is."""
SECRETS = {name: path.rsplit("/", 1)[-1].rsplit("=", 1)[-1] for name, path in PATHS.items()} | {
    "telegram": TOKEN
}
"""The part of an address that lets one send there."""


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[Providers]:
    """The providers, reached in spite of the rules, which admit neither http nor loopback."""
    with providers() as one:
        reach(one, monkeypatch)
        yield one


def reach(one: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    here = egress.Rules(schemes=("http",), ports=(one.port,), max_seconds=2, admits=lambda address: True)
    for module in filter(None, CHANNELS.values()):
        monkeypatch.setattr(module, "RULES", here)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv("TELEGRAM_BASE_URL", one.url)
    monkeypatch.setenv("PUSH_PRIVATE_KEY", push.new_key()[0])


@pytest.fixture
def mail(settings: Any) -> Iterator[MailServer]:
    with mail_server() as one:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", one.port
        yield one


def message(address: str = "", **values: Any) -> Message:
    given: dict[str, Any] = {
        "ident": "d_1",
        "name": "rule.matched",
        "at": "2026-03-02T00:00:00+00:00",
        "user": "ann",
        "text": "BTC is at 71000 USD (price above 70000 USD)",
        "data": {"symbol": "BTC", "price": "71000"},
        "address": address,
        "secret": "mxw_secret",
        "title": "Price rule",
        "unsubscribe": "https://maxxit.example/unsubscribe/5:abc",
    }
    return Message(**given | values)


def opened(name: str) -> Channel:
    return REGISTRY.open(name)


def test_every_channel_is_enrolled() -> None:
    assert set(CHANNELS) == set(REGISTRY)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_says_whether_it_needs_an_address_and_has_a_test_message(name: str) -> None:
    channel = opened(name)
    assert (channel.form is not None) is (name in WITH_ADDRESS)
    assert channel.title
    assert channel.about.endswith(".")
    assert "ann" in channel.test_text("ann")


@pytest.mark.parametrize("name", SENDING)
@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_a_message_is_sent_on_a_thread_without_the_database(
    name: str, severity: str, far: Providers, mail: MailServer
) -> None:
    """This test asks for no database: pytest-django refuses any query."""
    address = "ann@example.org" if name == "email" else far.address(name) if name in BY_HTTP else ""
    channel = opened(name)
    stored = channel.verify(address) if channel.form else address
    with ThreadPoolExecutor(1) as pool:
        pool.submit(channel.send, message(stored, severity=severity)).result()

    assert [to for to, _ in far.came] == ([name] if name in BY_HTTP else [])
    assert all("BTC is at 71000 USD" in str(said) for _, said in far.came)
    assert len(mail.mails) == (1 if name == "email" else 0)


@pytest.mark.parametrize("name", BY_HTTP)
@pytest.mark.parametrize(
    "text", ["<b>&amp; <!channel> @everyone [x](http://y) \U0001f600 " * 300, "x" * 20_000]
)
def test_a_long_or_strange_text_is_taken_within_the_providers_limits(
    name: str, text: str, far: Providers
) -> None:
    opened(name).send(message(far.address(name), text=text, title="<Title & more>"))
    assert len(far.came) == 1


@pytest.mark.parametrize("name", WITH_ADDRESS)
@pytest.mark.parametrize(
    "address",
    [
        "",
        "pigeon",
        "https://127.0.0.1/",
        "https://user@93.184.216.34/",
        "http://hooks.slack.com/services/x",
        "0",
        "{}",
    ],
)
def test_an_address_that_can_never_be_sent_to_is_refused(name: str, address: str) -> None:
    with pytest.raises(Rejected):
        opened(name).verify(address)


@pytest.mark.parametrize("name", [name for name in BY_URL if name != "webhook"])
@pytest.mark.parametrize(
    "host", ["example.org", "hooks.slack.com.example.org", "evil-discord.com", "logic.azure.com.example.org"]
)
def test_a_channel_of_one_provider_posts_to_no_other_host(name: str, host: str) -> None:
    url = f"https://{host}/api/webhooks/1/x"
    with providers() as one, pytest.raises(Rejected, match="the host must be"):
        opened(name).verify(one.browser.subscription(url) if name == "push" else url)


@pytest.mark.parametrize("name", BY_URL)
def test_what_people_see_of_an_address_lets_nobody_send_there(name: str, far: Providers) -> None:
    channel = opened(name)
    assert SECRETS[name] not in channel.shown(channel.verify(far.address(name)))
    assert "127.0.0.1" in channel.shown(channel.verify(far.address(name)))


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (name, status)
        for name in BY_HTTP
        for status in (0, 408, 429, 500, 502, 503)
        if (name, status) != ("telegram", 408)  # Telegram has none
    ],
)
def test_a_provider_that_fails_now_is_tried_again(name: str, status: int, far: Providers) -> None:
    far.faults = [Fault(status, f"failed {SECRETS[name]}")]
    with pytest.raises((Retryable, Unknown)) as error:
        opened(name).send(message(far.address(name)))
    assert SECRETS[name] not in str(error.value)


@pytest.mark.parametrize("name", BY_HTTP)
def test_a_rate_limit_says_how_long_to_wait(name: str, far: Providers) -> None:
    far.faults = [rate_limited(name, 7)]
    with pytest.raises(Retryable) as error:
        opened(name).send(message(far.address(name)))
    assert (error.value.after, error.value.limited) == (7, True)


@pytest.mark.parametrize("name", BY_HTTP)
def test_a_provider_that_is_silent_is_left_in_time(
    name: str, far: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxxit.notify.channels.telegram.SEND_SECONDS", 0.3)
    module = CHANNELS[name]
    if module is not None:
        here = egress.Rules(
            schemes=("http",), ports=(far.port,), max_seconds=0.3, admits=lambda address: True
        )
        monkeypatch.setattr(module, "RULES", here)
    far.seconds = {name: 1.5}
    with pytest.raises(Retryable):
        opened(name).send(message(far.address(name)))


@pytest.mark.parametrize("name", BY_HTTP)
def test_an_address_that_is_no_more_is_removed(name: str, far: Providers) -> None:
    far.faults = [gone(name)]
    with pytest.raises(Rejected) as error:
        opened(name).send(message(far.address(name)))
    assert error.value.code == GONE


@pytest.mark.parametrize("name", BY_HTTP)
@pytest.mark.parametrize("status", [400, 405, 413])
def test_a_provider_that_refuses_is_not_tried_again(name: str, status: int, far: Providers) -> None:
    far.faults = [Fault(status, f"refused {PATHS.get(name, TOKEN)}")]
    with pytest.raises(Rejected) as error:
        opened(name).send(message(far.address(name)))
    assert error.value.code != GONE
    assert SECRETS[name] not in str(error.value)
    assert len(far.tries) == 1


@pytest.mark.parametrize("name", BY_HTTP)
def test_a_provider_that_is_away_is_tried_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with providers() as far:
        reach(far, monkeypatch)
        address = far.address(name)
    with pytest.raises((Retryable, Unknown)) as error:
        opened(name).send(message(address))
    assert SECRETS[name] not in str(error.value)
