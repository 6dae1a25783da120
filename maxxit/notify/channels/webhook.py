"""Webhook channel: a signed POST to the user's https URL.

`X-Maxxit-Signature: t=<unix seconds>,v1=<hex>` where v1 is HMAC-SHA256 of `<t>.<body>` with the endpoint's secret.
Receivers recompute it, reject an old `t`, and ignore an `X-Maxxit-Delivery` that they have seen.
"""

import hashlib
import hmac
import json
import time

from maxxit.core import clock, egress
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.http import client, fetch
from maxxit.notify.channels.base import AddressField, Message
from maxxit.notify.policy import SEND_SECONDS

MAX_ANSWER = 65_536
"""Bytes of a receiver's answer, which is not used."""
RULES = egress.Rules(max_seconds=SEND_SECONDS)
"""https on port 443, public addresses only."""
MAY_WORK_LATER = frozenset({"http_408", "http_409", "http_425"})


def signature(secret: str, at: int, body: bytes) -> str:
    """Return the signature header; `at` is the time of sending in Unix seconds."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Webhook:
    title = "Webhook"
    about = "A signed POST of JSON to a server of yours."
    offered, signs = True, True
    address_field = AddressField(
        "URL",
        "https on port 443, at a public address. It replaces the present one.",
        "https://hooks.example.com/maxxit",
        "url",
    )

    def check(self, address: str) -> None:
        """Raise Rejected unless the URL is https at a public address."""
        egress.locate(egress.parse(address, RULES), RULES, RULES.max_seconds)

    def send(self, message: Message) -> None:
        """POST to the address that was checked. A status below 300 is a success; other 4xx are never retried."""
        deadline = time.monotonic() + RULES.max_seconds
        target = egress.parse(message.address, RULES)
        address = egress.locate(target, RULES, RULES.max_seconds)
        left = max(deadline - time.monotonic(), 0.01)
        shown = f"[{address}]" if ":" in address else address
        payload = {
            "id": message.ident,
            "type": message.name,
            "at": message.at,
            "text": message.text,
            "data": message.data,
        }
        body = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
        headers = {
            "host": target.authority,
            "content-type": "application/json",
            "user-agent": "maxxit-notify/1",
            "x-maxxit-delivery": message.ident,
            "x-maxxit-signature": signature(message.secret, int(clock.now().timestamp()), body),
        }
        # Errors quote this URL, which has no path: a path may contain a token.
        base_url = f"{target.scheme}://{shown}:{target.port}"
        with client(base_url, timeout=left, trust_env=False) as http, egress.close_after(left) as trace:
            try:
                answer = fetch(
                    http, "POST", target.path, writes=True, max_body=MAX_ANSWER, max_seconds=left,
                    content=body, headers=headers, extensions={"sni_hostname": target.host, "trace": trace},
                )  # fmt: skip
            except Unknown as error:  # safe to send again: receivers drop duplicates
                raise Retryable(f"{target.host}: {error}") from error
            except Rejected as error:
                if error.code in MAY_WORK_LATER:
                    raise Retryable(f"{target.host}: {error}") from error
                raise
        if answer.status_code >= 300:
            raise Rejected(
                f"{target.host} answered {answer.status_code}: redirects are not followed", code="redirected"
            )
