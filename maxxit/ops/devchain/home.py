"""Whether the local chain can run here, and where its key lies. Loads no contracts: `manage.py up` only supervises."""

from pathlib import Path

from maxxit.ops.devchain.anvil import AnvilError, find_anvil
from trading.chain.key_sources import KEYSTORE, PASSWORD_FILE


def available() -> bool:
    """Return whether anvil is installed."""
    try:
        find_anvil()
    except AnvilError:
        return False
    return True


def signing_environ(data_dir: Path) -> dict[str, str]:
    """Return the environment variables by which the signing workers find the local key."""
    home = data_dir / "chain"
    return {KEYSTORE: str(home / "executor.json"), PASSWORD_FILE: str(home / "executor.password")}
