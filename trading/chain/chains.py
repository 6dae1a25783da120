"""Chain configuration: `config/chains.yaml`, typed, with endpoints, finality, gas limits and contract addresses."""

from functools import cache
from pathlib import Path
from typing import Annotated

from django.conf import settings
from eth_utils.address import is_checksum_address
from pydantic import AfterValidator, Field, model_validator

from maxxit.core.config import Count, Policy, Seconds, load, variable
from maxxit.core.errors import Misconfigured
from maxxit.evm.codec import ZERO_ADDRESS

LOCAL_CHAIN_ID = 31337
KNOWN_MNEMONIC = "test test test test test test test test test test test junk"
"""The default mnemonic of anvil and hardhat. Its keys are public, so they are accepted on the local chain only."""
CONTRACTS_FILE = Path("chain") / "contracts.json"
"""In the data folder: the contract addresses of the local chain, written by `maxxit.ops.devchain.world`."""
RPC_FILE = Path("chain") / "rpc"
"""In the data folder: the RPC URL of the local chain of `make up`."""
SYMBOLS = {"WETH": "ETH", "WBTC": "BTC"}
"""Wrapped token of the local chain -> instrument."""


def _checksummed(value: str) -> str:
    if not is_checksum_address(value):
        raise ValueError("not an address with a valid EIP-55 checksum")
    return value


Address = Annotated[str, AfterValidator(_checksummed)]
LoosenDelay = Annotated[int, Field(ge=0, le=30 * 86_400)]
"""Seconds, within the contract's bounds."""


class TokenStanza(Policy):
    """A token that may be traded, with its price feed (token in USD)."""

    address: Address
    decimals: Annotated[int, Field(ge=0, le=30)]
    feed: Address
    max_age: Seconds
    """Maximum age of the feed's answer."""
    deviation_bps: Count
    """The feed's deviation threshold, from its page: how far the market may move before it is updated."""


class Contracts(Policy):
    """Contract addresses on a chain, and the platform's own addresses there."""

    usdc: Address
    module: Address
    router: Address
    quoter: Address
    factory: Address
    multicall: Address
    guardian: Address
    fee_receiver: Address
    profit_receiver: Address
    executor: Address
    previous_executor: Address | None = None
    """During a rotation: still signs for the Safes whose policy names it."""
    tokens: dict[str, TokenStanza] = Field(min_length=1)


class ChainStanza(Policy):
    """One chain."""

    chain_id: Count
    rpcs: tuple[str, ...]
    rpc_env: str = ""
    finality_depth: Count
    head_lag_blocks: Count
    health_seconds: Annotated[float, Field(ge=0)]
    timeout_seconds: Seconds
    bump_after_seconds: Seconds
    replaced_after_seconds: Seconds
    gas_limit: Count
    max_fee_wei: Count
    min_tip_wei: Count
    signatures_per_minute: Count
    executor_low_wei: Count = 10**16
    """Staff is alerted when an executor's gas balance is below this."""
    explorer: str
    coin: Annotated[str, Field(pattern=r"^[A-Z]{2,10}$")]
    """Symbol of the coin that gas is paid in."""
    fee_tiers: tuple[Count, ...] = Field(min_length=1)
    max_price_impact_bps: Count
    reverts_before_stop: Count
    contracts: Contracts | None = None

    @model_validator(mode="after")
    def _known(self) -> "ChainStanza":
        if self.contracts is None and self.chain_id != LOCAL_CHAIN_ID:
            raise ValueError("contracts: required for every chain but the local one")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """RPC endpoints: from the variable `rpc_env`, else `rpcs`, else the local chain that is running."""
        given = variable(self.rpc_env)
        urls = tuple(url.strip() for url in given.split(",") if url.strip()) or self.rpcs
        running = Path(settings.DATA_DIR) / RPC_FILE
        if not urls and self.chain_id == LOCAL_CHAIN_ID and running.exists():
            urls = (running.read_text().strip(),)
        if not urls:
            raise Misconfigured(
                f"config/chains.yaml: no `rpcs` for chain {self.chain_id}; or set {self.rpc_env}"
            )
        return urls


class Terms(Policy):
    """The limits that a plan proposes, with the contract's names. USDC in base units, times in seconds."""

    min_trade: Count
    max_trade: Count
    daily_notional: Count
    trades_per_day: Count
    cooldown: Annotated[int, Field(ge=0)]
    slippage_bps: Count
    loss_budget: Count
    total_loss_budget: Count
    loosen_delay: LoosenDelay


class _Chains(Policy):
    model_config = Policy.model_config | {"extra": "allow"}
    __pydantic_extra__: dict[str, ChainStanza]
    policy: Terms


@cache
def _chains() -> _Chains:
    return load("chains", _Chains)


def terms() -> Terms:
    """Return the limits that a plan proposes."""
    return _chains().policy


def all_chains() -> dict[str, ChainStanza]:
    """Return name -> stanza of every configured chain."""
    return dict(_chains().__pydantic_extra__ or {})


def stanza(name: str) -> ChainStanza:
    """Return the chain of this name. Raises `Misconfigured` with the known names."""
    known = _chains().__pydantic_extra__
    try:
        return known[name]
    except KeyError:
        raise Misconfigured(
            f"{name!r} is not in config/chains.yaml; known: {', '.join(sorted(known))}"
        ) from None


def chain_of_id(chain_id: int) -> ChainStanza | None:
    """Return the configured chain with that id, or None."""
    return next(
        (one for one in (_chains().__pydantic_extra__ or {}).values() if one.chain_id == chain_id), None
    )


def contracts(chain: ChainStanza) -> Contracts:
    """Return the contract addresses; those of the local chain come from the file that it writes when built."""
    if chain.contracts is not None:
        return chain.contracts
    path = Path(settings.DATA_DIR) / CONTRACTS_FILE
    if not path.exists():
        raise Misconfigured(f"{path} is missing: the local chain has not been built (`make up` does that)")
    return Contracts.model_validate_json(path.read_text())


def is_address(text: str) -> bool:
    """Return whether `text` is a checksummed address other than the zero address."""
    return is_checksum_address(text) and text != ZERO_ADDRESS
