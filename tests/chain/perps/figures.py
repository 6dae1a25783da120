"""Size, storage and gas of PerpModule, measured on the local chain.

    python -m tests.chain.perps.figures

Gas of an open and of a callback includes what the Safe and the double of GMX need; the module's own part is what its
calls used less what its inner calls used. GMX's own contracts were recorded with 0.9 to 1.1 million gas for each order
and 2.4 to 3.5 million for an execution.
"""

import sys
from typing import Any

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world, transact
from tests.chain.perps.lab import DAY, USD, USDC, PerpLab, trade
from tests.chain.perps.test_policy import SIZE_LIMIT
from trading.venues.gmx.contract import module as p
from trading.venues.safe.contract.build import PERPS, compile_source


def storage_table() -> str:
    """Return each storage variable with its slot and type, as the compiler lays them out."""
    import vyper

    source = (PERPS / "PerpModule.vy").read_text()
    layout = vyper.compile_code(source, contract_path="PerpModule.vy", output_formats=["layout"])["layout"]
    rows = [
        f"{entry['slot']:>4}  {name:<20} {entry['type']}"
        for name, entry in sorted(layout["storage_layout"].items(), key=lambda row: int(row[1]["slot"]))
    ]
    return "\n".join(["slot  variable             type", *rows])


def gas_table(lab: PerpLab) -> str:
    """Return gas of each call: of the whole transaction, and of the module itself."""
    rows: list[tuple[str, int, int]] = []

    def note(what: str, receipt: dict[str, Any]) -> None:
        rows.append((what, int(receipt["gasUsed"], 16), own_gas(lab, receipt)))

    def sent(what: str, sender: str, data: bytes, value: int = 0) -> dict[str, Any]:
        address = lab.world.accounts.get(sender, sender)
        receipt = transact(lab.rpc, address, lab.module, data, value)
        note(what, receipt)
        return receipt

    def opened(what: str, name: str, symbol: str, **changes: Any) -> p.Log:
        opening = lab.opening(name, symbol, **changes)
        receipt = sent(what, "executor", p.open_data(lab.safe, opening, 2**40), opening.value)
        return p.decode_logs(receipt["logs"], lab.module)[-1]

    def executed(what: str, key: bytes) -> None:
        note(what, lab.keeper.execute(key))

    def closed(what: str, name: str, size_usd: int = p.ALL) -> bytes:
        price = lab.units("2480")
        data = p.close_data(
            lab.safe, trade(name), acceptable_price=price, execution_fee=10**17, deadline=2**40, size_usd=size_usd
        )  # fmt: skip
        receipt = sent(what, "executor", data, 10**17)
        key: bytes = p.decode_logs(receipt["logs"], lab.module)[-1].args["order_key"]
        return key

    stops = {"stop_price": lab.units("2400"), "target_price": lab.units("2700")}
    sent(
        "set_policy, two markets",
        lab.safe,
        p.set_policy_data(lab.demo(trade_fee=100_000, loosen_delay=DAY), lab.rules()),
    )
    sent(
        "set_policy, loosening",
        lab.safe,
        p.set_policy_data(lab.demo(trade_fee=200_000, loosen_delay=DAY), lab.rules()),
    )
    lab.fresh()
    log = opened("open, first, with stop and target", "a", "WETH", **stops)
    executed("GMX executes it: callback", log.args["order_key"])
    executed("GMX closes a half: callback", closed("close, a half", "a", 250 * USD))
    executed("GMX closes the rest: callback, end, sibling orders", closed("close, all", "a"))
    lab.advance(2)
    log = opened("open, later, alone", "b", "WETH")
    lab.advance(301)
    sent(
        "cancel_order of an expired open, by anyone", "rogue", p.cancel_data(lab.safe, log.args["order_key"])
    )
    sent("claim_funding", "rogue", p.claim_data(lab.safe, lab.market()))
    lab.advance(2)
    log = opened("open, later, with stop and target", "c", "WETH", **stops)
    executed("GMX executes it: callback", log.args["order_key"])
    lab.feed("2700")
    executed("GMX fills the target: callback, end with a share", log.args["target_key"])
    lines = ["call                                                 whole     module"]
    for what, whole, own in rows:
        lines.append(f"{what:<50} {whole:>9,} {own:>9,}")
    return "\n".join(lines)


def own_gas(lab: PerpLab, receipt: dict[str, Any]) -> int:
    """Gas that the module used itself in a transaction; refunds for freed storage are taken off its own calls."""
    trace = lab.rpc("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
    return sum(
        int(call["gasUsed"], 16) - sum(int(inner["gasUsed"], 16) for inner in call.get("calls", []))
        for call in (trace, *_flat(trace))
        if call.get("to") == lab.module.lower()
    )


def _flat(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for inner in trace.get("calls", []) for call in (inner, *_flat(inner))]


def main() -> int:
    with start_anvil() as node:
        lab = PerpLab(build_world(node.url))
        lab.sign(max_collateral=100 * USDC, loss_budget=1_000 * USDC)
        code = len(lab.rpc("eth_getCode", lab.module, "latest")) // 2 - 1
        creation = (
            len(compile_source((PERPS / "PerpModule.vy").read_text(), "PerpModule")["bytecode"]) // 2 - 1
        )
        print(f"code {code:,} bytes of {SIZE_LIMIT:,}, creation code {creation:,} bytes\n")
        print(storage_table(), end="\n\n")
        print(gas_table(lab))
    return int(code >= SIZE_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
