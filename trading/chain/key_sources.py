"""The environment variables that name the keys of `trading.chain.signer`; loads no cryptography."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeySource:
    """The names of the environment variables of one key."""

    keystore: str
    password: str
    password_file: str


CURRENT = KeySource("EXECUTOR_KEYSTORE", "EXECUTOR_PASSWORD", "EXECUTOR_PASSWORD_FILE")
PREVIOUS = KeySource(
    "EXECUTOR_PREVIOUS_KEYSTORE", "EXECUTOR_PREVIOUS_PASSWORD", "EXECUTOR_PREVIOUS_PASSWORD_FILE"
)
DEPLOYER = KeySource("DEPLOYER_KEYSTORE", "DEPLOYER_PASSWORD", "DEPLOYER_PASSWORD_FILE")
"""The key that pays for the creation of our contracts; it has no power over them."""
KEYSTORE, PASSWORD, PASSWORD_FILE = CURRENT.keystore, CURRENT.password, CURRENT.password_file
