"""Deploy our module, and Uniswap's router where a chain has none, and verify the code on the chain.

A deployment is a transaction of the outbox: its bytes are stored before they leave, so that a second run after a crash
sends the same bytes and never deploys twice. Nothing is written to the configuration.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable, StaleState, Unknown
from maxxit.core.money import plain
from maxxit.evm.codec import ZERO_ADDRESS
from maxxit.evm.rpc import Chain
from trading.chain import chains, outbox
from trading.chain.models import DEPLOY, ChainTransaction
from trading.chain.signer import CreationSigner
from trading.chain.states import IN_FLIGHT, TxState
from trading.venues.safe.contract.build import load

DEADLINE = timedelta(hours=1)
"""After this, a deployment that was not signed is given up."""
POLL_SECONDS = 1.0
GAS_MARGIN = Decimal("1.25")
"""Gas limit = estimate × this: on a rollup the part for data moves with Ethereum's fees."""


@dataclass(frozen=True, slots=True)
class Creation:
    """A contract to be created, with its constructor's arguments by name."""

    contract: str
    arguments: dict[str, str]
    code: bytes
    """Creation code, with the encoded arguments."""

    @property
    def key(self) -> str:
        """Return what identifies the code and its arguments."""
        return hashlib.sha256(self.code).hexdigest()[:32]


def _creation(contract: str, bytecode: bytes, arguments: dict[str, str]) -> Creation:
    encoded = encode(["address"] * len(arguments), list(arguments.values()))
    return Creation(contract, arguments, bytecode + encoded)


def module_creation(chain: chains.ChainStanza) -> Creation:
    """Return the creation of our module with the chain's USDC, router and sequencer feed.

    Raises `Misconfigured` where the router is missing, or the sequencer feed of a chain that is no test network.
    """
    places, name = chains.addresses(chain), chains.name_of(chain)
    if places.router is None:
        raise Misconfigured(
            f"chain {name} ({chain.chain_id}) has no address of `router`: deploy Uniswap's with `manage.py chain "
            f"deploy-router --chain {name}` and add it under `contracts` of {name} in config/chains.yaml"
        )
    if places.sequencer_feed is None and not (chain.testnet or chain.chain_id == chains.LOCAL_CHAIN_ID):
        raise Misconfigured(
            f"chain {name} ({chain.chain_id}) has no address of `sequencer_feed`, without which the module would trust "
            "prices while the sequencer is down: add it in config/chains.yaml (or `testnet: true` for play money)"
        )
    bytecode = bytes.fromhex(load("TradingModule")["bytecode"].removeprefix("0x"))
    return _creation(
        "TradingModule",
        bytecode,
        {
            "usdc": places.usdc,
            "router": places.router,
            "sequencer_feed": places.sequencer_feed or ZERO_ADDRESS,
        },
    )


def router_creation(chain: chains.ChainStanza, bytecode: bytes) -> Creation:
    """Return the creation of Uniswap's SwapRouter (its `bytecode`) for the chain's factory and wrapped coin.

    Raises `Misconfigured` where the chain has a router, or no wrapped coin among its tokens.
    """
    places, name = chains.addresses(chain), chains.name_of(chain)
    if places.router is not None:
        raise Misconfigured(f"chain {name} has a router, {places.router}: nothing is deployed")
    wrapped = places.tokens.get(chain.coin)
    if wrapped is None:
        raise Misconfigured(
            f"chain {name} has no token {chain.coin}, whose wrapped coin the router needs: add it in config/chains.yaml"
        )
    return _creation("SwapRouter", bytecode, {"factory": places.factory, "wrapped_coin": wrapped.address})


def runtime_code(chain: Chain, creation: Creation, block: int) -> bytes:
    """Return the code that the creation leaves on this chain, by a trial call: what our build is there.

    Raises Fault with the constructor's reason where it reverts, Retryable.
    """
    answer = chain.agreed_call({"data": "0x" + creation.code.hex()}, hex(block))
    return bytes.fromhex(answer.removeprefix("0x"))


def code_at(chain: Chain, address: str, block: int) -> bytes:
    """Return the code at an address, as more than half of the endpoints state it."""
    answer: str = chain.agreed(f"the code of {address}", "eth_getCode", address, hex(block))
    return bytes.fromhex(answer.removeprefix("0x"))


def difference(chain: Chain, creation: Creation, address: str, block: int) -> str:
    """Return how the code at `address` differs from the creation's; empty where it is the same."""
    found = code_at(chain, address, block)
    if not found:
        return f"there is no code at {address}"
    expected = runtime_code(chain, creation, block)
    if found == expected:
        return ""
    return (
        f"the code at {address} is not our build of {creation.contract} with these arguments: "
        f"hash 0x{keccak(found).hex()}, expected 0x{keccak(expected).hex()}"
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a creation takes. Wei, and wei per gas."""

    gas: int
    gas_limit: int
    max_fee: int
    tip: int
    coin: str

    @property
    def cost(self) -> Decimal:
        """The most that is paid, in whole coins: gas limit × maximum fee."""
        return Decimal(self.gas_limit * self.max_fee).scaleb(-outbox.COIN_DECIMALS)

    def as_text(self) -> str:
        """Return it in one line."""
        gwei = Decimal(self.max_fee).scaleb(-9)
        return (
            f"about {self.gas:,} gas; at most {self.gas_limit:,} gas at {plain(gwei)} gwei = {plain(self.cost)} "
            f"{self.coin}"
        )


def estimate(chain: Chain, stanza: chains.ChainStanza, creation: Creation, sender: str = "") -> Estimate:
    """Return what the creation takes now. Raises Fault with the constructor's reason where it would revert."""
    request = {"data": "0x" + creation.code.hex()} | ({"from": sender} if sender else {})
    gas = int(str(chain.read("eth_estimateGas", request)), 16)
    max_fee, tip = outbox.first_fees(chain.head(), outbox.rules_of(stanza))
    return Estimate(gas, int(gas * GAS_MARGIN), max_fee, tip, stanza.coin)


def for_wallet(stanza: chains.ChainStanza, creation: Creation, needed: Estimate) -> dict[str, Any]:
    """Return the creation as a transaction that a wallet sends (EIP-1193 `eth_sendTransaction`)."""
    return {
        "chainId": hex(stanza.chain_id),
        "value": "0x0",
        "gas": hex(needed.gas_limit),
        "maxFeePerGas": hex(needed.max_fee),
        "maxPriorityFeePerGas": hex(needed.tip),
        "data": "0x" + creation.code.hex(),
    }


@dataclass(frozen=True, slots=True)
class Deployed:
    """A contract on the chain, its transaction final and its code verified."""

    address: str
    transaction: str
    block: int
    already: bool
    """Whether it was there before this run."""


def deploy(
    chain: Chain,
    stanza: chains.ChainStanza,
    creation: Creation,
    signer: CreationSigner,
    needed: Estimate,
    progress: Callable[[str], None] = lambda _: None,
) -> Deployed:
    """Create the contract, wait until its transaction is final, and verify its code.

    A creation of this code that was signed before is continued, or returned where it stands; `progress` is told each
    new state. Raises Rejected where it fails, Retryable or Unknown where the chain cannot be read: run it again then.
    """
    tx = _intent(chain, stanza, creation)
    sending = replace(outbox.rules_of(stanza), gas_limit=needed.gas_limit)
    already = tx.state == TxState.FINAL
    if tx.state == TxState.PLANNED:
        outbox.commit(tx, outbox.Call("", creation.code), chain, signer, sending)
        progress(f"signed by {signer.address}, nonce {tx.nonce}")
    if tx.signer is None or tx.signer.address != signer.address:
        raise Rejected(
            f"{tx.signer.address if tx.signer else 'another key'} has begun to deploy this: continue with that key",
            code="other_deployer",
        )
    state = tx.state
    while tx.state in IN_FLIGHT:
        try:
            outbox.follow(tx, chain, signer, sending, lambda _: True)
        except (Retryable, Unknown, StaleState) as error:
            progress(f"waits: {error}")
        tx.refresh_from_db()
        if tx.state != state:
            progress(f"{tx.state}{f' in block {tx.block_number}' if tx.block_number else ''}")
            state = tx.state
        if tx.state in IN_FLIGHT:
            time.sleep(POLL_SECONDS)
    if tx.state != TxState.FINAL or tx.block_number is None:
        raise Rejected(
            f"transaction {tx.mined_hash or tx.pk} is {tx.state}: {tx.reason}", code="not_deployed"
        )
    address = _address(tx)
    if found := difference(chain, creation, address, tx.block_number):
        raise Rejected(found, code="wrong_code")
    return Deployed(address, tx.mined_hash, tx.block_number, already)


def _intent(chain: Chain, stanza: chains.ChainStanza, creation: Creation) -> ChainTransaction:
    """Return the stored intent of this creation, or a new one where the earlier ones ended without the contract."""
    prefix = f"deploy:{stanza.chain_id}:{creation.key}:"
    for tx in ChainTransaction.objects.filter(idempotency_key__startswith=prefix).order_by("pk"):
        if tx.state in IN_FLIGHT or (tx.state == TxState.PLANNED and clock.now() < tx.deadline):
            return tx
        if tx.state == TxState.FINAL and code_at(chain, _address(tx), chain.head().number):
            return tx
    number = ChainTransaction.objects.filter(idempotency_key__startswith=prefix).count() + 1
    terms = {"purpose": DEPLOY, "contract": creation.contract, "arguments": creation.arguments}
    return outbox.plan(f"{prefix}{number}", stanza.chain_id, terms, clock.now() + DEADLINE)


def _address(tx: ChainTransaction) -> str:
    """Return the address of the contract that a signed creation makes, from its sender and nonce."""
    from eth_typing import HexAddress, HexStr
    from web3.types import Nonce
    from web3.utils import get_create_address  # loads web3

    if tx.signer is None or tx.nonce is None:
        raise Rejected(f"{tx} is not signed", code="not_signed")
    return str(get_create_address(HexAddress(HexStr(tx.signer.address)), Nonce(tx.nonce)))


def next_steps(name: str, key: str, address: str, missing: Sequence[str]) -> list[str]:
    """Return what the operator does after a deployment, each a line."""
    others = [other for other in missing if other != key]
    lines = [
        f"add to `contracts` of {name} in config/chains.yaml, and commit it:",
        f'    {key}: "{address}"',
    ]
    if others:
        lines.append(f"still missing there: {', '.join(others)}")
    return [*lines, f"then `manage.py chain check --chain {name}` compares every address with the chain"]
