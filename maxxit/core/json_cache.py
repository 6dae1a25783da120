"""JSON serializer for Django's Redis cache: unpickling would execute whatever somebody wrote into Redis."""

import json
from typing import Any


class JsonSerializer:
    """Serializes cache values as JSON; integers stay bare so that Redis can increment them."""

    def dumps(self, value: Any) -> bytes | int:
        """Serialize `value`. Raises TypeError for a type that JSON cannot represent."""
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        """Parse a cached value. Raises ValueError when it is not JSON."""
        return json.loads(data)
