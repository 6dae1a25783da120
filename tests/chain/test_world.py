"""The local world itself: it can be kept, it follows the market, and it says what is missing."""

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain import anvil
from maxxit.ops.devchain.world import (
    MULTICALL3,
    TokenInfo,
    World,
    build_world,
    ensure_world,
    read,
    transact,
    uniswap_artifact,
)
from tests.chain.lab import USDC, Lab, trade
from trading.venues.safe.contract import module as m

pytestmark = pytest.mark.chain


def pool_price(lab: Lab, symbol: str) -> Decimal:
    """What the quoter gives for 1,000 USDC, as a price in USD."""
    token = lab.world.token(symbol)
    signature = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
    asked = encode_call(signature, (lab.world.usdc, token.address, 1_000 * USDC, token.policy_fee, 0))
    out = read(lab.rpc, lab.world.quoter, asked, ["uint256", "uint160", "uint32", "uint256"])[0]
    return Decimal(1_000) / Decimal(out).scaleb(-token.decimals)


def test_a_snapshot_comes_back_without_the_transactions_that_waited(lab: Lab) -> None:
    executor, keeper = lab.world.accounts["executor"], lab.world.accounts["keeper"]
    before = int(lab.rpc("eth_getTransactionCount", executor, "latest"), 16)
    lab.rpc("evm_setAutomine", False)
    lab.rpc("eth_sendTransaction", {"from": executor, "to": keeper, "value": "0x1"})
    lab.fresh()
    lab.rpc("evm_setAutomine", True)
    transact(lab.rpc, keeper, executor, b"")
    assert int(lab.rpc("eth_getTransactionCount", executor, "latest"), 16) == before


def test_a_transaction_that_no_block_takes_ends_with_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        url = "http://idle"
        calls = 0

        def __call__(self, method: str, *params: object) -> str | None:
            self.calls += 1
            assert self.calls < 100, "it waits without an end"
            return "0xabc" if method == "eth_sendTransaction" else None

    monkeypatch.setattr("maxxit.ops.devchain.world.RECEIPT_SECONDS", 0)
    with pytest.raises(anvil.AnvilError, match=r"0xabc within 0 s: does http://idle mine"):
        transact(Idle(), "0x1", None, b"")  # type: ignore[arg-type]  # the two things of Rpc that it uses


def test_a_transaction_that_waits_is_mined(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful:
        url = "http://forgetful"
        mined = False

        def __call__(self, method: str, *params: object) -> object:
            self.mined = self.mined or method == "evm_mine"
            return {"status": "0x1"} if method == "eth_getTransactionReceipt" and self.mined else None

    monkeypatch.setattr("maxxit.ops.devchain.world.MINE_SECONDS", 0)
    assert transact(Forgetful(), "0x1", None, b"") == {"status": "0x1"}  # type: ignore[arg-type]  # as above


def test_demo_safe_has_its_money_and_policy(lab: Lab) -> None:
    assert lab.usdc() == 10_000 * USDC
    assert m.decode_policy(lab.raw(m.policies_data(lab.safe))) == lab.world.policy()


@pytest.mark.parametrize("symbol", ["WETH", "WBTC"])
def test_move_price_moves_feed_and_pools(lab: Lab, symbol: str) -> None:
    for factor in ("1.37", "0.61", "1"):
        wanted = (lab.world.price(symbol) * Decimal(factor)).quantize(Decimal("0.01"))
        lab.world.move_price(symbol, wanted)
        assert lab.world.price(symbol) == wanted
        assert abs(pool_price(lab, symbol) / wanted - 1) < Decimal("0.0032"), "within the pool's fee"


def test_a_swap_that_others_overtook_is_computed_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.fresh()
    token, price, compute = lab.world.token("WETH"), lab.world.price("WETH"), World.swap_to_price
    to_half_more = {
        pool: compute(lab.world, token, int(fee), pool, price * 3 / 2) for fee, pool in token.pools.items()
    }
    lab.world.set_pool_price("WETH", price * 2)  # beyond the limit of those swaps

    def swap(world: World, token: TokenInfo, fee: int, pool: str, price: Decimal) -> bytes | None:
        return to_half_more.pop(pool, None) or compute(world, token, fee, pool, price)

    monkeypatch.setattr(World, "swap_to_price", swap)
    lab.world.set_pool_price("WETH", price * 4)

    assert to_half_more == {}
    assert pool_price(lab, "WETH") > price * 3


def test_multicall_reads_many_values_at_once(lab: Lab) -> None:
    calls = [(token.address, False, encode_call("decimals()")) for token in lab.world.tokens]
    data = encode_call("aggregate3((address,bool,bytes)[])", calls)
    answers = read(lab.rpc, MULTICALL3, data, ["(bool,bytes)[]"])[0]
    assert [int.from_bytes(value, "big") for _, value in answers] == [18, 8]


def test_world_survives_a_kill_of_its_node(tmp_path: Path) -> None:
    state, addresses = tmp_path / "anvil.json", tmp_path / "world.json"
    with anvil.start_anvil(state=state) as node:
        world = ensure_world(node.url, addresses)
        opened = m.open_data(
            world.safe, trade("kept"), world.address_of("WETH"), 100 * USDC, 0, world.now() + 600
        )
        world.send("executor", world.module, opened)
        left = world.balance("USDC", world.safe)
        _wait_for_state(state)
        node.process.kill()
        node.process.wait()
    with anvil.start_anvil(state=state) as node:
        again = ensure_world(node.url, addresses)
        assert (again.module, again.safe) == (world.module, world.safe)
        assert again.balance("USDC", again.safe) == left
        close = m.close_data(again.safe, trade("kept"), 0, again.now() + 600)
        again.send("executor", again.module, close)


def _wait_for_state(state: Path) -> None:
    """Wait until anvil has written its state after our last transaction (it does so every second)."""
    import time

    asked = time.time()
    while not state.exists() or state.stat().st_mtime < asked + 0.5 or not anvil.is_whole(state):
        time.sleep(0.05)


def test_a_state_that_is_cut_anywhere_is_not_whole(tmp_path: Path) -> None:
    state = tmp_path / "anvil.json"
    whole = json.dumps({"block": {"number": "0x1"}, "accounts": {"0x2": {"code": "0x60"}}, "blocks": [{}]})
    for length in range(len(whole)):
        state.write_text(whole[:length])
        assert not anvil.is_whole(state), whole[:length]
    state.write_text(whole)
    assert anvil.is_whole(state)


def test_another_chain_state_means_a_new_world(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    lab.world.save(path)
    assert World.load(path, lab.world.rpc_url) == lab.world
    with anvil.start_anvil() as node:
        rebuilt = ensure_world(node.url, path)
        assert rebuilt.stands()
        assert World.load(path, node.url) == rebuilt


def test_a_saved_world_of_a_version_without_gmx_means_a_new_world(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    with anvil.start_anvil() as node:
        build_world(node.url).save(path)
        body = json.loads(path.read_text())
        del body["gmx"]
        path.write_text(json.dumps(body))
        assert ensure_world(node.url, path).stands()
        assert "gmx" in json.loads(path.read_text())


def test_missing_anvil_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(anvil, "HERE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(anvil.AnvilError, match="make install"):
        anvil.find_anvil()
    monkeypatch.setattr("maxxit.ops.devchain.world.HERE", tmp_path)
    with pytest.raises(anvil.AnvilError, match="make install"):
        uniswap_artifact("v3-periphery/SwapRouter")


def test_a_taken_port_is_said(lab: Lab) -> None:
    port = int(lab.world.rpc_url.rpartition(":")[2])
    with pytest.raises(anvil.AnvilError, match="taken"):
        anvil.start_anvil(port)


def mined(rpc: anvil.Rpc, sender: str, receiver: str) -> str:
    """Send 1 wei and wait for the block with it."""
    sent: str = rpc("eth_sendTransaction", {"from": sender, "to": receiver, "value": "0x1"})
    ends = time.monotonic() + 30
    while rpc("eth_getTransactionReceipt", sent) is None:
        assert time.monotonic() < ends, "no block in 30 s"
        time.sleep(0.02)
    return sent


def test_a_chain_that_is_kept_forgets_old_transactions(tmp_path: Path) -> None:
    with anvil.start_anvil(state=tmp_path / "anvil.json") as node:
        rpc = anvil.Rpc(node.url)
        sender, receiver = rpc("eth_accounts")[:2]
        sent = [mined(rpc, sender, receiver)]
        rpc("anvil_mine", hex(anvil.BLOCKS - 2))
        sent.append(mined(rpc, sender, receiver))
        assert rpc("eth_getTransactionReceipt", sent[0])
        rpc("anvil_mine", hex(10))
        assert [rpc("eth_getTransactionReceipt", one) is not None for one in sent] == [False, True]
        rpc.close()
