"""Slack channel: an incoming webhook of the user's workspace (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).

Slack answers 200 `ok`. 403 invalid_token, 404 and 410 say that the webhook or its channel is gone.
"""

from typing import Any

from maxxit.core import egress
from maxxit.notify.channels import outbound
from maxxit.notify.channels.base import AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS

RULES = egress.Rules(max_seconds=SEND_SECONDS, hosts=("hooks.slack.com", "hooks.slack-gov.com"))
MAX_TEXT = 3000
"""Characters of a section."""
MARKS = {"info": "ℹ️", "warning": "⚠️", "critical": "🚨"}  # noqa: RUF001  # the sign that is meant


def escape(text: str) -> str:
    """Return `text` so that Slack shows it as it is: `<…>` would be a link or mention everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def body_of(message: Message) -> dict[str, Any]:
    """Return the JSON of a message: a text for the notification, blocks for the conversation."""
    text = f"{MARKS[message.severity]} *{escape(message.title)}*\n{escape(message.text)}"
    return {
        "text": f"{message.title}: {message.text}"[:MAX_TEXT],
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": text[:MAX_TEXT]}},
            {"type": "context", "elements": [{"type": "plain_text", "text": f"Maxxit · {message.at}"}]},
        ],
    }


class Slack(Channel):
    title = "Slack"
    about = "A message in a conversation of your Slack workspace."
    form = AddressField(
        "Webhook URL",
        "Of an incoming webhook: in Slack, Apps, Incoming Webhooks. It is stored encrypted and not shown again.",
        "https://hooks.slack.com/services/…",
        "url",
    )

    def verify(self, address: str) -> str:
        return outbound.verified(address, RULES)

    def shown(self, address: str) -> str:
        return outbound.shown(address)

    def send(self, message: Message) -> None:
        body, gone = body_of(message), ("http_404", "http_410")
        outbound.post_json(message.address, RULES, body, gone=gone, gone_texts=("invalid_token",))
