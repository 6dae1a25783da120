"""One anvil and one world for all chain tests; each test starts from the world as it was built."""

from collections.abc import Iterator

import pytest

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world
from tests.chain.lab import Lab


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chain: needs a real local chain (anvil)")
    config.addinivalue_line("markers", "slow: takes longer than the rest")


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[Lab]:
    with start_anvil() as node:
        yield Lab(build_world(node.url))


@pytest.fixture
def lab(shared_lab: Lab) -> Lab:
    shared_lab.fresh()
    return shared_lab
