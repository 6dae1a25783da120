"""Discord channel: a webhook of a channel on the user's server, https://docs.discord.com/developers/resources/webhook

Discord answers 204. 404 (10015, unknown webhook) and 401 (50027, invalid token) say that the webhook is gone; 429 says
in its JSON how many seconds to wait.
"""

from typing import Any

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable
from maxxit.core.untrusted import loads
from maxxit.notify.channels import outbound
from maxxit.notify.channels.base import AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS

RULES = egress.Rules(max_seconds=SEND_SECONDS, hosts=("discord.com", "discordapp.com"))
MAX_TEXT = 2000
"""Characters of `content`."""
MAX_WAIT = 3600.0
"""Seconds."""
COLOURS = {"info": 0x3B82F6, "warning": 0xF59E0B, "critical": 0xDC2626}


def body_of(message: Message) -> dict[str, Any]:
    """Return the JSON of a message. `allowed_mentions` is empty: no text can notify everybody of a server."""
    return {
        "content": f"{message.title}: {message.text}"[:MAX_TEXT],
        "embeds": [
            {
                "title": message.title[:256],
                "description": message.text[:MAX_TEXT],
                "color": COLOURS[message.severity],
                "timestamp": message.at,
                "footer": {"text": "Maxxit"},
            }
        ],
        "allowed_mentions": {"parse": []},
    }


def wait_of(error: Retryable) -> float | None:
    """Return the wait in seconds that the JSON of a 429 names, else that of its headers."""
    try:
        seconds = loads(error.body)["retry_after"]
        return min(max(float(seconds), 0.0), MAX_WAIT)
    except (KeyError, TypeError, ValueError):
        return error.after


class Discord(Channel):
    title = "Discord"
    about = "A message in a channel of your Discord server."
    form = AddressField(
        "Webhook URL",
        "In Discord: Edit channel, Integrations, Webhooks. It is stored encrypted and not shown again.",
        "https://discord.com/api/webhooks/…",
        "url",
    )

    def verify(self, address: str) -> str:
        target = egress.parse(address, RULES)
        if RULES.hosts and not target.path.startswith("/api/"):
            raise Rejected("a Discord webhook's path begins with /api/webhooks/", code="bad_address")
        return outbound.verified(address, RULES)

    def shown(self, address: str) -> str:
        return outbound.shown(address)

    def send(self, message: Message) -> None:
        try:
            outbound.post_json(
                message.address, RULES, body_of(message), gone=("http_404",), gone_texts=("50027",)
            )
        except Retryable as error:
            raise Retryable(str(error), after=wait_of(error), limited=error.limited) from error
