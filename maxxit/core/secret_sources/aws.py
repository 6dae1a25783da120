"""AWS Secrets Manager. `aws:SECRET-ID#FIELD` of a secret that is a JSON object, `aws:SECRET-ID` of one that is text.

Region and credentials: `maxxit.core.aws`.
"""

import json
import os
from collections.abc import Mapping

from maxxit.core import aws

SECONDS = 10.0
SERVICE = "secretsmanager"


class SecretsManager:
    """Reads the current version of a secret."""

    def read(self, place: str) -> Mapping[str, str]:
        """Return the members of a JSON object, or the whole text under an empty name."""
        own = os.environ.get("AWS_ENDPOINT_URL_SECRETS_MANAGER", "")
        service = aws.JsonService(SERVICE, region=aws.region(), endpoint=own, seconds=SECONDS)
        answer = service.call(f"{SERVICE}.GetSecretValue", {"SecretId": place})
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
