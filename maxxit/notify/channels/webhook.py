"""Webhook channel: a signed POST to the user's https URL.

Signed as `maxxit.core.signing` says, with the endpoint's secret; `X-Maxxit-Delivery` is the same for every try.
"""

import json

from maxxit.core import clock, egress
from maxxit.core.errors import Rejected
from maxxit.core.signing import signature
from maxxit.notify.channels import outbound
from maxxit.notify.channels.base import GONE, AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS

RULES = egress.Rules(max_seconds=SEND_SECONDS)
"""https on port 443, public addresses only."""


class Webhook(Channel):
    title = "Webhook"
    about = "A signed POST of JSON to a server of yours."
    form = AddressField(
        "URL",
        "https on port 443, at a public address. It replaces the present one.",
        "https://hooks.example.com/maxxit",
        "url",
    )
    signs = True

    def verify(self, address: str) -> str:
        return outbound.verified(address, RULES)

    def shown(self, address: str) -> str:
        return outbound.shown(address)

    def send(self, message: Message) -> None:
        """POST to the address that was checked. A status below 300 is a success; other 4xx are never retried."""
        payload = {
            "id": message.ident,
            "type": message.name,
            "at": message.at,
            "text": message.text,
            "data": message.data,
        }
        body = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
        headers = {
            "content-type": "application/json",
            "x-maxxit-delivery": message.ident,
            "x-maxxit-signature": signature(message.secret, int(clock.now().timestamp()), body),
        }
        try:
            outbound.post(message.address, RULES, content=body, headers=headers)
        except Rejected as error:
            if error.code == "http_410":
                raise Rejected(str(error), code=GONE) from error
            raise
