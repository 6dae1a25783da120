"""One POST to a URL that a user named: the SSRF-safe rules of `maxxit.core.egress`, one deadline, no redirects.

The URL itself is a secret (its path holds a token), so no error quotes more of it than its host.
"""

import json
import re
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.http import Response, client, fetch
from maxxit.core.redact import MASK
from maxxit.notify.channels.base import GONE

MAX_ANSWER = 65_536
"""Bytes of a receiver's answer."""
MAY_WORK_LATER = frozenset({"http_408", "http_409", "http_425"})
_TOKEN = re.compile(r"[^/?&=]{8,}")


def verified(url: str, rules: egress.Rules) -> str:
    """Return the URL. Raises Rejected unless `rules` admit it and its host is public."""
    egress.locate(egress.parse(url, rules), rules, rules.max_seconds)
    return url


def shown(url: str) -> str:
    """Return the host of a URL and the end of its path: `hooks.slack.com/…AbCd`."""
    target = egress.parse(url, egress.Rules(schemes=("https", "http"), ports=tuple(range(1, 65536))))
    end = target.path.rstrip("/")[-4:] if len(target.path) > 12 else ""
    return f"{target.host}/…{end}"


def post(url: str, rules: egress.Rules, *, content: bytes, headers: dict[str, str]) -> Response:
    """POST `content` to the public address of `url`; return an answer below 300.

    Raises Retryable where it may work later (also a timeout: receivers drop duplicates), Rejected otherwise.
    """
    deadline = time.monotonic() + rules.max_seconds
    target = egress.parse(url, rules)
    address = egress.locate(target, rules, rules.max_seconds)
    left = max(deadline - time.monotonic(), 0.01)
    host = f"[{address}]" if ":" in address else address
    sent: dict[str, Any] = {"host": target.authority, "user-agent": "maxxit-notify/1"} | headers
    # Errors quote this base URL, which has no path: a path may contain a token.
    base_url = f"{target.scheme}://{host}:{target.port}"
    with client(base_url, timeout=left, trust_env=False) as http, egress.close_after(left) as trace:
        try:
            answer = fetch(
                http, "POST", target.path, writes=True, max_body=MAX_ANSWER, max_seconds=left,
                content=content, headers=sent, extensions={"sni_hostname": target.host, "trace": trace},
            )  # fmt: skip
        except (Unknown, Retryable) as error:
            raise Retryable(
                f"{target.host}: {_without_tokens(str(error), target.path)}",
                after=getattr(error, "after", None),
                limited=getattr(error, "limited", False),
                body=getattr(error, "body", ""),
            ) from None
        except Rejected as error:
            text = f"{target.host}: {_without_tokens(str(error), target.path)}"
            if error.code in MAY_WORK_LATER:
                raise Retryable(text) from None
            raise Rejected(text, code=error.code, body=error.body) from None
    if answer.status_code >= 300:
        raise Rejected(
            f"{target.host} answered {answer.status_code}: redirects are not followed", code="redirected"
        )
    return answer


def post_json(
    url: str,
    rules: egress.Rules,
    body: Mapping[str, Any],
    *,
    gone: Collection[str] = (),
    gone_texts: Collection[str] = (),
) -> Response:
    """POST `body` as JSON. A refusal gets the code GONE if its code is in `gone` or its body has one of `gone_texts`.

    Raises what `post` raises.
    """
    try:
        return post(
            url, rules, content=json.dumps(body).encode(), headers={"content-type": "application/json"}
        )
    except Rejected as error:
        if error.code in gone or any(text in error.body for text in gone_texts):
            raise Rejected(str(error), code=GONE) from error
        raise


def _without_tokens(text: str, path: str) -> str:
    """Mask the parts of `path` in what a server says: some quote the URL that they refuse."""
    for part in _TOKEN.findall(path):
        for spelling in {part, unquote(part)}:
            text = text.replace(spelling, MASK)
    return text
