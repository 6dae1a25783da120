"""The file of Safe's Transaction Builder (app.safe.global, Apps), which the owners of a shared Safe import to sign.

Format: safe-react-apps, apps/tx-builder/src/typings/models.ts, `BatchFile` version 1.0; the checksum, without which the
app warns of a changed file, is that of src/lib/checksum.ts. The Safe's app sets the nonce.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from eth_utils.crypto import keccak


def builder_file(
    *, chain_id: int, safe: str, calls: Sequence[Mapping[str, str]], name: str, description: str, at: datetime
) -> dict[str, Any]:
    """Return the file's content.

    Args:
        calls: `to`, `value` (wei) and `data` (0x hex) of each call that the Safe makes.
    """
    content: dict[str, Any] = {
        "version": "1.0",
        "chainId": str(chain_id),
        "createdAt": int(at.timestamp() * 1000),
        "meta": {
            "name": name,
            "description": description,
            "txBuilderVersion": "1.18.0",
            "createdFromSafeAddress": safe,
            "createdFromOwnerAddress": "",
        },
        "transactions": [
            {
                "to": call["to"],
                "value": call["value"],
                "data": call["data"],
                "contractMethod": None,
                "contractInputsValues": None,
            }
            for call in calls
        ],
    }
    content["meta"]["checksum"] = checksum(content)
    return content


def checksum(content: Mapping[str, Any]) -> str:
    """Return the checksum of a file's content, 0x hex; neither the name nor the checksum itself counts."""
    meta = {name: value for name, value in content["meta"].items() if name != "checksum"} | {"name": None}
    return "0x" + keccak(text=_serialized(dict(content) | {"meta": meta})).hex()


def _serialized(value: Any) -> str:
    """Return the text that is hashed: objects with their keys sorted, then the values, each with a comma."""
    if isinstance(value, list):
        return f"[{','.join(map(_serialized, value))}]"
    if isinstance(value, dict):
        keys = sorted(value)
        return f"{{{_json(keys)}{''.join(_serialized(value[key]) + ',' for key in keys)}}}"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
