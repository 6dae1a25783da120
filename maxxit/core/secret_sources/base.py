"""What a store of secrets gives."""

from collections.abc import Mapping
from typing import Protocol


class SecretSource(Protocol):
    """One store. Its address and its own credentials come from the environment."""

    def read(self, place: str) -> Mapping[str, str]:
        """Return the fields of the secret at `place`; a secret that is one text has the only field with an empty name.

        Raises MaxxitError where it cannot be read.
        """
        ...
