"""`python -m tests.bench.chain_reads`: many values through Multicall3 against one by one, by our codec and by web3."""

import time
from collections.abc import Callable

from eth_utils.address import to_checksum_address
from safe_eth.eth.contracts import get_erc20_contract

from maxxit.evm.codec import encode_call
from maxxit.evm.provider import reading
from maxxit.evm.rpc import Chain
from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import World, build_world


def calls(world: World, many: int) -> list[tuple[str, bytes]]:
    """Balances of the Safe and answers of the feeds, in turn."""
    balance = (world.usdc, encode_call("balanceOf(address)", world.safe))
    feed = (world.tokens[0].feed, encode_call("latestRoundData()"))
    return [balance if number % 2 else feed for number in range(many)]


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """How long it takes and how much CPU of ours, the best of three: other work on the machine only adds to it."""
    rounds = [_once(work) for _ in range(3)]
    return min(wall for wall, _ in rounds), min(cpu for _, cpu in rounds)


def _once(work: Callable[[], object]) -> tuple[float, float]:
    began, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - spent


def main() -> None:
    """Print the table."""
    with start_anvil() as node:
        world = build_world(node.url)
        chain = Chain(
            world.chain_id, [node.url], head_lag=5, health_seconds=60, timeout=60, multicall=world.multicall
        )
        chain.many(calls(world, 10))
        balance = get_erc20_contract(reading(chain), to_checksum_address(world.usdc)).functions.balanceOf(
            world.safe
        )
        for many in (1_000, 10_000):
            asked = calls(world, many)
            at_once = seconds(lambda asked=asked: chain.many(asked))  # type: ignore[misc]
            alone = seconds(lambda asked=asked: [chain.call(to, data) for to, data in asked])  # type: ignore[misc]
            by_web3 = seconds(lambda many=many: [balance.call() for _ in range(many)])  # type: ignore[misc]
            for what, one, web3, all_ in zip(("s", "s of CPU"), alone, by_web3, at_once, strict=True):
                print(
                    f"{many:>6} reads: {one:7.3f} {what} one by one, {web3:7.3f} by web3, {all_:6.3f} Multicall3: "
                    f"{one / all_:5.1f} x and {web3 / all_:5.1f} x"
                )
        for endpoint in chain.endpoints:
            endpoint.close()
        world.rpc.close()


if __name__ == "__main__":
    main()
