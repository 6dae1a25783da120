"""Nobody gets into the module in the middle of its own calls, and a keeper that strikes in GMX's gains nothing."""

import pytest

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.gmx import data_key
from maxxit.ops.devchain.world import Builder, read, transact
from tests.chain.perps.lab import FEE, USDC, PerpLab, trade
from trading.venues.gmx.contract import module as p

pytestmark = pytest.mark.chain

COST = 100 * USDC + 200_000


def hostile_usdc(lab: PerpLab) -> str:
    """USDC becomes a HostileToken with the Safe's balance; the token is the guardian."""
    variant = Builder(lab.world.rpc_url).local("HostileToken", ["uint8"], [6])
    token = lab.world.usdc
    lab.rpc("anvil_setCode", token, lab.rpc("eth_getCode", variant, "latest"))
    lab.rpc("anvil_setStorageAt", token, hex(0), "0x" + (6).to_bytes(32).hex())  # decimals
    transact(
        lab.rpc, lab.world.accounts["rogue"], token, encode_call("mint(address,uint256)", lab.safe, 10**10)
    )
    lab.rpc("anvil_setBalance", token, hex(10**20))
    lab.sign(guardian=token)
    return token


def test_a_reentrant_token_is_repelled(lab: PerpLab) -> None:
    token = hostile_usdc(lab)
    strikes = (
        p.call_data("stop", lab.safe, p.HALTED),
        p.settle_data(lab.safe, trade("a")),
        p.claim_data(lab.safe, lab.market()),
        p.close_data(lab.safe, trade("a"), acceptable_price=1, execution_fee=0, deadline=2**40),
    )
    for number, strike in enumerate(strikes):
        arm = encode_call("arm(address,bytes,uint256)", lab.module, strike, 2)
        transact(lab.rpc, lab.world.accounts["rogue"], token, arm)
        symbol = ("WETH", "WBTC")[number % 2]
        if number < 2:
            lab.request(str(number), symbol)
            lab.advance(2)
        else:
            lab.advance(301)
            before = lab.known(str(number - 2))
            lab.cancel(before.increase_key)
        assert lab.number("struck()", to=token) == 0
        assert read(lab.rpc, token, encode_call("last_word()"), ["bytes"]) == (b"",), "refused by the lock"
    assert lab.number("repelled()", to=token) == 2 + 2 + 1 + 1
    assert lab.headroom().stop_level == 0


def test_a_keeper_that_strikes_when_it_is_paid_gains_nothing(lab: PerpLab) -> None:
    """In the middle of GMX's transaction, before and after the end of a trade, settling finds nothing to take."""
    thief = Builder(lab.world.rpc_url).local(
        "PerpThief", ["address"] * 3, [lab.gmx.data_store, lab.gmx.order_handler, lab.gmx.liquidation_handler]
    )
    grant = encode_call(
        "grantRoles((address,bytes32)[])",
        [(thief, data_key("ORDER_KEEPER")), (thief, data_key("FROZEN_ORDER_KEEPER"))],
    )
    transact(lab.rpc, lab.world.accounts["deployer"], lab.gmx.role_store, grant)
    lab.rpc("anvil_setBalance", thief, hex(10**20))
    lab.sign(executor=thief)
    tokens = [lab.world.address_of("WETH"), lab.world.address_of("WBTC"), lab.world.usdc]
    prices = [lab.units("2500"), lab.units("60000", "WBTC"), 10**24]
    before = lab.usdc()

    def act(data: bytes, value: int) -> None:
        call = encode_call("act(address,bytes)", lab.module, data)
        transact(lab.rpc, lab.world.accounts["rogue"], thief, call, value)

    def work(strike: bytes) -> None:
        arm = encode_call("arm(address,bytes,uint256)", lab.module, strike, 9)
        transact(lab.rpc, lab.world.accounts["rogue"], thief, arm)
        call = encode_call("work(address,address[],uint256[],uint256)", lab.safe, tokens, prices, 2 + 4)
        transact(lab.rpc, lab.world.accounts["rogue"], thief, call)

    opening = lab.opening("a", stop_price=lab.units("2400"), target_price=lab.units("2700"))
    act(p.open_data(lab.safe, opening, 2**40), 3 * FEE)
    work(p.settle_data(lab.safe, trade("a")))
    assert (lab.known().ended, lab.reserved()) == (False, COST), "the position exists: nothing to settle"
    close = p.close_data(
        lab.safe, trade("a"), acceptable_price=lab.units("2480"), execution_fee=FEE, deadline=2**40
    )
    act(close, FEE)
    keys = lab.known()
    transact(
        lab.rpc,
        lab.world.accounts["rogue"],
        thief,
        encode_call("arm(address,bytes,uint256)", lab.module, p.settle_data(lab.safe, trade("a")), 9),
    )
    close_place = encode_call("work(address,address[],uint256[],uint256)", lab.safe, tokens, prices, 0)
    transact(lab.rpc, lab.world.accounts["rogue"], thief, close_place)
    assert lab.known().ended
    assert not lab.holds_order(keys.stop_key)
    lost = before - lab.usdc()
    assert lab.charged() == lost < 2 * USDC
    assert lab.reserved() == 0
