"""One anvil and one world for all tests of the perps module; each test starts from the world as it was built."""

from collections.abc import Iterator

import pytest

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world
from tests.chain.perps.lab import PerpLab


@pytest.fixture(scope="session")
def shared_perps() -> Iterator[PerpLab]:
    with start_anvil() as node:
        yield PerpLab(build_world(node.url))


@pytest.fixture
def lab(shared_perps: PerpLab) -> PerpLab:
    shared_perps.planted = None
    shared_perps.fresh()
    return shared_perps
