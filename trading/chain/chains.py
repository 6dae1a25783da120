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
from maxxit.evm.rpc import Chain
from trading.chain import disagreements

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
    symbol: str = ""
    """What the token calls itself, such as WETH; empty: not compared."""
    decimals: Annotated[int, Field(ge=0, le=30)]
    feed: Address
    feed_name: str = ""
    """What the feed calls itself, such as "ETH / USD"; empty: not compared."""
    feed_decimals: Annotated[int, Field(ge=0, le=30)] = 8
    max_age: Seconds
    """Maximum age of the feed's answer."""
    deviation_bps: Count
    """The feed's deviation threshold, from its page: how far the market may move before it is updated."""


class GmxMarket(Policy):
    """A market of GMX that may be traded. Its feed is that of the token with the same symbol under `tokens`."""

    market: Address
    """GMX's market token."""
    decimals: Annotated[int, Field(ge=0, le=30)]
    """Of the index token."""


class GmxContracts(Policy):
    """Contracts of GMX v2 on a chain, and our PerpModule."""

    exchange_router: Address
    order_vault: Address
    data_store: Address
    event_emitter: Address
    reader: Address
    role_store: Address
    wrapped_native: Address
    """The wrapped coin, in which execution fees are paid."""
    markets: dict[str, GmxMarket] = Field(min_length=1)
    """Symbol -> market."""
    module: Address | None = None
    """None until the platform has deployed it there."""


class ContractsStanza(Policy):
    """Contract addresses on a chain. Those of the platform are missing until it has deployed its module there."""

    usdc: Address
    quoter: Address
    factory: Address
    multicall: Address
    tokens: dict[str, TokenStanza] = Field(min_length=1)
    gmx: GmxContracts | None = None
    """None where nothing trades perpetual futures."""
    sequencer_feed: Address | None = None
    """Chainlink's uptime feed of the chain's sequencer; None where there is none."""
    router: Address | None = None
    """Uniswap's SwapRouter, whose swaps have a deadline; SwapRouter02 does not serve."""
    module: Address | None = None
    guardian: Address | None = None
    fee_receiver: Address | None = None
    profit_receiver: Address | None = None
    executor: Address | None = None
    previous_executor: Address | None = None
    """During a rotation: still signs for the Safes whose policy names it."""

    @property
    def missing(self) -> list[str]:
        """Return the keys without which nothing can be traded, in the order in which they are set up."""
        return [name for name in OWN_KEYS if getattr(self, name) is None]


OWN_KEYS = ("router", "module", "executor", "guardian", "fee_receiver", "profit_receiver")
"""Keys of `ContractsStanza` that a chain may lack, but that trading on it needs."""


class Contracts(ContractsStanza):
    """Contract addresses on a chain that can be traded on: none is missing."""

    router: Address
    module: Address
    guardian: Address
    fee_receiver: Address
    profit_receiver: Address
    executor: Address


class ChainStanza(Policy):
    """One chain."""

    chain_id: Count
    testnet: bool = False
    """Its coins have no value. Its venues count as real money all the same."""
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
    contracts: ContractsStanza | None = None

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
                f"chain {self.chain_id} has no endpoint: set {self.rpc_env}, or `rpcs` in config/chains.yaml"
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


class PerpsTerms(Policy):
    """The limits that a plan for perpetual futures proposes, with the contract's names. USDC in base units."""

    min_collateral: Count
    max_collateral: Count
    max_leverage_bps: Count
    """Size over collateral: 50,000 is fivefold."""
    max_notional: Count
    daily_collateral: Count
    daily_notional: Count
    trades_per_day: Count
    cooldown: Annotated[int, Field(ge=0)]
    slippage_bps: Count
    max_execution_fee: Count
    """Wei an order."""
    loss_budget: Count
    total_loss_budget: Count
    loosen_delay: LoosenDelay


class WatchLimits(Policy):
    """How many addresses are watched, and how many transfers of one are reported."""

    per_user: Count
    """Addresses that one user may add."""
    per_chain: Count
    reports_per_day: Count
    """Of one address, UTC."""


class _Chains(Policy):
    model_config = Policy.model_config | {"extra": "allow"}
    __pydantic_extra__: dict[str, ChainStanza]
    policy: Terms
    perps_policy: PerpsTerms
    watch: WatchLimits


@cache
def _chains() -> _Chains:
    return load("chains", _Chains)


def terms() -> Terms:
    """Return the limits that a plan proposes."""
    return _chains().policy


def perps_terms() -> PerpsTerms:
    """Return the limits that a plan for perpetual futures proposes."""
    return _chains().perps_policy


def watch_limits() -> WatchLimits:
    """Return the limits of watched addresses."""
    return _chains().watch


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


def name_of(chain: ChainStanza) -> str:
    """Return the chain's name in config/chains.yaml."""
    return next((name for name, known in all_chains().items() if known == chain), str(chain.chain_id))


def name_of_id(chain_id: int) -> str:
    """Return the name of the chain with that id, else the id."""
    chain = chain_of_id(chain_id)
    return name_of(chain) if chain else str(chain_id)


def addresses(chain: ChainStanza) -> ContractsStanza:
    """Return the chain's addresses, of which the platform's own may be missing.

    Those of the local chain come from the file that it writes when it is built. Raises `Misconfigured` before that.
    """
    if chain.contracts is not None:
        return chain.contracts
    path = Path(settings.DATA_DIR) / CONTRACTS_FILE
    if not path.exists():
        raise Misconfigured(f"{path} is missing: the local chain has not been built (`make up` does that)")
    return ContractsStanza.model_validate_json(path.read_text())


def contracts(chain: ChainStanza) -> Contracts:
    """Return the addresses of a chain that can be traded on.

    Raises `Misconfigured` naming what is missing and how to set it.
    """
    known = addresses(chain)
    if problem := incomplete(chain):
        raise Misconfigured(problem)
    return Contracts.model_validate(known.model_dump())


def title(chain_id: int) -> str:
    """Return a chain's name for people, as in "Arbitrum One"."""
    names = {stanza.chain_id: name for name, stanza in all_chains().items()}
    return names.get(chain_id, f"chain {chain_id}").replace("-", " ").replace("_", " ").title()


def incomplete(chain: ChainStanza) -> str:
    """Return why nothing can be traded on the chain, with the next step; empty where no address is missing."""
    missing, name = addresses(chain).missing, name_of(chain)
    if not missing:
        return ""
    listed = ", ".join(f"`{key}`" for key in missing)
    it = "it" if len(missing) == 1 else "them"
    steps = {
        "router": f"Deploy Uniswap's router with `manage.py chain deploy-router --chain {name}`, then add {it}",
        "module": f"Deploy the module with `manage.py chain deploy-module --chain {name}`, then add {it}",
    }
    return (
        f"chain {name} ({chain.chain_id}) cannot be traded on, because it has no address of {listed}. "
        f"{steps.get(missing[0], f'Add {it}')} under `contracts` of {name} in config/chains.yaml (docs/chain.md, "
        "A public chain)"
    )


def connect(chain: ChainStanza, *, timeout: float = 0) -> Chain:
    """Return an RPC client of the chain's endpoints. `timeout`: seconds per request; 0: the configured ones."""
    return Chain(
        chain.chain_id,
        chain.urls,
        head_lag=chain.head_lag_blocks,
        health_seconds=chain.health_seconds,
        timeout=timeout or chain.timeout_seconds,
        multicall=addresses(chain).multicall,
        report=disagreements.note,
    )


def is_address(text: str) -> bool:
    """Return whether `text` is a checksummed address other than the zero address."""
    return is_checksum_address(text) and text != ZERO_ADDRESS
