"""Starts anvil, the local development chain, and talks to it with a small JSON-RPC client.

Anvil comes from npm (`maxxit/ops/devchain/package.json`); its binary is run directly, which is ready in about
40 ms where the node shim takes 115 ms. Tests and the demo use this; production code does not import it.
"""

import contextlib
import http.client
import itertools
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from maxxit.embedded.processes import bound_to_parent

HERE = Path(__file__).resolve().parent
ACCOUNTS = 12
START_SECONDS = 20.0
STATES = 128
"""Blocks whose state a chain that is kept can be asked about, as on full nodes; anvil holds each in memory."""
BLOCKS = 1_000
"""Blocks whose transactions a chain that is kept can be asked about: minutes of the demo. Anvil would hold all of them
in memory, about 50 kB each, and write them to its state every second."""


class AnvilError(RuntimeError):
    """The local node is not installed or did not start. The message names the fix."""


class RpcError(RuntimeError):
    """The node answered with an error. `data` is the revert data (0x hex), or empty."""

    def __init__(self, message: str, data: str = "") -> None:
        super().__init__(message)
        self.data = data


class Rpc:
    """JSON-RPC over one kept-alive connection; threads may share it, one call at a time."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        self.url = url
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port or 80, timeout=timeout
        )
        self._lock = threading.Lock()
        self._ids = itertools.count(1)

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._connection.close()

    def __del__(self) -> None:
        self.close()

    def __call__(self, method: str, *params: Any) -> Any:
        """Call a method and return its result. Raises RpcError."""
        return self._result(self._post(self._envelope(method, params)))

    def batch(self, calls: list[tuple[str, list[Any]]]) -> list[Any]:
        """Send several calls in one request (below 2 MB); returns results in order, or raises the first error."""
        if not calls:
            return []
        answers = self._post([self._envelope(method, params) for method, params in calls])
        by_id = sorted(answers, key=lambda answer: int(answer["id"]))
        return [self._result(answer) for answer in by_id]

    def _envelope(self, method: str, params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    @staticmethod
    def _result(answer: dict[str, Any]) -> Any:
        if "error" in answer:
            error = answer["error"]
            data = error.get("data")
            raise RpcError(str(error.get("message")), data if isinstance(data, str) else "")
        return answer["result"]

    def _post(self, body: Any) -> Any:
        """Send once, without a retry; after a failure the next call opens a new connection."""
        payload = json.dumps(body)
        with self._lock:
            try:
                self._connection.request("POST", "/", payload, {"Content-Type": "application/json"})
                return json.loads(self._connection.getresponse().read())
            except (http.client.HTTPException, OSError):
                self._connection.close()
                raise


def find_anvil() -> Path:
    """Return the anvil binary from node_modules, else from PATH. Raises AnvilError naming the fix."""
    scope = HERE / "node_modules" / "@foundry-rs"
    for candidate in sorted(scope.glob("anvil-*/bin/anvil*")):
        if candidate.is_file():
            return candidate
    on_path = shutil.which("anvil")
    if on_path:
        return Path(on_path)
    raise AnvilError("anvil, the local Ethereum node, is not installed: run `make install` (it needs npm)")


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _must_be_free(host: str, port: int) -> None:
    """Raise AnvilError for a taken port: another node there would answer instead of the new one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AnvilError(
                f"port {port} is taken: stop what listens there or choose another port"
            ) from error


@dataclass(slots=True)
class Anvil:
    """A running anvil process. Call `stop()`, or use it in a `with`."""

    url: str
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        """Stop the process; it has five seconds to write its state."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_anvil(
    port: int | None = None,
    *,
    state: Path | None = None,
    host: str = "127.0.0.1",
    log: Path | None = None,
    begins: datetime | None = None,
) -> Anvil:
    """Start anvil and wait until it answers.

    `state` is the file that keeps the chain, written every second, so that it survives a kill. `log` receives the
    node's output. `begins`: the time of the first block, if it is not now. Raises AnvilError when the binary is missing
    or does not answer within 20 seconds.
    """
    from trading.chain.chains import KNOWN_MNEMONIC, LOCAL_CHAIN_ID  # `manage.py up` only looks for anvil

    port = port or free_port()
    _must_be_free(host, port)
    command = [
        str(find_anvil()), "--host", host, "--port", str(port), "--chain-id", str(LOCAL_CHAIN_ID),
        "--hardfork", "prague", "--accounts", str(ACCOUNTS), "--mnemonic", KNOWN_MNEMONIC, "--no-cors",
    ]  # fmt: skip
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        command += ["--state", str(state), "--state-interval", "1"]
        command += ["--prune-history", str(STATES), "--transaction-block-keeper", str(BLOCKS)]
    if log is None:
        command.append("--silent")
    if begins is not None:
        command += ["--timestamp", str(int(begins.timestamp()))]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=bound_to_parent(signal.SIGTERM),  # it writes its state when this process dies
        )
    node = Anvil(f"http://{host}:{port}", process)
    try:
        wait_ready(node.url, process)
    except BaseException:
        node.stop()
        raise
    return node


def is_whole(state: Path) -> bool:
    """Return whether a saved state is whole: a kill in the middle of writing cuts it, and anvil refuses it.

    Counts the braces (its strings have none): parsed, the file would take several times its size in memory.
    """
    opened = closed = 0
    with state.open("rb") as file:
        while part := file.read(1_000_000):
            opened, closed = opened + part.count(b"{"), closed + part.count(b"}")
    return 0 < opened == closed


def wait_ready(url: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Wait until the node at `url` answers with the local chain id. Raises AnvilError."""
    from trading.chain.chains import LOCAL_CHAIN_ID

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise AnvilError(f"anvil ended with code {process.returncode}: is the port of {url} taken?")
        try:
            chain_id = int(Rpc(url, timeout=2)("eth_chainId"), 16)
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.01)
            continue
        if chain_id != LOCAL_CHAIN_ID:
            raise AnvilError(f"{url} is chain {chain_id}, not the local chain {LOCAL_CHAIN_ID}")
        return
    raise AnvilError(f"anvil did not answer at {url} within {START_SECONDS:.0f} s")


def revert_to(rpc: Rpc, snapshot: str) -> None:
    """Put the chain back to a snapshot of `evm_snapshot`, with no transaction waiting.

    Anvil takes a transaction off its pool only after the block is there. Where a busy machine restores a snapshot in
    between, the next block would include the transaction again.
    """
    rpc("evm_revert", snapshot)
    rpc("anvil_dropAllTransactions")
