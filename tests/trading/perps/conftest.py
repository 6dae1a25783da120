"""The shipped configuration with a stanza `paper_perps`: perpetual futures on the paper exchange, leverage up to 10."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxxit.core.config import _read
from maxxit.market import instruments
from maxxit.market import venues as policies
from tests import builders as make
from tests.builders import RecordedClock
from trading import wiring
from trading.venues.paper import PaperVenue

STANZA: dict[str, Any] = {
    "adapter": "paper",
    "shorts": True,
    "max_leverage": 10,
    "paper": True,
    "options": {"slippage_bps": 5, "fee_bps": 10, "depth_usd": 1_000_000, "funding_rates": "funding.csv"},
}
RATES = "symbol,at,rate_pct\nETH,2026-03-02T16:00:00Z,0.05\nETH,2026-03-03T00:00:00Z,-0.03\n"


def forget_configuration() -> None:
    """Read the files again."""
    for cached in (_read, instruments._markets, instruments.all_instruments, policies.venues, wiring.venue):
        cached.cache_clear()


@pytest.fixture
def perps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: RecordedClock) -> Iterator[PaperVenue]:
    """The venue `paper_perps`, which lists ETH and BTC."""
    folder = tmp_path / "config"
    shutil.copytree(Path("config"), folder)
    stanzas = yaml.safe_load((folder / "venues.yaml").read_text())
    (folder / "venues.yaml").write_text(yaml.safe_dump(stanzas | {"paper_perps": STANZA}))
    markets = yaml.safe_load((folder / "markets.yaml").read_text())
    for symbol in ("ETH", "BTC"):
        markets["instruments"][symbol]["venues"].append("paper_perps")
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    (folder / "funding.csv").write_text(RATES)
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(folder))
    forget_configuration()
    made = wiring.venue("paper_perps")
    assert isinstance(made, PaperVenue)
    yield made
    monkeypatch.undo()
    forget_configuration()


@pytest.fixture
def deployment(perps: PaperVenue, db: None) -> Any:
    """A deployment with 10,000 USDC of play money at `paper_perps`."""
    make.price("ETH", "2000")
    make.open_gate("paper_perps")
    return make.deployment(make.agent(venue="paper_perps"), account="perps:1")
