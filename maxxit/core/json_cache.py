"""How values stand in the cache: as JSON. A pickle there would run whatever somebody wrote into Redis."""

import json
from typing import Any


class JsonSerializer:
    """For Django's Redis cache. Integers stay bare, so that Redis can count with them."""

    def dumps(self, value: Any) -> bytes | int:
        """`value` for Redis. Raises TypeError for what JSON has no form for."""
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        """The value. Raises ValueError for what is not JSON."""
        return json.loads(data)
