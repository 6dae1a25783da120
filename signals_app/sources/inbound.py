"""Post source that others push to: a signed POST to /api/sources/<name>/posts (docs/sources.md).

    partner: {adapter: inbound, secret_env: PARTNER_SECRET}

The endpoint (maxxit/api/sources.py) verifies and stores what arrives; this source offers it to the ingest stage. The
secret is a variable of the web process alone.
"""

import re

from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured
from signals_app.inbound import Arrivals

MIN_SECRET = 32
"""Characters."""


class InboundSource(Arrivals):
    """Offers what arrived for one stanza; what is no post is refused in the answer to its sender."""

    unmetered = True

    def __init__(self, *, name: str, secret_env: str, max_bytes: int = 65_536, per_minute: int = 60) -> None:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", secret_env):
            raise Misconfigured(
                f"source {name}: secret_env {secret_env!r} is no name of an environment variable"
            )
        super().__init__(name)
        self.secret_env = secret_env
        self.max_bytes, self.per_minute = max_bytes, per_minute

    def secrets(self) -> tuple[str, ...]:
        """Return the shared secret, and during a rotation the previous one. Raises Misconfigured where it is weak."""
        secrets = tuple(variable(self.secret_env).split())
        if not 1 <= len(secrets) <= 2 or any(len(secret) < MIN_SECRET for secret in secrets):
            raise Misconfigured(
                f"source {self.name}: set {self.secret_env} in the environment of the web process to a secret of "
                f"{MIN_SECRET} characters or more (during a rotation the new one, a space, the previous one)"
            )
        return secrets
