"""Requests to AWS's JSON services, signed with signature version 4, under the credentials of this process.

Region and credentials have AWS's own variables: `AWS_REGION`; `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` (or
`AWS_SECRET_ACCESS_KEY_FILE`) and `AWS_SESSION_TOKEN`, or those that ECS and EKS Pod Identity give by
`AWS_CONTAINER_CREDENTIALS_FULL_URI` (or `…_RELATIVE_URI`). `AWS_ENDPOINT_URL_SECRETS_MANAGER` and
`AWS_ENDPOINT_URL_KMS` are other addresses of the services, such as private endpoints.
"""

import hmac
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

from maxxit.core import clock, redact
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.core.http import client, fetch
from maxxit.core.secret_files import secret

CONTAINER_HOST = "http://169.254.170.2"
"""Of relative addresses of credentials, in ECS."""
CREDENTIALS_SECONDS = 10.0
RENEW_BEFORE = timedelta(minutes=5)
"""Credentials that expire sooner than that are asked for again."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key of AWS."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expires: datetime | None = None
    """When a container's credentials expire; None where they do not, or where nobody said."""

    def usable_at(self, moment: datetime) -> bool:
        """Return whether they are valid for some minutes more."""
        return self.expires is None or moment < self.expires - RENEW_BEFORE


class JsonService:
    """One service of AWS in one region. Safe for several threads; each request has a connection of its own."""

    def __init__(self, service: str, *, region: str, endpoint: str = "", seconds: float) -> None:
        """`service`: its name in signatures; `endpoint`: another address than AWS's; `seconds`: for each answer.

        Raises Misconfigured where the address is neither https nor on this machine.
        """
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        self.url = (endpoint or f"https://{service}.{region}.{suffix}").rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise Misconfigured(f"the address {self.url} of AWS's {service} must begin with https://")
        self.service, self.region, self.seconds = service, region, seconds
        self._credentials: Credentials | None = None
        self._lock = threading.Lock()

    def call(self, target: str, body: Mapping[str, str]) -> dict[str, Any]:
        """Ask for one operation and return its answer. `target`: such as `secretsmanager.GetSecretValue`.

        Raises Misconfigured without credentials, and as `maxxit.core.http.fetch`, for an answer that is no JSON object
        Retryable.
        """
        content = json.dumps(dict(body)).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        signed = sign(
            "POST", f"{self.url}/", headers, content, self._current(), self.region, self.service, clock.now()
        )
        with client(self.url, headers=signed, timeout=self.seconds) as http:
            response = fetch(http, "POST", "/", content=content, max_seconds=self.seconds)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Retryable(f"{urlsplit(self.url).hostname} gave no JSON object for {target}")
        return answer

    def forget_credentials(self) -> None:
        """Ask for credentials again before the next request."""
        with self._lock:
            self._credentials = None

    def _current(self) -> Credentials:
        with self._lock:
            if self._credentials is None or not self._credentials.usable_at(clock.now()):
                self._credentials = credentials()
            return self._credentials


def region() -> str:
    """Return the region of this process. Raises Misconfigured where none is set."""
    found = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
    if not found:
        raise Misconfigured("set AWS_REGION")
    return found


def credentials() -> Credentials:
    """Return the credentials of this process. Raises Misconfigured where there are none."""
    access, key = os.environ.get("AWS_ACCESS_KEY_ID", ""), secret("AWS_SECRET_ACCESS_KEY")
    if access and key:
        return Credentials(access, key, os.environ.get("AWS_SESSION_TOKEN", ""))
    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
    url = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "") or (relative and CONTAINER_HOST + relative)
    if not url:
        raise Misconfigured("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the container a role")
    token = secret("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    headers = {"Authorization": token} if token else {}
    with client(headers=headers, timeout=CREDENTIALS_SECONDS, trust_env=False) as http:
        given = fetch(http, "GET", url, max_seconds=CREDENTIALS_SECONDS).json()
    redact.know(given["SecretAccessKey"])
    return Credentials(
        given["AccessKeyId"],
        given["SecretAccessKey"],
        given.get("Token", ""),
        _moment(given.get("Expiration")),
    )


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def sign(
    method: str, url: str, headers: Mapping[str, str], body: bytes, who: Credentials, region: str, service: str,
    at: datetime,
) -> dict[str, str]:  # fmt: skip
    """Return the headers of a request with its signature, version 4."""
    parts, stamp = urlsplit(url), f"{at:%Y%m%dT%H%M%SZ}"
    signed = {**headers, "Host": parts.netloc, "X-Amz-Date": stamp}
    if who.session_token:
        signed["X-Amz-Security-Token"] = who.session_token
    canonical = {name.lower(): " ".join(value.split()) for name, value in signed.items()}
    names = ";".join(sorted(canonical))
    request = "\n".join([
        method, quote(parts.path or "/", safe="/~"), parts.query,
        *(f"{name}:{canonical[name]}" for name in sorted(canonical)), "", names, sha256(body).hexdigest(),
    ])  # fmt: skip
    scope = f"{at:%Y%m%d}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, sha256(request.encode()).hexdigest()])
    key = f"AWS4{who.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), sha256)
    signature = hmac.digest(key, text.encode(), sha256).hex()
    credential = f"Credential={who.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return signed | {"Authorization": f"AWS4-HMAC-SHA256 {credential}"}
