"""`python -m tests.bench.chain_libraries`: what web3 and safe-eth-py cost, next to our own code of the hot paths.

CPU and private memory of loading each into a process that has Django and every task; then microseconds of CPU for a
call and an event, by our codec and by web3. The figures stand in docs/architecture.md.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

MB = 1024
OPENED = "PositionOpened(address,bytes32,address,uint256,uint256,uint256,address," + ",".join(
    ["uint256", "uint256", "uint256", "address", "uint256)"]
)
LOADED = ("eth_account", "web3", "safe_eth.safe")
ADDRESS = "0x29fcB43b46531BcA003ddC8FCB67FFE91900C762"


def private_mb() -> float:
    """This process's private memory."""
    with open("/proc/self/smaps_rollup") as rows:
        sizes = {row.split()[0]: row.split()[1] for row in rows if row.startswith("Private_")}
    return sum(int(size) for size in sizes.values()) / MB


def start() -> None:
    """Load what every worker loads."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
    django.setup()
    from maxxit.celery import app

    app.loader.import_default_modules()


def loading() -> None:
    """Print what each library adds, one after the other."""
    for name in LOADED:
        spent, held, known = time.process_time(), private_mb(), len(sys.modules)
        import_module(name)
        print(
            f"load {name:<14} {time.process_time() - spent:5.2f} s of CPU  {private_mb() - held:5.1f} MB  "
            f"{len(sys.modules) - known} modules"
        )


def microseconds(work: Callable[[], Any], times: int = 200) -> float:
    """CPU of one call, the best of five rounds."""
    work()
    rounds = []
    for _ in range(5):
        spent = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - spent) / times * 1e6)
    return min(rounds)


def calls() -> None:
    """Print ours against web3's."""
    from eth_abi.abi import encode
    from eth_utils.crypto import keccak

    from trading.venues.safe.contract import module as m

    trade = bytes(32)
    opened = m.events()["0x" + keccak(text=OPENED).hex()]
    topics = [
        encode([kind], [value])
        for kind, value in (("address", ADDRESS), ("bytes32", trade), ("address", ADDRESS))
    ]
    kinds = ["uint256"] * 3 + ["address"] + ["uint256"] * 3 + ["address", "uint256"]
    log = {
        "address": ADDRESS, "topics": ["0x" + keccak(text=OPENED).hex(), *("0x" + topic.hex() for topic in topics)],
        "data": "0x" + encode(kinds, [ADDRESS if kind == "address" else 7 for kind in kinds]).hex(),
        "blockNumber": "0x1", "transactionHash": "0x" + "11" * 32, "logIndex": "0x0",
        "transactionIndex": None, "blockHash": None,
    }  # fmt: skip
    rows: list[tuple[str, Callable[[], Any] | None, Callable[[], Any]]] = [
        (
            "encode open_position",
            lambda: m.open_data(ADDRESS, trade, ADDRESS, 10, 10, 10),
            lambda: m.call_data("open_position", ADDRESS, trade, ADDRESS, 10, 10, 10),
        ),
        ("encode headroom", lambda: m.headroom_data(ADDRESS), lambda: m.call_data("headroom", ADDRESS)),
        ("decode PositionOpened", None, lambda: opened.process_log(log)),
    ]
    for name, ours, theirs in rows:
        own = f"{microseconds(ours):6.0f} µs by ours" if ours else " " * 16
        print(f"{name:<24} {own}  {microseconds(theirs):6.0f} µs by web3")


def main() -> None:
    """Print the table."""
    start()
    loading()
    calls()


if __name__ == "__main__":
    main()
