"""The e-mail channel against a real SMTP server (aiosmtpd): text and HTML, unsubscribe headers, the server's errors."""

from collections.abc import Iterator
from typing import Any

import pytest

from maxxit.core.errors import Rejected, Retryable
from maxxit.notify.channels.base import GONE, Message
from maxxit.notify.channels.email import Email
from tests.notify.providers import MailServer, mail_server

LINK = "https://maxxit.example/unsubscribe/5:abc"


@pytest.fixture
def mail(settings: Any) -> Iterator[MailServer]:
    with mail_server() as one:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", one.port
        settings.DEFAULT_FROM_EMAIL = "Maxxit <notifications@maxxit.example>"
        yield one


def message(**values: Any) -> Message:
    given: dict[str, Any] = {
        "ident": "a_7", "name": "kill_switch.pulled", "at": "2026-03-02T00:00:00+00:00", "user": "ann",
        "text": "Stopped: <script>1</script>", "data": {}, "address": "ann@example.org",
        "title": "An account\nis stopped",
        "severity": "critical", "unsubscribe": LINK,
    }  # fmt: skip
    return Message(**given | values)


def test_a_mail_has_text_and_html_and_unsubscribes_with_one_click(mail: MailServer) -> None:
    Email().send(message())
    (one,) = mail.mails
    assert (one["to"], one["from"]) == ("ann@example.org", "Maxxit <notifications@maxxit.example>")
    assert one["subject"] == "Maxxit: An account is stopped"
    assert one["list-unsubscribe"] == f"<{LINK}>"
    assert one["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert one["auto-submitted"] == "auto-generated"
    text, html = (part.get_content() for part in one.iter_parts())
    assert "<script>1</script>" in text
    assert LINK in text
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert f'href="{LINK}"' in html


def test_each_try_of_a_message_has_the_same_id(mail: MailServer) -> None:
    for _ in range(2):
        Email().send(message())
    Email().send(message(ident="a_8"))
    first, second, other = (one["message-id"] for one in mail.mails)
    assert first == second != other


@pytest.mark.parametrize(
    ("step", "answer", "error", "code"),
    [
        ("RCPT", "550 5.1.1 no such user", Rejected, GONE),
        ("RCPT", "554 5.7.1 blocked", Rejected, "refused"),
        ("RCPT", "450 4.2.1 mailbox busy", Retryable, None),
        ("DATA", "552 5.3.4 too big", Rejected, "refused"),
        ("DATA", "451 4.3.0 try later", Retryable, None),
    ],
)
def test_the_servers_answer_decides_whether_it_is_tried_again(
    mail: MailServer, step: str, answer: str, error: type[Exception], code: str | None
) -> None:
    mail.refuses = {step: answer}
    with pytest.raises(error) as raised:
        Email().send(message())
    assert getattr(raised.value, "code", None) == code
    assert not mail.mails


def test_a_server_that_is_away_or_not_set_is_tried_again(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = ""
    with pytest.raises(Retryable, match="EMAIL_URL is not set"):
        Email().send(message())
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    with pytest.raises(Retryable, match="ConnectionRefusedError"):
        Email().send(message())


@pytest.mark.parametrize(
    "address", ["ann@example.org\nBcc: all@example.org", "ann", "a@b", "ann@example.org, bob@example.org"]
)
def test_one_address_is_taken_and_no_header(address: str) -> None:
    with pytest.raises(Rejected):
        Email().verify(address)
