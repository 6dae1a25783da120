"""One anvil and one world for the tests of the double of GMX v2."""

from collections.abc import Iterator

import pytest

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world
from tests.chain.gmx.lab import GmxLab


@pytest.fixture(scope="package")
def shared_gmx() -> Iterator[GmxLab]:
    with start_anvil() as node:
        yield GmxLab(build_world(node.url))


@pytest.fixture
def gmx(shared_gmx: GmxLab) -> GmxLab:
    shared_gmx.fresh()
    return shared_gmx
