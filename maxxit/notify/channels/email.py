"""E-mail channel: text and HTML by the SMTP server of the installation (`EMAIL_URL`), with a link that unsubscribes.

The header List-Unsubscribe-Post lets mail programs unsubscribe with one click (RFC 8058). Every try of a message has
the same Message-ID.
"""

import html
import smtplib
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.validators import validate_email

from maxxit.core.errors import Rejected, Retryable
from maxxit.notify.channels.base import GONE, AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS

GONE_CODES = frozenset({550, 551, 553})
"""The mailbox does not exist, or is not ours to write to."""
COLOURS = {"info": "#2563eb", "warning": "#b45309", "critical": "#b91c1c"}


def mail_of(message: Message, connection: Any = None) -> EmailMultiAlternatives:
    """Return the mail of a message."""
    host = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">")
    footer = f"\n\nUnsubscribe: {message.unsubscribe}\n" if message.unsubscribe else "\n"
    headers = {
        "Message-ID": f"<{message.ident}.{message.at.translate(_PLAIN)}@{host}>",
        "Auto-Submitted": "auto-generated",
    }
    if message.unsubscribe:
        headers |= {
            "List-Unsubscribe": f"<{message.unsubscribe}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
    mail = EmailMultiAlternatives(
        subject=" ".join(f"Maxxit: {message.title}".split())[:150],
        body=f"{message.text}\n\n{message.at}{footer}",
        to=[message.address],
        headers=headers,
        connection=connection,
    )
    link = html.escape(message.unsubscribe, quote=True)
    mail.attach_alternative(
        f'<h3 style="color:{COLOURS[message.severity]}">{html.escape(message.title)}</h3>'
        f"<p>{html.escape(message.text)}</p><p><small>{html.escape(message.at)}"
        + (f' · <a href="{link}">Unsubscribe</a>' if message.unsubscribe else "")
        + "</small></p>",
        "text/html",
    )
    return mail


_PLAIN = str.maketrans({"+": "", ":": "", "-": ""})


class Email(Channel):
    title = "E-mail"
    about = "A mail to an address of yours."
    form = AddressField("Address", "A code is sent there, which you enter here.", "you@example.com", "email")
    confirms = True

    def verify(self, address: str) -> str:
        try:
            validate_email(address.strip())
        except ValidationError:
            raise Rejected(f"{address[:80]!r} is no e-mail address", code="bad_address") from None
        return address.strip()

    def send(self, message: Message) -> None:
        if not settings.EMAIL_HOST:
            raise Retryable("EMAIL_URL is not set in the environment of the notify worker")
        try:
            with get_connection(timeout=SEND_SECONDS) as connection:
                mail_of(message, connection).send()
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            if code >= 500:
                raise Rejected(
                    f"the mail server refuses the address ({code})",
                    code=GONE if code in GONE_CODES else "refused",
                ) from None
            raise Retryable(f"the mail server takes nothing for the address now ({code})") from None
        except smtplib.SMTPAuthenticationError as error:
            raise Retryable(
                f"the mail server refuses our login ({error.smtp_code}): check EMAIL_URL"
            ) from None
        except smtplib.SMTPResponseException as error:
            if error.smtp_code >= 500:
                raise Rejected(
                    f"the mail server refuses the message ({error.smtp_code})", code="refused"
                ) from None
            raise Retryable(f"the mail server cannot take the message now ({error.smtp_code})") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Retryable(f"the mail server: {type(error).__name__}") from None
