"""Pyth's Hermes: its own client, which exists for JavaScript, and whose schemas come from Hermes' OpenAPI document."""

import json
import subprocess
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.conformance.conftest import Fakes

ETH = b"ETH".hex().rjust(64, "0")


def hermes(fakes: Fakes, *ids: str, lenient: bool = True) -> Any:
    """What Pyth's client made of the fake's answer."""
    script = Path(__file__).parent / "hermes.mjs"
    done = subprocess.run(
        ["node", str(script), fakes.urls["market"], str(lenient).lower(), *ids],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_a_price_is_asked_for_and_read_as_we_do(fakes: Fakes) -> None:
    fakes.market_says(price="2000.25")
    (said,) = hermes(fakes, ETH)["parsed"]
    (theirs,) = fakes.market_asked()
    ours = fakes.market_ours(feed="pyth")
    assert said["id"] == ETH
    price = said["price"]
    assert Decimal(price["price"]).scaleb(price["expo"]) == Decimal(ours["price"]) == Decimal("2000.25")
    assert price["publish_time"] == datetime.fromisoformat(ours["at"]).timestamp()
    assert _request(ours["quote"][0]) == _request(theirs)


def test_an_unknown_feed_fails_the_whole_request_unless_it_may_be_ignored(fakes: Fakes) -> None:
    fakes.market_says(price="2000.25")
    assert [one["id"] for one in hermes(fakes, ETH, "f" * 64)["parsed"]] == [ETH]
    said = hermes(fakes, ETH, "f" * 64, lenient=False)
    assert said["error"] == "Error"
    assert "404" in said["words"]


def test_failures_and_other_shapes(fakes: Fakes) -> None:
    for fault, words in {"too_many": "429", "broken": "503", "other_shape": "invalid_type"}.items():
        fakes.market_says(price="2000")
        fakes.market_fault(fault=fault, times=1)
        assert words in hermes(fakes, ETH)["words"]


def _request(url: str) -> tuple[str, dict[str, list[str]]]:
    parts = urlsplit(url)
    return parts.path, parse_qs(parts.query)
