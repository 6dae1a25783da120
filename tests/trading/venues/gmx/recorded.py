"""20 recorded steps of GMX v2.2's own contracts on a local chain: calldata, raw logs, decoded fields, gas."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("recorded.json.gz")


@cache
def recording() -> dict[str, Any]:
    """The whole recording."""
    content: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
    return content


def steps() -> list[dict[str, Any]]:
    """Its steps, in order."""
    found: list[dict[str, Any]] = recording()["steps"]
    return found


ADDRESSES: dict[str, str] = recording()["addresses"]
SAFE: str = recording()["safe"]
