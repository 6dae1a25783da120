"""Our module and Uniswap's router, deployed by the command on a chain that has neither."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.core.errors import Misconfigured, Rejected
from maxxit.ops.devchain.world import Builder, local_key, wait_receipt
from maxxit.ops.management.commands import chain as command
from tests.chain.lab import Lab
from tests.chain.public import NAME, OWN, configure, stanza
from trading.chain import chains
from trading.chain.models import ChainTransaction, Signer
from trading.chain.signer import CreationSigner, Unsigned, open_deployer, write_keystore
from trading.chain.states import TxState
from trading.venues.safe import address_check, deploy, reconcile

pytestmark = [pytest.mark.chain, pytest.mark.django_db]
PASSWORD = "correct horse battery staple"


@pytest.fixture
def lab(sending_lab: Lab) -> Lab:
    sending_lab.fresh()
    return sending_lab


@pytest.fixture
def deployer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lab: Lab) -> str:
    """The deployer's key, in the environment; a chain that lacks our own addresses is configured."""
    path = tmp_path / "deployer.json"
    write_keystore(path, local_key("deployer"), PASSWORD, iterations=1_000)
    monkeypatch.setenv("DEPLOYER_KEYSTORE", str(path))
    monkeypatch.setenv("DEPLOYER_PASSWORD", PASSWORD)
    configure(monkeypatch, **{NAME: stanza(lab.world, without=OWN)})
    monkeypatch.setattr(deploy, "POLL_SECONDS", 0.01)
    return str(lab.world.accounts["deployer"])


def run(*words: str) -> dict[str, Any]:
    out = StringIO()
    call_command("chain", *words, "--chain", NAME, "--json", stdout=out)
    result: dict[str, Any] = json.loads(out.getvalue())
    return result


def said(*words: str) -> str:
    out = StringIO()
    call_command("chain", *words, "--chain", NAME, stdout=out, no_color=True)
    return out.getvalue()


def test_the_module_is_deployed_verified_and_passes_the_check(
    lab: Lab, deployer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "confirm", lambda question: "for at most" in question)
    text = said("deploy-module")
    tx = ChainTransaction.objects.get()
    address = deploy._address(tx)
    assert tx.state == TxState.FINAL
    assert f"TradingModule is deployed at {address}" in text
    assert f'module: "{address}"' in text
    assert "still missing there: executor, guardian, fee_receiver, profit_receiver" in text
    own = {key: lab.world.contracts().model_dump()[key] for key in OWN} | {"module": address}
    found = address_check.check(NAME, stanza(lab.world, **own))
    assert (found.wrong, found.incomplete) == ((), "")


def test_a_second_run_deploys_nothing(lab: Lab, deployer: str) -> None:
    first = run("deploy-module", "--yes")
    nonce = lab.rpc("eth_getTransactionCount", deployer, "latest")
    again = run("deploy-module", "--yes")
    assert (again["address"], again["already"]) == (first["address"], True)
    assert not first["already"]
    assert lab.rpc("eth_getTransactionCount", deployer, "latest") == nonce


def test_a_run_that_was_killed_after_signing_is_continued_with_the_same_bytes(
    lab: Lab, deployer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(deploy.outbox, "follow", killed)
        with pytest.raises(KeyboardInterrupt):
            run("deploy-module", "--yes")
    signed = ChainTransaction.objects.get()
    assert signed.state == TxState.SIGNED
    done = run("deploy-module", "--yes")
    assert ChainTransaction.objects.get().pk == signed.pk
    assert done["transaction"] == signed.attempts.get().hash


def test_a_chain_that_was_built_anew_gets_the_module_again(lab: Lab, deployer: str) -> None:
    first = run("deploy-module", "--yes")
    lab.fresh()
    lab.rpc("anvil_setNonce", deployer, hex(Signer.objects.get().next_nonce))
    assert run("deploy-module", "--yes")["address"] != first["address"]


def test_nothing_is_signed_by_a_dry_run_a_wallets_run_or_a_no(
    lab: Lab, deployer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = run("deploy-module", "--dry-run")
    assert facts["deployer"] == deployer
    assert facts["gas_limit"] > facts["gas"] > 1_000_000
    assert set(facts["arguments"]) == {"usdc", "router", "sequencer_feed"}
    monkeypatch.setattr(command, "confirm", lambda _: False)
    with pytest.raises(CommandError, match="nothing was sent"):
        run("deploy-module")
    monkeypatch.delenv("DEPLOYER_KEYSTORE")
    assert "DEPLOYER_KEYSTORE is not set, so nothing is sent" in said("deploy-module")
    assert not ChainTransaction.objects.exists()
    assert lab.rpc("eth_getCode", deploy_address(lab), "latest") == "0x"


def deploy_address(lab: Lab) -> str:
    """Where the deployer's next contract would be."""
    from eth_typing import HexAddress, HexStr
    from web3.types import Nonce
    from web3.utils import get_create_address

    sender = lab.world.accounts["deployer"]
    nonce = int(lab.rpc("eth_getTransactionCount", sender, "latest"), 16)
    return str(get_create_address(HexAddress(HexStr(sender)), Nonce(nonce)))


def test_a_wallet_deploys_and_the_code_is_verified(lab: Lab, deployer: str) -> None:
    tx = run("deploy-module", "--wallet")["transaction_for_wallet"]
    address = deploy_address(lab)
    sent = lab.rpc("eth_sendTransaction", {"from": deployer, "data": tx["data"], "gas": tx["gas"]})
    wait_receipt(lab.rpc, sent)
    assert run("deploy-module", "--verify", address)["difference"] == ""
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command(
            "chain", "deploy-module", "--chain", NAME, "--verify", lab.world.router, stdout=out, no_color=True
        )
    assert "is not our build of TradingModule" in out.getvalue()


def test_the_router_is_uniswaps_and_the_module_stands_on_it(
    lab: Lab, deployer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, **{NAME: stanza(lab.world, without=(*OWN, "router"))})
    with pytest.raises(CommandError, match="deploy-router --chain testnet"):
        run("deploy-module", "--yes")
    router = run("deploy-router", "--yes")["address"]
    assert router != lab.world.router
    configure(monkeypatch, **{NAME: stanza(lab.world, without=OWN, router=router)})
    module = run("deploy-module", "--yes")["address"]
    own = {key: lab.world.contracts().model_dump()[key] for key in OWN} | {"module": module}
    assert address_check.check(NAME, stanza(lab.world, **own | {"router": router})).wrong == ()


def test_a_constructor_that_refuses_is_told_before_anything_is_signed(
    lab: Lab, deployer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, **{NAME: stanza(lab.world, without=OWN, usdc=lab.world.address_of("WETH"))})
    with pytest.raises(CommandError, match="USDC_DECIMALS"):
        run("deploy-module", "--yes")
    assert not ChainTransaction.objects.exists()


def test_a_chain_with_real_money_needs_a_sequencer_feed(lab: Lab) -> None:
    real = stanza(lab.world, without=(*OWN, "sequencer_feed")).model_copy(update={"chain_id": 42161})
    with pytest.raises(Misconfigured, match="`sequencer_feed`, without which the module would trust prices"):
        deploy.module_creation(real)
    play = real.model_copy(update={"testnet": True})
    assert deploy.module_creation(play).arguments["sequencer_feed"] == "0x" + "0" * 40


def test_the_deployers_key_signs_this_creation_only(lab: Lab, deployer: str) -> None:
    signer = open_deployer(31337, b"code")
    assert isinstance(signer, CreationSigner)
    assert "0x" not in repr(signer).replace(deployer, "")
    good = Unsigned(31337, 0, "", b"code", 10**6, 10**9, 1)
    assert signer.sign(good).hash.startswith("0x")
    for bad in (
        Unsigned(31337, 0, "", b"other", 10**6, 10**9, 1),
        Unsigned(31337, 0, lab.world.module, b"code", 10**6, 10**9, 1),
        Unsigned(1, 0, "", b"code", 10**6, 10**9, 1),
    ):
        with pytest.raises(Rejected):
            signer.sign(bad)


def test_a_deployers_balance_is_not_reconciled_as_an_executors(
    lab: Lab, deployer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("deploy-module", "--yes")
    looked: list[str] = []
    monkeypatch.setattr(reconcile, "gas_balance", lambda at, signer: looked.append(signer.address))
    monkeypatch.setattr(reconcile, "venue", lambda _: Builder)  # not reached: no deployment has a Safe
    assert reconcile.gas_balances() == []
    assert looked == []


def test_the_public_chains_of_the_configuration() -> None:
    known = chains.all_chains()
    assert {name: known[name].chain_id for name in ("arbitrum-one", "arbitrum-sepolia")} == {
        "arbitrum-one": 42161,
        "arbitrum-sepolia": 421614,
    }
    for name in ("arbitrum-one", "arbitrum-sepolia"):
        assert known[name].rpcs == ()
        assert "module" in known[name].contracts.missing  # type: ignore[union-attr]
        with pytest.raises(Misconfigured, match=f"chain {name} .* cannot be traded on"):
            chains.contracts(known[name])
        with pytest.raises(Misconfigured, match="RPC"):
            chains.connect(known[name])
