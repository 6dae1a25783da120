"""Every property that TradingModule promises, one test each. The planted bugs of `mutants.py` run against these."""

from dataclasses import replace
from typing import Any

import pytest

from maxxit.evm.codec import decode, encode_call
from maxxit.ops.devchain.world import Reverted, transact
from tests.chain.lab import DAY, QUARTER, USDC, Lab, reverts, trade
from trading.venues.safe.contract import module as m

pytestmark = pytest.mark.chain

FEE = 200_000


def share_of(profit: int) -> int:
    return profit * 2_000 // 10_000


# ------------------------------------------------------------------ trade ids


def test_trade_id_is_consumed_once(lab: Lab) -> None:
    lab.open("a")
    lab.advance(60)
    with reverts("TRADE_ID_USED"):
        lab.open("a")
    lab.close("a")
    lab.advance(60)
    with reverts("TRADE_ID_USED"):
        lab.open("a", "WBTC")


def test_trade_id_is_consumed_before_any_external_call(lab: Lab) -> None:
    evil = lab.hostile_token()
    question = encode_call("trade_id_used(address,bytes32)", lab.safe, trade("a"))
    lab.tell(evil, "arm(address,bytes,uint256)", lab.module, question, 1)
    lab.open("a", token=evil.address)
    assert lab.number("struck()", to=evil.address) == 1
    answer = lab.rpc(
        "eth_call", {"to": evil.address, "data": "0x" + encode_call("last_word()").hex()}, "latest"
    )
    assert int(answer[2:][128:192], 16) == 1, "in the middle of the swap the id must already be used"


def test_failed_open_leaves_the_trade_id_free(lab: Lab) -> None:
    with reverts("ABOVE_MAX_TRADE"):
        lab.open("a", usdc=1_001 * USDC)
    lab.open("a")


def test_trade_ids_are_per_safe(lab: Lab) -> None:
    other = lab.another_safe()
    lab.open("a")
    lab.open("a", safe=other)
    assert lab.position("a").quantity > 0


# ------------------------------------------------------------------ amounts


def test_amounts_are_measured_by_balance_difference(lab: Lab) -> None:
    before = lab.usdc()
    opened = lab.open("a", min_out=1)
    assert opened.args["quantity"] == lab.held() == lab.position("a").quantity > 1
    assert before - lab.usdc() == 1_000 * USDC + FEE
    before = lab.usdc()
    closed = lab.close("a", min_out=1)
    assert closed.args["usdc_out"] == lab.usdc() - before > 1
    assert lab.held() == 0


def test_fee_on_transfer_token_is_booked_as_received(lab: Lab) -> None:
    evil = lab.hostile_token(slippage_bps=500)
    lab.tell(evil, "take_fee(uint256)", 100)
    opened = lab.open("a", usdc=500 * USDC, token=evil.address)
    assert opened.args["quantity"] == lab.number("balanceOf(address)", lab.safe, to=evil.address)
    assert opened.args["charged"] > 5 * USDC, "the part that was kept back counts as lost"


def test_fee_on_transfer_beyond_the_slippage_reverts(lab: Lab) -> None:
    evil = lab.hostile_token()
    lab.tell(evil, "take_fee(uint256)", 200)
    with reverts("PRICE_FLOOR"):
        lab.open("a", token=evil.address)


def test_token_that_answers_nothing_to_approve_works(lab: Lab) -> None:
    evil = lab.hostile_token()
    lab.tell(evil, "be_silent()")
    lab.open("a", token=evil.address)
    lab.close("a")


def test_receipts_go_only_to_the_safe(lab: Lab) -> None:
    accounts = [
        a for r, a in lab.world.accounts.items() if r not in ("fee_receiver", "profit_receiver", "trader")
    ]
    accounts += [lab.module, lab.world.router]

    def wealth() -> list[int]:
        return [lab.world.balance(s, a) for s in ("USDC", "WETH") for a in accounts]

    before = wealth()
    lab.open("a")
    lab.move("WETH", "1.1")
    lab.close("a")
    assert wealth() == before


def test_router_allowance_is_exact_and_zero_afterwards(lab: Lab) -> None:
    lab.open("a")
    assert lab.allowance("USDC") == 0
    lab.close("a", lab.held() // 2)
    assert lab.allowance("WETH") == 0
    lab.close("a")
    assert lab.allowance("WETH") == lab.allowance("USDC") == 0


def test_router_is_approved_for_the_amount_alone(lab: Lab) -> None:
    approved = encode_call("approve(address,uint256)", lab.world.router, 1_000 * USDC)
    assert approved in [call for _, call in module_calls(lab, "USDC")]


def test_leftover_allowance_is_not_left_standing(lab: Lab) -> None:
    generous = encode_call("approve(address,uint256)", lab.world.router, 10**12)
    transact(lab.rpc, lab.safe, lab.world.usdc, generous)
    lab.open("a")
    assert lab.allowance("USDC") == 0


def module_calls(lab: Lab, symbol: str) -> list[tuple[int, bytes]]:
    """What the module has the Safe do in an open: (operation, calldata), to `symbol` and elsewhere."""
    address = lab.world.address_of("WETH")
    data = m.open_data(lab.safe, trade("traced"), address, 1_000 * USDC, 0, lab.world.now() + 600)
    receipt = transact(lab.rpc, lab.world.accounts["executor"], lab.module, data)
    trace = lab.rpc("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
    found: list[tuple[int, bytes]] = []
    for call in trace["calls"]:
        if call["to"].lower() == lab.safe.lower():
            found.append((int(call["input"][10:][192:256], 16), _inner(call["input"])))
    assert found, symbol
    return found


def _inner(data: str) -> bytes:
    """The calldata inside execTransactionFromModuleReturnData."""
    raw = bytes.fromhex(data[2:])[4:]
    start = int.from_bytes(raw[64:96], "big")
    length = int.from_bytes(raw[start : start + 32], "big")
    return raw[start + 32 : start + 32 + length]


def test_the_safe_is_moved_by_call_only(lab: Lab) -> None:
    assert {operation for operation, _ in module_calls(lab, "any")} == {0}


# ------------------------------------------------------------------ prices


def test_min_out_holds_above_the_oracle_floor(lab: Lab) -> None:
    fair = 1_000 * USDC * 10**18 // (2_500 * USDC)
    with reverts("Too little received"):
        lab.open("a", min_out=fair)
    lab.open("a", min_out=fair * 999 // 1_000)
    with reverts("Too little received"):
        lab.close("a", min_out=1_000 * USDC)


def test_oracle_floor_holds_when_the_executor_asks_for_nothing(lab: Lab) -> None:
    lab.skew("WETH", "1.02")
    with reverts("Too little received"):
        lab.open("a", min_out=0)
    lab.skew("WETH", "1.008")
    lab.open("a", min_out=0)
    lab.skew("WETH", "0.98")
    with reverts("Too little received"):
        lab.close("a", min_out=0)


@pytest.mark.parametrize(("answer", "reason"), [(0, "FEED_BAD"), (-1, "FEED_BAD"), (2**200, "FEED_BAD")])
def test_feed_that_is_not_positive_or_absurd_stops_trading(lab: Lab, answer: int, reason: str) -> None:
    lab.open("a")
    lab.advance(60)
    now = lab.world.now()
    lab.send(
        "rogue",
        encode_call("set_round(int256,uint256,uint256)", answer, now, now),
        lab.world.token("WETH").feed,
    )
    with reverts(reason):
        lab.open("b")
    with reverts(reason):
        lab.close("a")


def test_stale_feed_stops_trading(lab: Lab) -> None:
    lab.open("a")
    lab.advance(3_590, fresh=False)
    lab.world.refresh_feeds()
    lab.advance(3_602, fresh=False)
    with reverts("FEED_STALE"):
        lab.open("b")
    with reverts("FEED_STALE"):
        lab.close("a")
    lab.world.refresh_feeds()
    lab.close("a")


def test_feed_from_the_future_stops_trading(lab: Lab) -> None:
    later = lab.world.now() + 3_600
    data = encode_call("set_round(int256,uint256,uint256)", 2_500 * 10**8, later, later)
    lab.send("rogue", data, lab.world.token("WETH").feed)
    with reverts("FEED_STALE"):
        lab.open("a")


def test_dead_feed_stops_its_token_only(lab: Lab) -> None:
    lab.send("rogue", encode_call("kill()"), lab.world.token("WETH").feed)
    with reverts("FEED_BAD"):
        lab.open("a")
    lab.open("a", "WBTC")


def test_sequencer_down_and_its_grace_period_stop_trading(lab: Lab) -> None:
    lab.open("a")
    lab.advance(60)
    lab.send("rogue", encode_call("set_answer(int256)", 1), lab.world.sequencer_feed)
    with reverts("SEQUENCER_DOWN"):
        lab.open("b")
    with reverts("SEQUENCER_DOWN"):
        lab.close("a")
    lab.send("rogue", encode_call("set_answer(int256)", 0), lab.world.sequencer_feed)
    lab.advance(3_500)
    with reverts("SEQUENCER_DOWN"):
        lab.open("b")
    lab.advance(110)
    lab.open("b")


def test_deadline_is_the_senders(lab: Lab) -> None:
    with reverts("DEADLINE"):
        lab.open("a", deadline=-1)
    lab.open("a")
    with reverts("DEADLINE"):
        lab.close("a", deadline=-1)


def test_late_inclusion_meets_the_price_of_that_moment(lab: Lab) -> None:
    """Signed at 2,500 with a far deadline, mined after a crash: both floors are of the moment of mining."""
    fair = 1_000 * USDC * 10**18 // (2_500 * USDC)
    lab.move("WETH", "1.05")
    with reverts("Too little received"):
        lab.open("a", min_out=fair * 99 // 100, deadline=10**6)


# ------------------------------------------------------------------ limits of the policy


def test_trade_size_limits(lab: Lab) -> None:
    with reverts("BELOW_MIN_TRADE"):
        lab.open("a", usdc=10 * USDC - 1)
    with reverts("ABOVE_MAX_TRADE"):
        lab.open("a", usdc=1_000 * USDC + 1)
    lab.open("a", usdc=10 * USDC)


def test_only_listed_tokens(lab: Lab) -> None:
    with reverts("TOKEN_NOT_LISTED"):
        lab.open("a", token=lab.world.usdc)
    lab.set_policy([rule for rule in lab.world.rules() if rule.token != lab.world.address_of("WBTC")])
    with reverts("TOKEN_NOT_LISTED"):
        lab.open("a", "WBTC")


def test_cooldown_between_opens(lab: Lab) -> None:
    lab.set_policy(cooldown=900)
    lab.open("a", usdc=10 * USDC)
    lab.advance(890)
    with reverts("COOLDOWN"):
        lab.open("b", usdc=10 * USDC)
    lab.advance(15)
    lab.open("b", usdc=10 * USDC)


def test_daily_notional_has_no_double_burst_at_a_boundary(lab: Lab) -> None:
    lab.set_policy(daily_notional=2_000 * USDC)
    lab.to_quarter_end()
    lab.open("a")
    lab.advance(2)
    lab.open("b")
    for step in range(4):
        lab.advance(QUARTER)
        with reverts("DAILY_NOTIONAL"):
            lab.open(f"c{step}", usdc=10 * USDC)
    lab.advance(QUARTER)
    lab.open("d")


def test_trades_per_day_has_no_double_burst_at_a_boundary(lab: Lab) -> None:
    lab.set_policy(trades_per_day=2)
    lab.to_quarter_end()
    lab.open("a", usdc=10 * USDC)
    lab.advance(2)
    lab.open("b", usdc=10 * USDC)
    for step in range(4):
        lab.advance(QUARTER)
        with reverts("TRADES_PER_DAY"):
            lab.open(f"c{step}", usdc=10 * USDC)
    lab.advance(QUARTER)
    lab.open("d", usdc=10 * USDC)


# ------------------------------------------------------------------ the loss budget


def erode(lab: Lab, name: str, usdc: int = 1_000 * USDC) -> None:
    """Buy a little less than 1 % too dear: the worst open that the floor allows."""
    lab.skew("WETH", "1.009")
    lab.open(name, usdc=usdc)
    lab.advance(2)


def test_loss_budget_bounds_erosion(lab: Lab) -> None:
    """Each such open loses 9 and reserves 10 of the 50: the third does not fit."""
    erode(lab, "a")
    erode(lab, "b")
    with reverts("LOSS_BUDGET"):
        erode(lab, "c")
    assert lab.headroom().loss_left < 20 * USDC


def test_loss_budget_has_no_double_burst_at_a_boundary(lab: Lab) -> None:
    lab.to_quarter_end()
    for name in "ab":
        erode(lab, name)
        lab.skew("WETH", "0.991")
        lab.close(name)
    for step in range(4):
        lab.advance(QUARTER)
        with reverts("LOSS_BUDGET"):
            erode(lab, f"c{step}")
    lab.advance(QUARTER)
    erode(lab, "d")


def test_fees_count_against_the_loss_budget(lab: Lab) -> None:
    lab.set_policy(loss_budget=USDC, total_loss_budget=USDC)
    opened = 0
    with reverts("LOSS_BUDGET"):
        for opened in range(10):
            lab.open(f"spam{opened}", usdc=10 * USDC)
            lab.advance(2)
    assert opened == 3, "0.2 fee, 0.005 pool fee and 0.1 reserved each: the fourth does not fit"


def test_total_loss_budget_outlives_the_day_until_the_safe_signs_again(lab: Lab) -> None:
    lab.set_policy(total_loss_budget=60 * USDC)
    for name in "ab":
        erode(lab, name)
        lab.skew("WETH", "0.991")
        lab.close(name)
    lab.advance(2 * DAY)
    erode(lab, "c")
    lab.advance(2 * DAY)
    with reverts("LOSS_BUDGET"):
        erode(lab, "d")
    lab.set_policy(total_loss_budget=60 * USDC)
    erode(lab, "d")


def test_a_new_policy_does_not_empty_the_rolling_day(lab: Lab) -> None:
    erode(lab, "a")
    before = lab.headroom()
    lab.set_policy()
    after = lab.headroom()
    assert (after.loss_left, after.notional_left, after.trades_left) == (
        before.loss_left,
        before.notional_left,
        before.trades_left,
    )


def test_a_losing_market_never_blocks_the_close(lab: Lab) -> None:
    for name in "abc":
        lab.open(name)
        lab.advance(2)
    lab.move("WETH", "0.8")
    for name in "abc":
        lab.close(name)
    assert lab.held() == 0


def test_realised_losses_stop_new_positions(lab: Lab) -> None:
    opened = lab.open("a")
    lab.move("WETH", "0.94")
    closed = lab.close("a")
    assert opened.args["charged"] + closed.args["charged"] == -closed.args["profit"], "counted once"
    assert lab.headroom().loss_left == 0
    lab.advance(60)
    with reverts("LOSS_BUDGET"):
        lab.open("b", usdc=10 * USDC)


def test_close_shortfall_beyond_its_reservation_must_fit_the_budget(lab: Lab) -> None:
    lab.set_policy(loss_budget=12 * USDC)
    lab.open("a")
    lab.move("WETH", "2")
    lab.skew("WETH", "0.9915")
    with reverts("LOSS_BUDGET"):
        lab.close("a")
    lab.skew("WETH", "1")
    lab.close("a")


def test_reservations_return_when_positions_close(lab: Lab) -> None:
    lab.open("a")
    assert lab.number("reserved(address)", lab.safe) == 10 * USDC
    lab.close("a", lab.position("a").quantity // 2)
    assert 5 * USDC <= lab.number("reserved(address)", lab.safe) <= 5 * USDC + 1
    lab.close("a")
    assert lab.number("reserved(address)", lab.safe) == 0


# ------------------------------------------------------------------ cost basis, profit, share


def test_winner_pays_exactly_its_share(lab: Lab) -> None:
    lab.open("a")
    lab.move("WETH", "1.1")
    before = lab.usdc()
    closed = lab.close("a")
    profit = closed.args["usdc_out"] - 1_000 * USDC - FEE
    assert closed.args["profit"] == profit > 98 * USDC
    assert closed.args["share"] == share_of(profit) == lab.usdc("profit_receiver")
    assert lab.usdc() - before == closed.args["usdc_out"] - share_of(profit)
    assert lab.usdc("fee_receiver") == FEE


def test_loser_pays_no_share_and_is_carried_forward(lab: Lab) -> None:
    lab.set_policy(loss_budget=500 * USDC)
    lab.open("a")
    lab.move("WETH", "0.9")
    loss = lab.close("a").args["profit"]
    assert loss < -100 * USDC
    assert lab.usdc("profit_receiver") == 0
    lab.advance(2)
    lab.open("b")
    lab.move("WETH", "1.05")
    small = lab.close("b")
    assert small.args["profit"] > 0 == small.args["share"], "the gain is smaller than the carried loss"
    assert small.args["unshared"] == loss + small.args["profit"]
    lab.advance(2)
    lab.open("c")
    lab.move("WETH", "1.2")
    big = lab.close("c")
    assert big.args["share"] == share_of(loss + small.args["profit"] + big.args["profit"]) > 0


def test_profit_is_shared_once_and_a_later_loss_is_carried(lab: Lab) -> None:
    lab.set_policy(loss_budget=500 * USDC)
    shares = []
    for name, factor in (("win", "1.1"), ("lose", "0.95"), ("less", "1.03")):
        lab.open(name)
        lab.move("WETH", factor)
        shares.append(lab.close(name).args["share"])
        lab.advance(2)
    assert shares[0] > 19 * USDC
    assert shares[1:] == [0, 0], "what was shared already makes up for no later loss"


def test_winners_cannot_be_harvested_while_losers_stay_open(lab: Lab) -> None:
    lab.open("loser", "WBTC")
    lab.advance(2)
    lab.open("winner", "WETH")
    lab.move("WBTC", "0.9")
    lab.move("WETH", "1.08")
    closed = lab.close("winner")
    assert closed.args["profit"] > 75 * USDC
    assert closed.args["share"] == 0, "over all the Safe has lost"
    lab.move("WBTC", "1.2")
    late = lab.close("loser")
    assert late.args["share"] == share_of(late.args["profit"]), (
        "never more than the share of this very profit"
    )
    assert late.args["unshared"] == closed.args["profit"]


def test_unreadable_open_loss_means_no_share_and_no_block(lab: Lab) -> None:
    lab.open("other", "WBTC")
    lab.advance(2)
    lab.open("a")
    lab.move("WETH", "1.1")
    half = lab.position("a").quantity // 2
    now = lab.world.now()
    absurd = encode_call("set_round(int256,uint256,uint256)", 2**250, now, now)
    lab.send("rogue", absurd, lab.world.token("WBTC").feed)
    first = lab.close("a", half)
    lab.send("rogue", encode_call("kill()"), lab.world.token("WBTC").feed)
    second = lab.close("a")
    assert first.args["share"] == second.args["share"] == 0
    assert second.args["unshared"] == first.args["profit"] + second.args["profit"] > 0


def test_partial_closes_account_for_everything_once(lab: Lab) -> None:
    quantity = lab.open("a").args["quantity"]
    lab.move("WETH", "1.1")
    parts = [lab.close("a", quantity // 3), lab.close("a", quantity // 7), lab.close("a")]
    assert sum(part.args["quantity"] for part in parts) == quantity
    assert sum(part.args["cost"] for part in parts) == 1_000 * USDC + FEE
    assert [part.args["share"] for part in parts] == [share_of(part.args["profit"]) for part in parts]
    assert lab.usdc("profit_receiver") == sum(part.args["share"] for part in parts) > 19 * USDC
    assert parts[-1].args["remaining"] == 0 == lab.position("a").cost
    with reverts("NO_POSITION"):
        lab.close("a")


def test_partial_close_of_a_loser_then_a_gain_shares_after_the_loss(lab: Lab) -> None:
    quantity = lab.open("a").args["quantity"]
    lab.move("WETH", "0.98")
    first = lab.close("a", quantity // 2)
    lab.move("WETH", "1.2")
    second = lab.close("a")
    assert first.args["profit"] < 0 < second.args["profit"]
    assert second.args["share"] == share_of(first.args["profit"] + second.args["profit"])


def test_rounding_of_dust_closes_is_never_a_profit(lab: Lab) -> None:
    lab.open("a", "WBTC", usdc=10 * USDC)
    for _ in range(5):
        held, cost = lab.position("a").quantity, lab.position("a").cost
        dust = lab.close("a", 1_001)
        assert dust.args["share"] == 0
        assert dust.args["cost"] == -(-cost * 1_001 // held), "rounded up"
    with reverts("Too little received"):
        lab.close("a", 1)


def test_terms_are_those_of_the_open(lab: Lab) -> None:
    lab.open("a")
    rogue = lab.world.accounts["rogue"]
    lab.set_policy(profit_receiver=rogue, profit_share_bps=0)
    lab.move("WETH", "1.1")
    closed = lab.close("a")
    assert lab.usdc("profit_receiver") == closed.args["share"] == share_of(closed.args["profit"]) > 0
    assert lab.usdc(rogue) == 0


def test_fee_is_charged_once_per_round_trip(lab: Lab) -> None:
    lab.open("a")
    lab.close("a", lab.held() // 2)
    lab.close("a")
    assert lab.usdc("fee_receiver") == FEE


def test_only_what_the_position_holds_can_be_sold(lab: Lab) -> None:
    own = 10**18
    lab.world.mint("WETH", lab.safe, own)
    lab.open("a")
    lab.close("a", 10**24)
    assert lab.held() == own
    with reverts("NO_POSITION"):
        lab.close("never opened")


# ------------------------------------------------------------------ who may do what


def test_only_the_executor_trades(lab: Lab) -> None:
    for stranger in ("guardian", "owner", "fee_receiver", "profit_receiver", "deployer", "rogue"):
        with reverts("NOT_EXECUTOR"):
            lab.open("a", by=stranger)
    lab.open("a")
    for stranger in ("guardian", "owner", "fee_receiver", "profit_receiver", "deployer", "rogue"):
        with reverts("NOT_EXECUTOR"):
            lab.close("a", by=stranger)


def test_only_the_safe_changes_its_policy(lab: Lab) -> None:
    lab.set_policy()
    before = lab.raw(m.policies_data(lab.safe))
    accounts = lab.world.accounts
    theirs = lab.world.policy(executor=accounts["rogue"], guardian=accounts["trader"])
    for stranger in ("executor", "guardian", "owner", "deployer"):
        lab.send(stranger, m.set_policy_data(theirs, lab.world.rules()))
        lab.send(stranger, m.call_data("revoke"))
    assert lab.raw(m.policies_data(lab.safe)) == before
    with reverts("NOT_EXECUTOR"):
        lab.open("a", by="rogue")


def test_executor_names_no_receiver_pool_or_feed(lab: Lab) -> None:
    """The two calls of the executor carry no address but the Safe's and the token's."""
    from trading.venues.safe.contract.build import load

    calls = {
        entry["name"]: entry["inputs"]
        for entry in load("TradingModule")["abi"]
        if entry["type"] == "function"
    }
    for name in ("open_position", "close_position"):
        addresses = [part["name"] for part in calls[name] if part["type"] == "address"]
        assert set(addresses) <= {"safe", "token"}


def test_no_upgrade_and_no_admin(lab: Lab) -> None:
    from trading.venues.safe.contract.build import load

    writers = {
        entry["name"]
        for entry in load("TradingModule")["abi"]
        if entry["type"] == "function" and entry["stateMutability"] != "view"
    }
    assert writers - {"VERSION"} == {
        "set_policy", "cancel_loosening", "revoke", "stop", "resume", "release_position", "open_position",
        "close_position",
    }  # fmt: skip


def test_a_safe_has_no_power_over_another(lab: Lab) -> None:
    other = lab.another_safe(executor=lab.world.accounts["trader"])
    lab.open("a")
    with reverts("NO_POSITION"):
        lab.send(other, m.call_data("release_position", trade("a")))
    with reverts("NOT_EXECUTOR"):
        lab.close("a", by=other)
    with reverts("NOT_EXECUTOR"):
        lab.open("b", by="trader")
    with reverts("NOT_GUARDIAN"):
        lab.send(other, m.call_data("stop", lab.safe, m.HALTED))


def test_guardian_can_only_stop(lab: Lab) -> None:
    lab.open("a")
    lab.send("guardian", m.call_data("stop", lab.safe, m.NO_ENTRIES))
    lab.advance(2)
    with reverts("STOPPED"):
        lab.open("b")
    lab.close("a", lab.held() // 2)
    lab.send("guardian", m.call_data("stop", lab.safe, m.HALTED))
    with reverts("STOPPED"):
        lab.close("a")
    with reverts("NOT_EXECUTOR"):
        lab.close("a", by="guardian")
    with reverts("STOP_LEVEL"):
        lab.send("guardian", m.call_data("stop", lab.safe, m.NO_ENTRIES))
    lab.send("guardian", m.call_data("resume"))
    assert lab.headroom().stop_level == m.HALTED, "only the Safe resumes"
    lab.send(lab.safe, m.call_data("resume"))
    lab.close("a")


def test_strangers_cannot_stop(lab: Lab) -> None:
    for stranger in ("executor", "rogue", "owner"):
        with reverts("NOT_GUARDIAN"):
            lab.send(stranger, m.call_data("stop", lab.safe, m.HALTED))


def test_signing_a_new_policy_does_not_lift_a_stop(lab: Lab) -> None:
    lab.send("guardian", m.call_data("stop", lab.safe, m.HALTED))
    lab.set_policy()
    with reverts("STOPPED"):
        lab.open("a")


def test_safe_can_revoke_at_any_time(lab: Lab) -> None:
    lab.open("a")
    lab.send(lab.safe, m.call_data("revoke"))
    with reverts("NOT_EXECUTOR"):
        lab.close("a")
    with reverts("NOT_EXECUTOR"):
        lab.open("b")
    with reverts("NOT_GUARDIAN"):
        lab.send("guardian", m.call_data("stop", lab.safe, m.HALTED))
    assert lab.close("a", by=lab.safe).args["by"] == lab.safe


def test_disabled_module_can_do_nothing(lab: Lab) -> None:
    sentinel = "0x0000000000000000000000000000000000000001"
    transact(lab.rpc, lab.safe, lab.safe, encode_call("disableModule(address,address)", sentinel, lab.module))
    with reverts("GS104"):
        lab.open("a")


def test_owners_can_close_without_executor_and_feed(lab: Lab) -> None:
    lab.open("a")
    lab.skew("WETH", "0.9")
    lab.send("guardian", m.call_data("stop", lab.safe, m.HALTED))
    lab.send("rogue", encode_call("kill()"), lab.world.token("WETH").feed)
    lab.send("rogue", encode_call("set_answer(int256)", 1), lab.world.sequencer_feed)
    charged = lab.number("total_charged(address)", lab.safe)
    with reverts("Too little received"):
        lab.close("a", by=lab.safe, min_out=950 * USDC)
    closed = lab.close("a", by=lab.safe, min_out=850 * USDC)
    assert closed.args["charged"] == 0
    assert lab.number("total_charged(address)", lab.safe) == charged
    assert lab.held() == 0


def test_owner_exit_shares_profit_like_any_close(lab: Lab) -> None:
    lab.open("a")
    lab.move("WETH", "1.1")
    closed = lab.close("a", by=lab.safe)
    assert closed.args["share"] == share_of(closed.args["profit"]) == lab.usdc("profit_receiver") > 0


def test_safe_can_release_a_position_to_itself(lab: Lab) -> None:
    lab.open("a")
    held = lab.held()
    for stranger in ("executor", "guardian"):
        with reverts("NO_POSITION"):
            lab.send(stranger, m.call_data("release_position", trade("a")))
    lab.send(lab.safe, m.call_data("release_position", trade("a")))
    assert lab.held() == held
    assert lab.number("reserved(address)", lab.safe) == 0
    with reverts("NO_POSITION"):
        lab.close("a")
    lab.advance(2)
    with reverts("TRADE_ID_USED"):
        lab.open("a")


BAD_POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"executor": "0x" + "0" * 40}, "POLICY_KEYS"), ({"guardian": "0x" + "0" * 40}, "POLICY_KEYS"),
    ({"fee_receiver": "0x" + "0" * 40}, "POLICY_RECEIVER"), ({"profit_receiver": "0x" + "0" * 40}, "POLICY_RECEIVER"),
    ({"min_trade": 10 * USDC - 1}, "POLICY_TRADE_SIZE"), ({"max_trade": 9 * USDC}, "POLICY_TRADE_SIZE"),
    ({"daily_notional": 999 * USDC}, "POLICY_NOTIONAL"), ({"daily_notional": 2**44}, "POLICY_NOTIONAL"),
    ({"trades_per_day": 0}, "POLICY_TRADES"), ({"cooldown": DAY + 1}, "POLICY_COOLDOWN"),
    ({"slippage_bps": 0}, "POLICY_SLIPPAGE"), ({"slippage_bps": 501}, "POLICY_SLIPPAGE"),
    ({"loss_budget": 0}, "POLICY_BUDGET"), ({"total_loss_budget": 49 * USDC}, "POLICY_BUDGET"),
    ({"profit_share_bps": 2_001}, "POLICY_SHARE"), ({"trade_fee": 200_001}, "POLICY_FEE"),
    ({"loosen_delay": 30 * DAY + 1}, "POLICY_DELAY"),
]  # fmt: skip


def test_policy_bounds_are_enforced(lab: Lab) -> None:
    """Share <= 20 %, fee <= 0.2 USDC, min trade >= 10 USDC, and no limit that is zero, missing or absurd."""
    for change, reason in BAD_POLICIES:
        with reverts(reason):
            lab.set_policy(**change)
    executor = lab.world.accounts["executor"]
    with reverts("POLICY_KEYS"):
        lab.set_policy(guardian=executor)


def test_policy_token_list_is_checked(lab: Lab) -> None:
    good = lab.world.rules()
    usdc = m.TokenRule(lab.world.usdc, good[0].feed, 500, 3_600)
    stale = m.TokenRule(good[0].token, good[0].feed, 500, 0)
    for rules in ([], [usdc], [stale], [good[0], good[0]]):
        with pytest.raises(Reverted):
            lab.send(lab.safe, m.set_policy_data(lab.world.policy(), rules))
    lab.open("a", "WBTC")
    with reverts("TOKEN_IN_USE"):
        lab.set_policy([rule for rule in good if rule.token != lab.world.address_of("WBTC")])


# ------------------------------------------------------------------ tightened at once, loosened after a delay

DELAY = 2 * DAY
ROGUE = "the rogue's address"
# Each limit: a stricter and a looser value than the policy in `delayed`. None: no value is stricter.
DIRECTIONS: list[tuple[str, Any, Any]] = [
    ("executor", None, ROGUE), ("guardian", None, ROGUE), ("fee_receiver", None, ROGUE),
    ("profit_receiver", None, ROGUE), ("min_trade", 30 * USDC, 10 * USDC), ("max_trade", 900 * USDC, 1_100 * USDC),
    ("daily_notional", 9_000 * USDC, 11_000 * USDC), ("trades_per_day", 23, 25), ("cooldown", 90, 30),
    ("slippage_bps", 90, 110), ("loss_budget", 40 * USDC, 60 * USDC), ("total_loss_budget", 400 * USDC, 600 * USDC),
    ("profit_share_bps", 900, 1_100), ("trade_fee", 90_000, 110_000), ("loosen_delay", 3 * DAY, 0),
]  # fmt: skip
DELAYED = {
    "min_trade": 20 * USDC,
    "cooldown": 60,
    "profit_share_bps": 1_000,
    "trade_fee": 100_000,
    "loosen_delay": DELAY,
}


def delayed(lab: Lab) -> m.Policy:
    """Sets, and returns, a policy whose loosening waits two days."""
    lab.set_policy(None, **DELAYED)
    return lab.policy()


def loosen(lab: Lab, **changes: Any) -> list[str]:
    """The Safe sets the delayed policy with changes; the names of the events."""
    return [log.name for log in lab.set_policy(**{**DELAYED, **changes})]


def test_every_limit_of_the_policy_has_a_direction(lab: Lab) -> None:
    assert {name for name, _, _ in DIRECTIONS} == set(m.Policy.__dataclass_fields__)


@pytest.mark.parametrize(("name", "stricter", "looser"), DIRECTIONS)
def test_each_limit_tightens_at_once_and_loosens_after_the_delay(
    lab: Lab, name: str, stricter: Any, looser: Any
) -> None:
    before = delayed(lab)
    if stricter is not None:
        assert loosen(lab, **{name: stricter}) == ["PolicySet"]
        assert lab.policy() == replace(before, **{name: stricter})
        lab.fresh()
        delayed(lab)
    wanted = lab.world.accounts["rogue"] if looser is ROGUE else looser
    assert loosen(lab, **{name: wanted}) == ["PolicyPending", "PolicyTightened"]
    assert (lab.policy(), lab.headroom().loosens_at > 0) == (before, True)
    lab.advance(DELAY - 30)
    assert lab.policy() == before
    lab.advance(60)
    assert lab.policy() == replace(before, **{name: wanted})  # type: ignore[arg-type]  # by name
    assert (lab.pending(), lab.headroom().loosens_at) == (None, 0)


def test_the_first_policy_is_in_force_at_once_whatever_its_delay(lab: Lab) -> None:
    other = lab.another_safe(loosen_delay=30 * DAY)
    assert lab.open("a", safe=other).args["safe"] == other


def test_stricter_limits_of_a_pending_policy_hold_at_once(lab: Lab) -> None:
    before = delayed(lab)
    loosen(lab, max_trade=500 * USDC, loss_budget=200 * USDC, cooldown=600)
    after = lab.policy()
    assert after == before.stricter(
        replace(before, max_trade=500 * USDC, loss_budget=200 * USDC, cooldown=600)
    )
    assert (after.max_trade, after.loss_budget, after.cooldown) == (500 * USDC, 50 * USDC, 600)
    with reverts("ABOVE_MAX_TRADE"):
        lab.open("a", usdc=501 * USDC)
    pending = lab.pending()
    assert pending is not None
    assert (pending.policy.loss_budget, pending.rules) == (200 * USDC, tuple(lab.world.rules()))
    assert 0 <= pending.effective_at - DELAY - lab.world.now() + 1 <= 2


def test_a_pending_policy_is_in_force_from_its_time_on_without_another_call(lab: Lab) -> None:
    delayed(lab)
    loosen(lab, max_trade=2_000 * USDC)
    with reverts("ABOVE_MAX_TRADE"):
        lab.open("a", usdc=1_500 * USDC)
    lab.advance(DELAY + 1)
    data = m.open_data(
        lab.safe, trade("a"), lab.world.address_of("WETH"), 1_500 * USDC, 0, lab.world.now() + 600
    )
    assert [log.name for log in lab.send("executor", data)] == ["PolicyLoosened", "PositionOpened"]
    lab.advance(61)
    assert [
        log.name for log in lab.send("executor", m.close_data(lab.safe, trade("a"), 0, lab.world.now() + 600))
    ] == ["PositionClosed"]


def test_keys_rotate_after_the_delay_and_the_old_key_serves_until_then(lab: Lab) -> None:
    delayed(lab)
    rogue = lab.world.accounts["rogue"]
    loosen(lab, executor=rogue)
    with reverts("NOT_EXECUTOR"):
        lab.open("a", by="rogue")
    lab.open("a")
    lab.advance(DELAY + 1)
    with reverts("NOT_EXECUTOR"):
        lab.close("a")
    lab.close("a", by="rogue")


def test_a_replaced_guardian_can_stop_until_the_new_one_is_in_force(lab: Lab) -> None:
    delayed(lab)
    loosen(lab, guardian=lab.world.accounts["rogue"])
    with reverts("NOT_GUARDIAN"):
        lab.send("rogue", m.call_data("stop", lab.safe, m.HALTED))
    lab.send("guardian", m.call_data("stop", lab.safe, m.NO_ENTRIES))
    lab.advance(DELAY + 1)
    with reverts("NOT_GUARDIAN"):
        lab.send("guardian", m.call_data("stop", lab.safe, m.HALTED))
    lab.send("rogue", m.call_data("stop", lab.safe, m.HALTED))


def test_safe_and_guardian_can_cancel_a_loosening_and_nobody_else(lab: Lab) -> None:
    before = delayed(lab)
    for canceller in ("guardian", lab.safe):
        loosen(lab, max_trade=2_000 * USDC)
        for stranger in ("executor", "owner", "rogue"):
            with reverts("NOT_GUARDIAN"):
                lab.send(stranger, m.call_data("cancel_loosening", lab.safe))
        assert [log.name for log in lab.send(canceller, m.call_data("cancel_loosening", lab.safe))] == [
            "LooseningCancelled"
        ]
        assert lab.pending() is None
        lab.advance(DELAY + 1)
        assert lab.policy() == before
        with reverts("NOTHING_PENDING"):
            lab.send(canceller, m.call_data("cancel_loosening", lab.safe))


def test_a_loosening_whose_time_has_come_cannot_be_cancelled(lab: Lab) -> None:
    delayed(lab)
    loosen(lab, max_trade=2_000 * USDC)
    lab.advance(DELAY + 1)
    with reverts("NOTHING_PENDING"):
        lab.send("guardian", m.call_data("cancel_loosening", lab.safe))
    assert lab.policy().max_trade == 2_000 * USDC


def test_a_later_policy_replaces_the_pending_one_and_waits_its_own_delay(lab: Lab) -> None:
    before = delayed(lab)
    loosen(lab, max_trade=2_000 * USDC)
    lab.advance(DAY)
    loosen(lab, max_trade=3_000 * USDC)
    lab.advance(DAY + 60)
    assert lab.policy() == before
    loosen(lab)
    lab.advance(2 * DAY)
    assert (lab.policy(), lab.pending()) == (before, None), "the Safe's latest policy is the one that counts"


def test_a_shorter_delay_waits_the_longer_one(lab: Lab) -> None:
    delayed(lab)
    loosen(lab, loosen_delay=0)
    assert loosen(lab, loosen_delay=0, max_trade=2_000 * USDC) == ["PolicyPending", "PolicyTightened"]
    lab.advance(DELAY + 1)
    assert loosen(lab, loosen_delay=0, max_trade=3_000 * USDC) == ["PolicyLoosened", "PolicySet"]


def test_revoke_drops_a_pending_policy_and_the_delay_outlasts_it(lab: Lab) -> None:
    delayed(lab)
    loosen(lab, max_trade=2_000 * USDC)
    lab.send(lab.safe, m.call_data("revoke"))
    assert lab.pending() is None
    lab.advance(DELAY + 1)
    with reverts("NOT_EXECUTOR"):
        lab.open("a")
    assert loosen(lab) == ["PolicyPending"], "revoking and signing anew is no way round the delay"
    with reverts("NOT_EXECUTOR"):
        lab.open("a")
    with reverts("NOT_GUARDIAN"):
        lab.send("guardian", m.call_data("cancel_loosening", lab.safe))
    lab.advance(DELAY + 1)
    lab.open("a")


def test_a_new_total_loss_budget_waits_too(lab: Lab) -> None:
    lab.set_policy(loosen_delay=DELAY, total_loss_budget=60 * USDC)
    for name in "ab":
        erode(lab, name)
        lab.skew("WETH", "0.991")
        lab.close(name)
    charged = lab.number("total_charged(address)", lab.safe)
    assert charged > 30 * USDC
    lab.set_policy(loosen_delay=DELAY, total_loss_budget=60 * USDC)
    assert lab.number("total_charged(address)", lab.safe) == charged
    lab.advance(DELAY - 60)
    erode(lab, "c")
    with reverts("LOSS_BUDGET"):
        erode(lab, "d")
    lab.advance(120)
    assert lab.number("total_charged(address)", lab.safe) == 0
    erode(lab, "d")


def test_another_token_pool_or_feed_waits_and_a_removed_token_goes_at_once(lab: Lab) -> None:
    weth, wbtc = lab.world.rules()

    def signed(*rules: m.TokenRule) -> list[str]:
        return [log.name for log in lab.set_policy(list(rules), loosen_delay=DELAY)]

    signed(weth)
    looser = (
        [weth, wbtc],
        [replace(weth, pool_fee=3000)],
        [replace(weth, feed=wbtc.feed)],
        [replace(weth, max_age=7_200)],
    )
    for rules in looser:
        assert signed(*rules) == ["PolicyPending", "PolicyTightened"], rules
        assert seen_rules(lab) == [weth]
        with reverts("TOKEN_NOT_LISTED"):
            lab.open("a", "WBTC")
        lab.send("guardian", m.call_data("cancel_loosening", lab.safe))
    assert signed(replace(weth, max_age=600)) == ["PolicySet"]
    assert signed(wbtc, weth) == ["PolicyPending", "PolicyTightened"]
    assert seen_rules(lab) == [replace(weth, max_age=600)]
    assert signed(wbtc) == ["PolicyPending", "PolicyTightened"]
    assert seen_rules(lab) == [], "a token that the pending policy leaves out cannot be bought any more"
    with reverts("TOKEN_NOT_LISTED"):
        lab.open("a")
    lab.advance(DELAY + 1)
    assert seen_rules(lab) == [wbtc]
    lab.open("a", "WBTC")


def seen_rules(lab: Lab) -> list[m.TokenRule]:
    """The tokens of the policy in force."""
    tokens = decode(["address[]"], lab.raw(m.listed_data(lab.safe)))[0]
    kinds = ["address", "uint24", "uint256", "uint256", "bool"]
    return [m.TokenRule(token, *decode(kinds, lab.raw(m.rule_data(lab.safe, token)))[:3]) for token in tokens]


def test_a_token_with_open_positions_stays_in_the_pending_policy_too(lab: Lab) -> None:
    delayed(lab)
    lab.open("a", "WBTC")
    weth = lab.world.rules()[:1]
    with reverts("TOKEN_IN_USE"):
        lab.set_policy(weth, **DELAYED, max_trade=2_000 * USDC)
    lab.send(lab.safe, m.call_data("revoke"))
    with reverts("TOKEN_IN_USE"):
        lab.set_policy(weth, **DELAYED)


def test_events_alone_rebuild_a_pending_policy(lab: Lab) -> None:
    def book() -> m.Book:
        return m.rebuild(lab.logs())[lab.safe]

    delayed(lab)
    lab.open("a")
    loosen(lab, max_trade=2_000 * USDC, cooldown=600)
    assert (book().policy, book().pending, book().tokens) == (
        lab.policy(),
        lab.pending(),
        tuple(seen_rules(lab)),
    )
    lab.send("guardian", m.call_data("cancel_loosening", lab.safe))
    assert (book().policy, book().pending) == (lab.policy(), None)
    loosen(lab, max_trade=2_000 * USDC, cooldown=600)
    lab.advance(DELAY + 1)
    lab.close("a")
    after = book()
    assert (after.policy, after.pending, after.tokens) == (lab.policy(), None, tuple(lab.world.rules()))
    assert after.total_charged == lab.number("total_charged(address)", lab.safe)
    loosen(lab, max_trade=3_000 * USDC)
    lab.send(lab.safe, m.call_data("revoke"))
    assert (book().policy, book().pending) == (None, None)


# ------------------------------------------------------------------ hostile tokens


def test_reentrant_token_is_repelled(lab: Lab) -> None:
    """The token is even the executor itself, so nothing but the lock stands in its way."""
    evil = lab.hostile_token()
    rules = [*lab.world.rules(), m.TokenRule(evil.address, evil.feed, 3000, 3_600)]
    lab.set_policy(rules, executor=evil.address, cooldown=0)
    late = lab.world.now() + 600

    def do(data: bytes) -> None:
        lab.tell(evil, "act(address,bytes)", lab.module, data)

    do(m.open_data(lab.safe, trade("first"), lab.world.address_of("WETH"), 100 * USDC, 0, late))
    strikes = (
        m.open_data(lab.safe, trade("inner"), lab.world.address_of("WETH"), 100 * USDC, 0, late),
        m.close_data(lab.safe, trade("first"), 0, late),
        m.close_data(lab.safe, trade("outer2"), 0, late),
        m.call_data("stop", lab.safe, m.HALTED),
    )
    for number, strike in enumerate(strikes):
        lab.tell(evil, "arm(address,bytes,uint256)", lab.module, strike, 1)
        do(m.open_data(lab.safe, trade(f"outer{number}"), evil.address, 100 * USDC, 0, late))
    assert lab.number("struck()", to=evil.address) == 0
    assert lab.number("repelled()", to=evil.address) == len(strikes)


def test_reentry_during_a_close_is_repelled(lab: Lab) -> None:
    evil = lab.hostile_token()
    rules = [*lab.world.rules(), m.TokenRule(evil.address, evil.feed, 3000, 3_600)]
    lab.set_policy(rules, executor=evil.address, cooldown=0)
    late = lab.world.now() + 600
    for name, token in (("evil", evil.address), ("good", lab.world.address_of("WETH"))):
        data = m.open_data(lab.safe, trade(name), token, 100 * USDC, 0, late)
        lab.tell(evil, "act(address,bytes)", lab.module, data)
    inner = m.close_data(lab.safe, trade("good"), 0, late)
    lab.tell(evil, "arm(address,bytes,uint256)", lab.module, inner, 1)
    lab.tell(evil, "act(address,bytes)", lab.module, m.close_data(lab.safe, trade("evil"), 0, late))
    assert lab.number("struck()", to=evil.address) == 0
    assert lab.position("good").quantity > 0


# ------------------------------------------------------------------ events


def test_events_alone_rebuild_positions_fees_and_shares(lab: Lab) -> None:
    start = lab.usdc()
    lab.set_policy(loss_budget=200 * USDC)
    for name, symbol in (("win", "WETH"), ("lose", "WBTC"), ("half", "WETH"), ("gone", "WBTC")):
        lab.open(name, symbol)
        lab.advance(2)
    lab.move("WETH", "1.1")
    lab.move("WBTC", "0.95")
    lab.close("lose")
    lab.close("win")
    lab.close("half", lab.position("half").quantity // 3)
    lab.send(lab.safe, m.call_data("release_position", trade("gone")))
    lab.send("guardian", m.call_data("stop", lab.safe, m.NO_ENTRIES))
    book = m.rebuild(lab.logs())[lab.safe]
    assert book.policy == m.decode_policy(lab.raw(m.policies_data(lab.safe)))
    assert book.tokens == tuple(lab.world.rules())
    assert book.stop_level == m.NO_ENTRIES
    for name in ("win", "lose", "half", "gone"):
        seen, told = lab.position(name), book.positions[trade(name)]
        assert (seen.token, seen.quantity, seen.cost) == (told.token, told.quantity, told.cost)
    assert book.fees == {lab.world.accounts["fee_receiver"]: lab.usdc("fee_receiver")}
    assert book.shares == {lab.world.accounts["profit_receiver"]: lab.usdc("profit_receiver")}
    assert book.unshared == lab.number("unshared(address)", lab.safe)
    assert book.total_charged == lab.number("total_charged(address)", lab.safe)
    assert book.usdc_delta == lab.usdc() - start
    lab.send(lab.safe, m.call_data("resume"))
    lab.send(lab.safe, m.call_data("revoke"))
    after = m.rebuild(lab.logs())[lab.safe]
    assert (after.policy, after.stop_level) == (None, 0)
