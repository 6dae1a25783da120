"""What trading through the module costs on a local chain.

    python -m tests.bench.chain_gas

Gas of the first open, later opens and closes; and the time from building a call to holding its receipt
(encode, sign, send raw, poll), with the node mining at once. Also feed reads: one by one against Multicall3.
"""

import time
from decimal import Decimal
from statistics import median, quantiles
from typing import Any

from eth_account import Account

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world, local_key, read
from tests.chain.lab import USDC, Lab, trade
from trading.chain.chains import LOCAL_CHAIN_ID
from trading.venues.safe import library, onboarding
from trading.venues.safe.contract import module as m

ROUNDS = 150
READS = (1_000, 10_000)
PER_MULTICALL = 500


def gas_of(receipt: dict[str, Any]) -> int:
    return int(receipt["gasUsed"], 16)


def gas_table(lab: Lab) -> dict[str, int]:
    """Gas by kind of call, on WETH at the demo policy."""
    world, weth = lab.world, lab.world.address_of("WETH")

    def opened(name: str) -> int:
        lab.advance(60)
        data = m.open_data(lab.safe, trade(name), weth, 1_000 * USDC, 0, world.now() + 600)
        return gas_of(world.send("executor", lab.module, data))

    def closed(name: str, quantity: int = m.ALL) -> int:
        data = m.close_data(lab.safe, trade(name), 0, world.now() + 600, quantity)
        return gas_of(world.send("executor", lab.module, data))

    rows = {"first open": opened("a")}
    half = lab.position("a").quantity // 2
    rows["partial close at a loss"] = closed("a", half)
    rows["close at a loss"] = closed("a")
    rows["later open, nothing held"] = opened("b")
    rows["later open, token held"] = opened("c")
    lab.move("WETH", "1.1")
    rows["close with a share, token still held"] = closed("b")
    rows["close with a share, last position"] = closed("c")
    rows["guardian stops"] = gas_of(
        world.send("guardian", lab.module, m.call_data("stop", lab.safe, m.HALTED))
    )
    rows["enable module and set policy, one Safe transaction"] = gas_of(world.onboard(world.policy()))
    owner = world.accounts["rogue"]
    setup = onboarding.trading_setup_data(owner, lab.module, world.policy(), world.rules())
    data = onboarding.create_safe_data(setup, 1)
    rows["create a Safe with module and policy, one transaction"] = gas_of(
        world.send("rogue", library.deployed("SafeProxyFactory"), data)
    )
    return rows


def round_trips(lab: Lab) -> dict[str, list[float]]:
    """Seconds from building to receipt, for opens and closes in turn."""
    lab.fresh()
    lab.set_policy(
        cooldown=0, trades_per_day=10**6, daily_notional=10**12, loss_budget=10**12, total_loss_budget=10**12
    )
    weth, account = lab.world.address_of("WETH"), Account.from_key(local_key("executor"))
    nonce = int(lab.rpc("eth_getTransactionCount", account.address, "latest"), 16)
    seconds: dict[str, list[float]] = {"open": [], "close": []}
    for number in range(ROUNDS):
        deadline, name = lab.world.now() + 600, trade(f"timed{number}")
        for kind in ("open", "close"):
            started = time.perf_counter()
            if kind == "open":
                data = m.open_data(lab.safe, name, weth, 10 * USDC, 0, deadline)
            else:
                data = m.close_data(lab.safe, name, 0, deadline)
            _signed_and_mined(lab, account, nonce, data)
            seconds[kind].append(time.perf_counter() - started)
            nonce += 1
    return seconds


def _signed_and_mined(lab: Lab, account: Any, nonce: int, data: bytes) -> None:
    fields = {
        "chainId": LOCAL_CHAIN_ID, "nonce": nonce, "to": lab.module, "data": data, "gas": 900_000, "value": 0,
        "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9,
    }  # fmt: skip
    raw = account.sign_transaction(fields).raw_transaction
    digest = lab.rpc("eth_sendRawTransaction", "0x" + bytes(raw).hex())
    receipt = lab.rpc("eth_getTransactionReceipt", digest)
    while receipt is None:
        receipt = lab.rpc("eth_getTransactionReceipt", digest)
    if receipt["status"] != "0x1":
        raise RuntimeError(f"transaction {digest} failed")


def feed_reads(lab: Lab, count: int) -> tuple[float, float]:
    """Seconds for `count` feed reads one by one, and through Multicall3 in calls of 500."""
    feed, data = lab.world.tokens[0].feed, encode_call("latestRoundData()")
    types = ["uint80", "int256", "uint256", "uint256", "uint80"]
    started = time.perf_counter()
    for _ in range(count):
        read(lab.rpc, feed, data, types)
    single = time.perf_counter() - started
    started = time.perf_counter()
    for first in range(0, count, PER_MULTICALL):
        calls = [(feed, False, data)] * min(PER_MULTICALL, count - first)
        asked = encode_call("aggregate3((address,bool,bytes)[])", calls)
        answers = read(lab.rpc, lab.world.multicall, asked, ["(bool,bytes)[]"])[0]
        prices = [Decimal(int.from_bytes(answer[32:64], "big")).scaleb(-8) for _, answer in answers]
        if len(prices) != len(calls):
            raise RuntimeError("an answer is missing")
    return single, time.perf_counter() - started


def main() -> None:
    with start_anvil() as node:
        started = time.perf_counter()
        lab = Lab(build_world(node.url))
        print(f"world built in {time.perf_counter() - started:.2f} s")
        for name, gas in gas_table(lab).items():
            print(f"{name:<52}{gas:>9,} gas")
        for kind, seconds in round_trips(lab).items():
            p95 = quantiles(seconds, n=20)[-1]
            print(f"{kind}: build to receipt p50 {median(seconds) * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms")
        for count in READS:
            single, multi = feed_reads(lab, count)
            print(
                f"{count} reads: {single:.3f} s one by one, {multi:.3f} s Multicall3, {single / multi:.1f} x"
            )


if __name__ == "__main__":
    main()
