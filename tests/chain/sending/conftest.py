"""A chain of its own for what sends to it: block times are the machine's, so that deadlines mean what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world, local_key
from tests import builders as make
from tests.chain.lab import Lab
from tests.chain.sending.safe_trader import SafeTrader
from trading import wiring
from trading.chain.signer import write_keystore

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="session")
def sending_lab() -> Iterator[Lab]:
    with start_anvil() as node:
        yield Lab(build_world(node.url))


@pytest.fixture(scope="session")
def executor_keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local executor's key, encrypted cheaply."""
    path = tmp_path_factory.mktemp("keys") / "executor.json"
    write_keystore(path, local_key("executor"), PASSWORD, iterations=1_000)
    return path


@pytest.fixture
def environment(executor_keystore: Path, monkeypatch: pytest.MonkeyPatch, sending_lab: Lab) -> None:
    """What the executing worker finds in its environment."""
    monkeypatch.setenv("EXECUTOR_KEYSTORE", str(executor_keystore))
    monkeypatch.setenv("EXECUTOR_PASSWORD", PASSWORD)
    monkeypatch.setenv("MAXXIT_LOCAL_RPC", sending_lab.world.rpc_url)


@pytest.fixture
def trader(
    db: None, environment: None, sending_lab: Lab, tmp_path: Path, settings: object, no_approval_file: Path
) -> Iterator[SafeTrader]:
    """The demo user's Safe, verified, and the venue that trades it."""
    sending_lab.fresh()
    sending_lab.world.refresh_feeds()
    settings.DATA_DIR = tmp_path  # type: ignore[attr-defined]
    sending_lab.world.save(tmp_path / "chain" / "world.json")
    wiring.venue.cache_clear()
    make.open_gate("safe")
    made = SafeTrader(sending_lab)
    yield made
    made.close()
    wiring.venue.cache_clear()
