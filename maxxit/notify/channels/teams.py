"""Microsoft Teams channel: the webhook of a workflow ("Post to a channel when a webhook request is received").

It takes an Adaptive Card and answers 202. Connectors of the old kind answer 200 with the error in the text.
"""

from typing import Any

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable
from maxxit.notify.channels import outbound
from maxxit.notify.channels.base import AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS

RULES = egress.Rules(
    max_seconds=SEND_SECONDS,
    hosts=(".logic.azure.com", ".api.powerplatform.com", ".webhook.office.com"),
)
MAX_TEXT = 5000
"""Characters; Teams refuses a card above 28 KB."""
COLOURS = {"info": "Default", "warning": "Warning", "critical": "Attention"}
OLD_ERROR = "endpoint returned HTTP error "


def body_of(message: Message) -> dict[str, Any]:
    """Return the JSON of a message: one Adaptive Card, whose texts are not read as Markdown links."""
    texts: list[dict[str, Any]] = [
        {"text": message.title, "weight": "Bolder", "color": COLOURS[message.severity]},
        {"text": message.text[:MAX_TEXT]},
        {"text": f"Maxxit · {message.at}", "isSubtle": True, "size": "Small"},
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "RichTextBlock", "inlines": [{"type": "TextRun"} | text]}  # a TextBlock reads Markdown
            for text in texts
        ],
    }
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }


class Teams(Channel):
    title = "Microsoft Teams"
    about = "A card in a channel or chat of Teams."
    form = AddressField(
        "Webhook URL",
        "Of a workflow that posts when a webhook request is received. It is stored encrypted and not shown again.",
        "https://….logic.azure.com/workflows/…",
        "url",
    )
    refuses_in_body = True

    def verify(self, address: str) -> str:
        return outbound.verified(address, RULES)

    def shown(self, address: str) -> str:
        return outbound.shown(address)

    def send(self, message: Message) -> None:
        answer = outbound.post_json(message.address, RULES, body_of(message), gone=("http_404", "http_410"))
        if OLD_ERROR in answer.text:
            status = answer.text.split(OLD_ERROR, 1)[1][:3]
            if status == "429" or status.startswith("5"):
                raise Retryable(f"Teams answered {status} in the text of a 200", limited=status == "429")
            raise Rejected(f"Teams answered {status} in the text of a 200", code=f"http_{status}")
