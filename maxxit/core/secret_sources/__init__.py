"""Stores of secrets: a variable such as `SECRET_KEY=vault:secret/maxxit#secret_key` names a place in one of them."""

from maxxit.core.registry import Registry
from maxxit.core.secret_sources.base import SecretSource

SOURCES: Registry[SecretSource] = Registry(
    "secret store",
    {
        "aws": "maxxit.core.secret_sources.aws.SecretsManager",
        "vault": "maxxit.core.secret_sources.vault.Vault",
    },
)
"""Scheme of a reference -> the store."""
