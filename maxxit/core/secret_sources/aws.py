"""AWS Secrets Manager. `aws:SECRET-ID#FIELD` of a secret that is a JSON object, `aws:SECRET-ID` of one that is text.

Region and credentials have AWS's own variables: `AWS_REGION`; `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
`AWS_SESSION_TOKEN`, or those that ECS and EKS Pod Identity give by `AWS_CONTAINER_CREDENTIALS_FULL_URI` (or
`…_RELATIVE_URI`). `AWS_ENDPOINT_URL_SECRETS_MANAGER` is another address, such as a private endpoint.
"""

import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote, urlsplit

from maxxit.core import clock, redact
from maxxit.core.errors import Misconfigured
from maxxit.core.http import client, fetch
from maxxit.core.secret_files import secret

SECONDS = 10.0
SERVICE = "secretsmanager"
CONTAINER_HOST = "http://169.254.170.2"
"""Of relative addresses of credentials, in ECS."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key of AWS."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class SecretsManager:
    """Reads the current version of a secret."""

    def read(self, place: str) -> Mapping[str, str]:
        """Return the members of a JSON object, or the whole text under an empty name."""
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
        if not region:
            raise Misconfigured("set AWS_REGION")
        own = os.environ.get("AWS_ENDPOINT_URL_SECRETS_MANAGER", "")
        url = (own or f"https://{SERVICE}.{region}.amazonaws.com").rstrip("/")
        body = json.dumps({"SecretId": place}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{SERVICE}.GetSecretValue"}
        signed = sign("POST", f"{url}/", headers, body, credentials(), region, SERVICE, clock.now())
        with client(url, headers=signed, timeout=SECONDS) as http:
            answer = fetch(http, "POST", "/", content=body, max_seconds=SECONDS).json()
        text = str(answer.get("SecretString", ""))
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        return (
            {str(name): str(value) for name, value in found.items()}
            if isinstance(found, dict)
            else {"": text}
        )


def credentials() -> Credentials:
    """Return the credentials of this process. Raises Misconfigured where there are none."""
    access, key = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    if access and key:
        redact.know(key)
        return Credentials(access, key, os.environ.get("AWS_SESSION_TOKEN", ""))
    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
    url = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "") or (relative and CONTAINER_HOST + relative)
    if not url:
        raise Misconfigured("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the container a role")
    token = secret("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    with client(headers={"Authorization": token} if token else {}, timeout=SECONDS, trust_env=False) as http:
        given = fetch(http, "GET", url, max_seconds=SECONDS).json()
    redact.know(given["SecretAccessKey"])
    return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given.get("Token", ""))


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
