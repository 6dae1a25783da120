"""A signed POST to a person's own https address.

`X-Maxxit-Signature: t=<unix seconds>,v1=<hex>` where v1 is HMAC-SHA256 of `<t>.<body>` with the endpoint's secret: a
receiver recomputes it, refuses an old `t`, and drops an `X-Maxxit-Delivery` that it has seen.
"""

import hashlib
import hmac
import json
import time

from maxxit.core import clock, egress
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.http import client, fetch
from maxxit.notify.channels.base import Message
from maxxit.notify.policy import SEND_SECONDS

MAX_ANSWER = 65_536
"""Bytes that a receiver may answer: nobody reads them."""
RULES = egress.Rules(max_seconds=SEND_SECONDS)
"""https on port 443, at an address that the whole world could call."""
MAY_WORK_LATER = frozenset({"http_408", "http_409", "http_425"})


def signature(secret: str, at: int, body: bytes) -> str:
    """The header's value; `at` is the moment of sending, seconds since 1970."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Webhook:
    needs_address = True

    def check(self, address: str) -> None:
        """https, and no address inside a private network."""
        egress.locate(egress.parse(address, RULES), RULES, RULES.max_seconds)

    def send(self, message: Message) -> None:
        """POST it to the very address that was checked. Any answer below 300 counts; other 4xx never will."""
        deadline = time.monotonic() + RULES.max_seconds
        target = egress.parse(message.address, RULES)
        address = egress.locate(target, RULES, RULES.max_seconds)
        left = max(deadline - time.monotonic(), 0.01)
        shown = f"[{address}]" if ":" in address else address
        said = {
            "id": message.ident,
            "type": message.name,
            "at": message.at,
            "text": message.text,
            "data": message.data,
        }
        body = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
        headers = {
            "host": target.authority,
            "content-type": "application/json",
            "user-agent": "maxxit-notify/1",
            "x-maxxit-delivery": message.ident,
            "x-maxxit-signature": signature(message.secret, int(clock.now().timestamp()), body),
        }
        place = (
            f"{target.scheme}://{shown}:{target.port}"  # errors name it, and never a path with a token in it
        )
        with client(place, timeout=left, trust_env=False) as http, egress.close_after(left) as trace:
            try:
                answer = fetch(
                    http, "POST", target.path, writes=True, max_body=MAX_ANSWER, max_seconds=left,
                    content=body, headers=headers, extensions={"sni_hostname": target.host, "trace": trace},
                )  # fmt: skip
            except Unknown as error:  # the receiver drops repetitions, so it may be sent again
                raise Retryable(f"{target.host}: {error}") from error
            except Rejected as error:
                if error.code in MAY_WORK_LATER:
                    raise Retryable(f"{target.host}: {error}") from error
                raise
        if answer.status_code >= 300:
            raise Rejected(
                f"{target.host} answered {answer.status_code}: redirects are not followed", code="redirected"
            )
