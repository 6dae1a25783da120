"""One signature of the owners starts everything, and one ends it; the card says what it means."""

from datetime import UTC, datetime

import pytest
from eth_account import Account

from maxxit.evm.codec import encode_call
from maxxit.evm.rpc import Chain
from maxxit.ops.devchain.world import Builder, local_key, read
from tests.chain.lab import DAY, USDC, Lab, reverts
from trading.venues.safe import library, onboarding, safe_contract, verify
from trading.venues.safe.contract import module as m

pytestmark = pytest.mark.chain


def enabled(lab: Lab, safe: str) -> bool:
    answer: bool = read(lab.rpc, safe, encode_call("isModuleEnabled(address)", lab.module), ["bool"])[0]
    return answer


def reading(lab: Lab) -> Chain:
    return Chain(
        31337, [lab.world.rpc_url], head_lag=5, health_seconds=60, timeout=60, multicall=lab.world.multicall
    )


def test_predicted_safe_is_where_it_lands(lab: Lab) -> None:
    owners = [lab.world.accounts["owner"], lab.world.accounts["rogue"]]
    setup = onboarding.safe_setup_data(owners, 2)
    expected = onboarding.predict_safe(library.reading(reading(lab)), setup, 42)
    assert lab.rpc("eth_getCode", expected, "latest") == "0x"
    lab.world.send("deployer", library.deployed("SafeProxyFactory"), onboarding.create_safe_data(setup, 42))
    assert lab.number("getThreshold()", to=expected) == 2
    assert read(lab.rpc, expected, encode_call("getOwners()"), ["address[]"])[0] == owners


def test_a_new_safe_is_created_with_module_and_policy_by_one_transaction(lab: Lab) -> None:
    """Sent by its owner, who signs nothing else; the Safe lands where it was predicted and may be traded at once."""
    owner, policy, rules = lab.world.accounts["rogue"], lab.world.policy(), lab.world.rules()
    setup = onboarding.trading_setup_data(owner, lab.module, policy, rules)
    safe = onboarding.predict_safe(library.reading(reading(lab)), setup, 7)
    receipt = lab.world.send(
        "rogue", library.deployed("SafeProxyFactory"), onboarding.create_safe_data(setup, 7)
    )
    assert enabled(lab, safe)
    assert read(lab.rpc, safe, encode_call("getOwners()"), ["address[]"])[0] == [owner]
    assert lab.number("getThreshold()", to=safe) == 1
    assert [log.name for log in m.decode_logs(receipt["logs"], lab.module)] == ["PolicySet"]
    assert m.decode_policy(lab.raw(m.policies_data(safe))) == policy
    assert safe_contract.read(reading(lab), safe).objections == []
    lab.world.mint("USDC", safe, 100 * USDC)
    assert lab.open("a", usdc=50 * USDC, safe=safe).args["safe"] == safe


def test_another_policy_is_another_safe(lab: Lab) -> None:
    """Nobody can create the Safe that an owner expects with a policy that the owner did not see."""
    owner, rules = lab.world.accounts["rogue"], lab.world.rules()
    addresses = {
        onboarding.predict_safe(
            library.reading(reading(lab)),
            onboarding.trading_setup_data(owner, lab.module, lab.world.policy(max_trade=size * USDC), rules),
            7,
        )
        for size in (100, 200)
    }
    assert len(addresses) == 2


def test_the_only_owner_sends_a_safe_transaction_without_another_signature(lab: Lab) -> None:
    owner = lab.world.accounts["owner"]
    tx = onboarding.revoke_tx(31337, lab.safe, lab.module, lab.world.safe_nonce())
    with reverts("GS025"):
        lab.world.send("rogue", lab.safe, onboarding.owner_exec_data(tx, owner))
    lab.world.send("owner", lab.safe, onboarding.owner_exec_data(tx, owner))
    assert not enabled(lab, lab.safe)
    assert [to for to, _ in onboarding.calls_of(tx)] == [lab.module, lab.safe]


def test_one_transaction_enables_the_module_and_sets_the_policy(lab: Lab) -> None:
    owner = lab.world.accounts["owner"]
    safe = Builder(lab.world.rpc_url).safe([owner])
    policy, rules = lab.world.policy(), lab.world.rules()
    tx = onboarding.enable_tx(31337, safe, lab.module, policy, rules, 0)
    receipt = lab.world.execute_as_owner(tx)
    assert enabled(lab, safe)
    assert m.decode_policy(lab.raw(m.policies_data(safe))) == policy
    assert [log.name for log in m.decode_logs(receipt["logs"], lab.module)] == ["PolicySet"]
    lab.world.mint("USDC", safe, 100 * USDC)
    assert lab.open("a", usdc=50 * USDC, safe=safe).args["safe"] == safe


def test_signed_hash_is_the_safes_own(lab: Lab) -> None:
    tx = onboarding.enable_tx(
        31337, lab.safe, lab.module, lab.world.policy(), lab.world.rules(), 7, enabled=True
    )
    zero = "0x" + "0" * 40
    ask = encode_call(
        "getTransactionHash(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,uint256)",
        tx.to, 0, tx.data, tx.operation, 0, 0, 0, zero, zero, 7,
    )  # fmt: skip
    expected = read(lab.rpc, lab.safe, ask, ["bytes32"])[0]
    assert onboarding.safe_tx_hash(tx) == expected
    body = onboarding.safe_tx_json(tx)
    assert body["contractTransactionHash"] == "0x" + expected.hex()
    message = Account.sign_typed_data(local_key("owner"), full_message=body["eip712"])
    assert bytes(message.message_hash) == expected, "a wallet that signs the typed data signs the same hash"


def test_revoke_transaction_ends_policy_and_module(lab: Lab) -> None:
    lab.world.execute_as_owner(onboarding.revoke_tx(31337, lab.safe, lab.module, lab.world.safe_nonce()))
    assert not enabled(lab, lab.safe)
    with reverts("NOT_EXECUTOR"):
        lab.open("a")


def differences(lab: Lab, policy: m.Policy, rules: list[m.TokenRule]) -> list[str]:
    """What the chain says otherwise than policy and rules, read by one multicall."""
    calls = [(to, False, data) for to, data in verify.verify_calls(lab.safe, lab.module, rules)]
    asked = encode_call("aggregate3((address,bool,bytes)[])", calls)
    answers = read(lab.rpc, lab.world.multicall, asked, ["(bool,bytes)[]"])[0]
    return verify.differences(policy, rules, [data for _, data in answers])


def test_verification_reads_the_chain_and_names_each_difference(lab: Lab) -> None:
    policy, rules = lab.world.policy(), lab.world.rules()

    def wrong() -> list[str]:
        return differences(lab, policy, rules)

    assert wrong() == []
    lab.set_policy(rules[:1], max_trade=2_000 * USDC)
    lab.send("guardian", m.call_data("stop", lab.safe, m.HALTED))
    assert wrong() == [
        "max_trade is 2,000.00 USDC, not 1,000.00 USDC",
        "the listed tokens differ",
        "stopped at level 2",
    ]
    lab.world.execute_as_owner(onboarding.revoke_tx(31337, lab.safe, lab.module, lab.world.safe_nonce()))
    assert wrong()[0] == "the module is not enabled in the Safe"


def test_verification_names_a_pending_policy(lab: Lab) -> None:
    rules = lab.world.rules()
    first = lab.world.policy(loosen_delay=DAY)
    lab.set_policy(loosen_delay=DAY)
    lab.set_policy(loosen_delay=DAY, max_trade=2_000 * USDC)
    wanted = lab.world.policy(loosen_delay=DAY, max_trade=2_000 * USDC)
    pending = lab.pending()
    assert pending is not None
    since = f"{datetime.fromtimestamp(pending.effective_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    assert differences(lab, first, rules) == [f"another policy is pending: in force from {since}"]
    assert differences(lab, wanted, rules) == [
        "max_trade is 1,000.00 USDC, not 2,000.00 USDC",
        f"the planned policy is pending: in force from {since}",
    ]
    lab.advance(DAY + 1)
    assert differences(lab, wanted, rules) == []


def test_a_pending_renewal_of_the_total_budget_is_no_difference(lab: Lab) -> None:
    policy, rules = lab.world.policy(loosen_delay=DAY), lab.world.rules()
    lab.set_policy(loosen_delay=DAY)
    lab.open("a")
    lab.set_policy(loosen_delay=DAY)
    assert lab.pending() is not None
    assert differences(lab, policy, rules) == []
