"""HashiCorp Vault, the secrets engine KV version 2. `vault:MOUNT/PATH#FIELD`.

`VAULT_ADDR` is its address, `VAULT_TOKEN` or `VAULT_TOKEN_FILE` the token (an agent keeps the file), `VAULT_NAMESPACE`
the namespace of Vault Enterprise.
"""

import os
from collections.abc import Mapping

from maxxit.core.errors import Misconfigured
from maxxit.core.http import client, fetch
from maxxit.core.secret_files import secret

SECONDS = 10.0


class Vault:
    """Reads with the token of the environment."""

    def read(self, place: str) -> Mapping[str, str]:
        """Return the fields of the newest version."""
        address, token = os.environ.get("VAULT_ADDR", ""), secret("VAULT_TOKEN")
        if not address or not token:
            raise Misconfigured("set VAULT_ADDR, and VAULT_TOKEN or VAULT_TOKEN_FILE")
        mount, _, path = place.partition("/")
        if not path:
            raise Misconfigured(f"vault:{place} has no path: write vault:MOUNT/PATH#FIELD")
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        if namespace := os.environ.get("VAULT_NAMESPACE", ""):
            headers["X-Vault-Namespace"] = namespace
        with client(address, headers=headers, timeout=SECONDS) as http:
            answer = fetch(http, "GET", f"/v1/{mount}/data/{path}", max_seconds=SECONDS).json()
        fields = answer.get("data", {}).get("data") or {}
        return {str(name): str(value) for name, value in fields.items()}
