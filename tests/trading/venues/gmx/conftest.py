"""A chain of its own for these tests: block times are the machine's, so that deadlines mean what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world
from tests.test_five_venues import forget_configuration
from tests.trading.venues.gmx.world import (
    PerpsLab,
    PerpsTrader,
    store_plan,
    verified,
    worker_of,
    write_configuration,
)


@pytest.fixture(scope="session")
def perps_lab() -> Iterator[PerpsLab]:
    with start_anvil() as node:
        yield PerpsLab(build_world(node.url))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shipped configuration with the venue `gmx`, which lists ETH and BTC."""
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(write_configuration(tmp_path)))
    forget_configuration()
    yield
    monkeypatch.undo()
    forget_configuration()


@pytest.fixture
def trader(
    db: None, config: None, perps_lab: PerpsLab, monkeypatch: pytest.MonkeyPatch, no_approval_file: object
) -> Iterator[PerpsTrader]:
    """The demo Safe, verified, and the venue that trades it."""
    perps_lab.fresh()
    perps_lab.world.refresh_feeds()
    with worker_of(perps_lab, monkeypatch):
        store_plan(perps_lab)
        verified(perps_lab)
        made = PerpsTrader(perps_lab)
        yield made
        made.close()
