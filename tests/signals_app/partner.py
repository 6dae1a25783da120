"""A program of somebody else that sends us signed posts; it shares no code with what verifies them."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import Client

from agents.models import CtAccount
from maxxit.core import clock
from signals_app.policy import policy
from signals_app.sources.inbound import InboundSource

SECRET, PREVIOUS = "s3cret-of-the-partner-0123456789abcdef", "the-secret-before-0123456789abcdefghij"
PATH = "/api/sources/partner/posts"


class Partner:
    """The sender."""

    def __init__(self) -> None:
        self.client = Client(REMOTE_ADDR="198.51.100.7")

    def source(self) -> InboundSource:
        return InboundSource(name="partner", secret_env="PARTNER_SECRET", per_minute=40)

    def posts(self, *, secret: str = SECRET, age: int = 0, path: str = PATH, **body: Any) -> Any:
        """Send one post, signed `age` seconds ago."""
        return self.sends(json.dumps(body).encode(), secret=secret, age=age, path=path)

    def sends(
        self, raw: bytes, *, secret: str = SECRET, age: int = 0, path: str = PATH, header: str = ""
    ) -> Any:
        at = int(clock.now().timestamp()) - age
        mac = hmac.new(secret.encode(), str(at).encode() + b"." + raw, hashlib.sha256).hexdigest()
        headers = {"X-Maxxit-Signature": header or f"t={at},v1={mac}"}
        return self.client.post(path, raw, content_type="application/json", headers=headers)


@contextmanager
def partner(*accounts: str) -> Iterator[Partner]:
    """A sender whose source is configured, with these accounts."""
    stanza = {"adapter": "inbound", "secret_env": "PARTNER_SECRET", "per_minute": 40}
    ingest = policy().ingest.model_copy(update={"sources": {"partner": stanza}})
    changed = policy().model_copy(update={"ingest": ingest})
    for name in accounts:
        CtAccount.objects.create(x_username=name, source="partner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTNER_SECRET", SECRET)
        for module in ("signals_app.tasks", "signals_app.sources.configured"):
            patch.setattr(f"{module}.policy", lambda: changed)
        yield Partner()
