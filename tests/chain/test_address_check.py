"""Every address of a chain that is not what it should be is found, with its name and what was found."""

from typing import Any

import pytest

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.world import Builder, transact
from tests.chain.lab import Lab
from tests.chain.public import OWN, configure, stanza
from trading.chain import chains
from trading.venues.safe import address_check

pytestmark = pytest.mark.chain


def check(lab: Lab, **changes: Any) -> address_check.ChainCheck:
    return address_check.check("testnet", stanza(lab.world, **changes))


def token(lab: Lab, name: str, /, **changes: Any) -> dict[str, Any]:
    """The world's tokens, one of them changed."""
    tokens: dict[str, Any] = lab.world.contracts().model_dump()["tokens"]
    return tokens | {name: tokens[name] | changes}


def test_addresses_that_are_right_are_counted(lab: Lab) -> None:
    found = check(lab)
    assert (found.wrong, found.not_checked, found.incomplete) == ((), "", "")
    assert found.checked == 7 + 2 * 2 + 5  # contracts, tokens with their feeds, Safe's


@pytest.mark.parametrize(
    "key", ["usdc", "factory", "quoter", "router", "module", "sequencer_feed", "multicall"]
)
def test_an_address_without_code_is_named(lab: Lab, key: str) -> None:
    nobody = lab.world.accounts["rogue"]
    assert f"{key}: {nobody} has no code on chain 31337" in check(lab, **{key: nobody}).wrong


@pytest.mark.parametrize(
    ("key", "taken_from", "said"),
    [
        ("usdc", "WETH", 'answers symbol() with "WETH", expected "USDC"'),
        ("usdc", "WETH", "answers decimals() with 18, expected 6"),
        ("router", "quoter", "module: the code at"),
        ("quoter", "factory", "answers factory() with nothing, expected 0x"),
        ("factory", "router", "no pool of"),
        ("module", "router", "is not our build of TradingModule with these arguments"),
        ("sequencer_feed", "factory", "answers decimals() with nothing, expected 0"),
        ("sequencer_feed", "factory", "is not our build of TradingModule with these arguments"),
        ("multicall", "factory", "does not answer as Multicall3"),
    ],
)
def test_another_contract_in_its_place_is_found(lab: Lab, key: str, taken_from: str, said: str) -> None:
    world = lab.world
    other = world.address_of("WETH") if taken_from == "WETH" else getattr(world, taken_from)
    wrong = check(lab, **{key: other}).wrong
    assert any(said in line for line in wrong), wrong


def test_wrong_decimals_names_and_feeds_of_a_token_are_found(lab: Lab) -> None:
    assert any(
        "tokens.BTC.address" in line and "answers decimals() with 8, expected 18" in line
        for line in check(lab, tokens=token(lab, "BTC", decimals=18)).wrong
    )
    assert any(
        "tokens.BTC.address" in line and '"WBTC", expected "cbBTC"' in line
        for line in check(lab, tokens=token(lab, "BTC", symbol="cbBTC")).wrong
    )
    [line] = check(lab, tokens=token(lab, "BTC", feed_decimals=18)).wrong
    assert "tokens.BTC.feed" in line
    assert "decimals() with 8, expected 18" in line


def test_a_feed_of_another_pair_is_found_by_its_name(lab: Lab) -> None:
    feeds = {name: lab.world.token(f"W{name}").feed for name in ("ETH", "BTC")}
    for name, feed in feeds.items():
        described = encode_call("set_description(string)", f"{name} / USD")
        transact(lab.rpc, lab.world.accounts["deployer"], feed, described)
    assert check(lab, tokens=token(lab, "ETH", feed_name="ETH / USD")).wrong == ()
    [line] = check(lab, tokens=token(lab, "ETH", feed_name="ETH / USD", feed=feeds["BTC"])).wrong
    said = f'tokens.ETH.feed: {feeds["BTC"]} answers description() with "BTC / USD", expected "ETH / USD"'
    assert line == said


def test_a_module_of_other_arguments_or_another_build_is_found(lab: Lab) -> None:
    build = Builder(lab.world.rpc_url)
    other = build.local(
        "TradingModule", ["address"] * 3, [lab.world.usdc, lab.world.quoter, lab.world.sequencer_feed]
    )
    [line] = check(lab, module=other).wrong
    assert line.startswith(
        f"module: the code at {other} is not our build of TradingModule with these arguments: hash 0x"
    )


def test_a_chain_without_our_module_says_so_and_the_rest_is_checked(lab: Lab) -> None:
    found = check(lab, without=OWN)
    assert (found.wrong, found.checked) == ((), 6 + 2 * 2 + 5)
    assert "has no address of `module`, `executor`" in found.incomplete
    assert "manage.py chain deploy-module" in found.incomplete


def test_endpoints_of_another_chain_are_found(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = stanza(lab.world).model_copy(update={"chain_id": 42161})
    [line] = address_check.check("testnet", elsewhere).wrong
    assert "is chain 31337, not 42161" in line


def test_a_chain_that_does_not_answer_is_a_line_and_no_fault(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = stanza(lab.world).model_copy(update={"rpcs": ("http://127.0.0.1:9",)})
    unset = stanza(lab.world).model_copy(
        update={"rpcs": (), "chain_id": 42161, "rpc_env": "MAXXIT_ARBITRUM_ONE_RPC"}
    )
    configure(monkeypatch, testnet=stanza(lab.world), down=down, unset=unset)
    results = {found.name: found for found in address_check.check_all()}
    assert results["testnet"].checked > 0
    assert results["down"].not_checked.startswith(
        "not checked: no endpoint of chain 31337 is healthy: 127.0.0.1:9"
    )
    assert "set MAXXIT_ARBITRUM_ONE_RPC" in results["unset"].not_checked
    assert not any(found.wrong for found in results.values())


def test_a_chain_that_keeps_silent_ends_the_check_in_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    configure(monkeypatch, testnet=stanza(lab.world), silent=stanza(lab.world))
    released, known = threading.Event(), address_check.check

    def slow(name: str, chain: chains.ChainStanza) -> address_check.ChainCheck:
        if name == "silent":
            released.wait(20)
        return known(name, chain)

    monkeypatch.setattr(address_check, "check", slow)
    monkeypatch.setattr(address_check, "CHECK_SECONDS", 2.0)
    results = {found.name: found for found in address_check.check_all()}
    released.set()
    assert results["silent"].not_checked == "not checked: no answer within 2 s"
    assert results["testnet"].checked > 0
