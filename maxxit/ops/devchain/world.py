"""Deploys the local development chain: Safe 1.4.1, Uniswap V3, tokens, feeds, our module and a demo user's Safe.

Tests and `make up` deploy the same contracts. Addresses are saved as JSON beside anvil's state, so that a restart
continues with them. For chain 31337 only: it signs with public test keys.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from maxxit.evm.codec import ZERO_ADDRESS, decode, encode_call, revert_reason
from maxxit.ops.devchain import gmx as gmx_double
from maxxit.ops.devchain.anvil import ACCOUNTS, HERE, AnvilError, Rpc, RpcError
from maxxit.ops.devchain.gmx import Gmx
from trading.chain.chains import (
    CONTRACTS_FILE,
    KNOWN_MNEMONIC,
    LOCAL_CHAIN_ID,
    SYMBOLS,
    Contracts,
    TokenStanza,
)
from trading.venues.safe.contract.build import load
from trading.venues.safe.contract.module import Policy, TokenRule

if TYPE_CHECKING:
    from safe_eth.safe import SafeTx

# The supervisor imports this module, too: safe-eth-py and eth_account are imported in the functions that need them.

WORLD_FILE = Path("chain") / "world.json"
"""Addresses of the deployed contracts, in the data folder."""
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
# Runtime code of the deterministic deployer: create2 with the first word as salt and the rest as code.
DEPLOYER_CODE = (
    "0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0"
    "3601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
)
GAS = 15_000_000
RECEIPT_SECONDS = 120
MINE_SECONDS = 5
"""Of waiting for a receipt, after which a block is mined."""
USDC_UNIT = 10**6
FEED_DECIMALS = 8
DEMO_USDC = 10_000 * USDC_UNIT
PERPS_USDC = 1_000 * USDC_UNIT
"""Of the demo user's other Safe, for perpetual futures."""
POOL_DEPTH_USDC = 20_000_000 * USDC_UNIT  # on each side of each pool
TRADER_BALANCE = 10**33
TICK_SPACING = {100: 1, 500: 10, 3000: 60, 10000: 200}
MAX_TICK = 887_272
PRICES = {"WETH": Decimal(2_500), "WBTC": Decimal(60_000)}
# symbol -> name, decimals, pool fee tiers (the first is the policy's)
TOKENS: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "WETH": ("Wrapped Ether", 18, (500, 3000)),
    "WBTC": ("Wrapped BTC", 8, (3000,)),
}
ROLES = (
    "deployer",
    "owner",
    "executor",
    "guardian",
    "fee_receiver",
    "profit_receiver",
    "trader",
    "rogue",
    "keeper",
)
SWAP_TRIES = 5
PRICE_ALREADY_PASSED = "SPL"
"""Uniswap V3's revert reason for a price limit on the wrong side of the pool's price."""
_SWAP = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
_MINT = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"


class Reverted(RuntimeError):
    """A local transaction reverted; the message is the contract's reason."""


def local_key(role: str) -> bytes:
    """Return the private key of a role on the local chain: a public test key."""
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    path = f"m/44'/60'/0'/0/{ROLES.index(role)}"
    return bytes(Account.from_mnemonic(KNOWN_MNEMONIC, account_path=path).key)


def transact(
    rpc: Rpc, sender: str, to: str | None, data: bytes, value: int = 0, *, gas_price: int | None = None
) -> dict[str, Any]:
    """Send a transaction from an unlocked account and return the receipt. `gas_price` in wei, else the node's choice.

    Raises Reverted with the reason when it failed, AnvilError when no block included it within `RECEIPT_SECONDS`.
    """
    request = {"from": sender, "data": "0x" + data.hex(), "gas": hex(GAS), "value": hex(value)}
    if to is not None:
        request["to"] = to
    if gas_price is not None:
        request["gasPrice"] = hex(gas_price)
    digest = rpc("eth_sendTransaction", request)
    receipt = wait_receipt(rpc, digest)
    if int(receipt["status"], 16) != 1:
        trace = rpc("debug_traceTransaction", digest, {"tracer": "callTracer"})
        raise Reverted(revert_reason(trace.get("output") or "0x") or str(trace.get("error")))
    return receipt


def wait_receipt(rpc: Rpc, digest: str) -> dict[str, Any]:
    """Return the receipt once a block has the transaction; with automine that is usually at once, not always.

    While it waits it mines a block each `MINE_SECONDS`.

    Raises AnvilError when no block included it within `RECEIPT_SECONDS`.
    """
    begun = time.monotonic()
    mined = 0
    while True:
        receipt: dict[str, Any] | None = rpc("eth_getTransactionReceipt", digest)
        if receipt is not None:
            return receipt
        waited = time.monotonic() - begun
        if waited >= RECEIPT_SECONDS:
            raise AnvilError(
                f"no block has included {digest} within {RECEIPT_SECONDS} s: does {rpc.url} mine?"
            )
        if (
            waited >= (mined + 1) * MINE_SECONDS
        ):  # after a revert to a snapshot anvil may miss the transaction
            rpc("evm_mine")
            mined += 1
        time.sleep(0.005)


def read(rpc: Rpc, to: str, data: bytes, types: list[str]) -> tuple[Any, ...]:
    """Send an eth_call and decode its answer. Raises Reverted with the reason."""
    try:
        answer = rpc("eth_call", {"to": to, "data": "0x" + data.hex()}, "latest")
    except RpcError as error:
        raise Reverted(revert_reason(error.data) if error.data else str(error)) from error
    return decode(types, bytes.fromhex(answer[2:]))


@dataclass(frozen=True)
class TokenInfo:
    """A token of the local chain with its price feed (8 decimals, USD) and its USDC pools by fee tier."""

    symbol: str
    address: str
    decimals: int
    feed: str
    pools: Mapping[str, str]

    @property
    def policy_fee(self) -> int:
        """The fee tier of the demo policy: the first."""
        return int(next(iter(self.pools)))


@dataclass(frozen=True)
class World:
    """The addresses on the local chain, with reads and transactions for tests and the demo."""

    rpc_url: str
    usdc: str
    tokens: tuple[TokenInfo, ...]
    sequencer_feed: str
    factory: str
    router: str
    quoter: str
    position_manager: str
    multicall: str
    module: str
    module_source: str
    safe: str
    accounts: Mapping[str, str]
    gmx: Gmx
    perp_module: str
    perp_module_source: str
    perp_safe: str
    """The demo user's Safe for perpetual futures; its owner has signed nothing yet."""
    chain_id: int = LOCAL_CHAIN_ID

    @cached_property
    def rpc(self) -> Rpc:
        return Rpc(self.rpc_url)

    # -- reads

    def token(self, symbol: str) -> TokenInfo:
        return next(token for token in self.tokens if token.symbol == symbol)

    def address_of(self, symbol: str) -> str:
        """Return the address of USDC or of a listed token."""
        return self.usdc if symbol == "USDC" else self.token(symbol).address

    def balance(self, symbol: str, account: str) -> int:
        """Return the balance of `account` in base units."""
        balance: int = read(
            self.rpc, self.address_of(symbol), encode_call("balanceOf(address)", account), ["uint256"]
        )[0]
        return balance

    def price(self, symbol: str) -> Decimal:
        """Return the feed's price in USD, whatever its age."""
        types = ["uint80", "int256", "uint256", "uint256", "uint80"]
        answer = read(self.rpc, self.token(symbol).feed, encode_call("latestRoundData()"), types)[1]
        return Decimal(answer).scaleb(-FEED_DECIMALS)

    def now(self) -> int:
        """Return the Unix time of the latest block."""
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def safe_nonce(self, safe: str | None = None) -> int:
        nonce: int = read(self.rpc, safe or self.safe, encode_call("nonce()"), ["uint256"])[0]
        return nonce

    # -- transactions

    def send(self, role: str, to: str, data: bytes) -> dict[str, Any]:
        """Send a transaction from the account of a role; returns the receipt. Raises Reverted."""
        return transact(self.rpc, self.accounts[role], to, data)

    def mint(self, symbol: str, to: str, amount: int) -> None:
        """Mint `amount` base units to `to`."""
        self.send("deployer", self.address_of(symbol), encode_call("mint(address,uint256)", to, amount))

    def set_feed(self, symbol: str, price: Decimal) -> None:
        """Set the price feed to `price` USD as of now, without moving the pools."""
        answer = int(price.scaleb(FEED_DECIMALS))
        self.send("deployer", self.token(symbol).feed, encode_call("set_answer(int256)", answer))

    def refresh_feeds(self) -> None:
        """Renew the time of every feed's answer; needed after a saved state is loaded."""
        for token in self.tokens:
            self.send("deployer", token.feed, encode_call("refresh()"))

    def set_pool_price(self, symbol: str, price: Decimal) -> None:
        """Swap in every pool of the token until its price is `price` USD.

        Others trade in the pools, too: a swap that they overtook is computed again. Raises Reverted after five times.
        """
        token = self.token(symbol)
        for fee, pool in token.pools.items():
            for left in reversed(range(SWAP_TRIES)):
                swap = self.swap_to_price(token, int(fee), pool, price)
                if swap is None:
                    break
                try:
                    self.send("trader", self.router, swap)
                    break
                except Reverted as error:
                    if str(error) != PRICE_ALREADY_PASSED or not left:
                        raise

    def swap_to_price(self, token: TokenInfo, fee: int, pool: str, price: Decimal) -> bytes | None:
        """Return the calldata of a swap that ends at `price`, or None when the pool is there already."""
        slot0 = ["uint160", "int24", "uint16", "uint16", "uint16", "uint8", "bool"]
        current = read(self.rpc, pool, encode_call("slot0()"), slot0)[0]
        target = sqrt_price(self.usdc, token, price)
        if target == current:
            return None
        first, second = sorted((self.usdc, token.address), key=str.lower)
        sell, buy = (second, first) if target > current else (first, second)
        return swap_data(sell, buy, fee, self.accounts["trader"], TRADER_BALANCE // 10**3, target)

    def move_price(self, symbol: str, price: Decimal) -> None:
        """Move feed and pools to `price` USD."""
        self.set_feed(symbol, price)
        self.set_pool_price(symbol, price)

    def execute_as_owner(self, tx: "SafeTx") -> dict[str, Any]:
        """Sign a Safe transaction as the demo user and execute it."""
        from trading.venues.safe import onboarding

        tx.sign(local_key("owner").hex())
        return self.send("owner", tx.safe_address, onboarding.exec_data(tx))

    # -- policy

    def rules(self) -> list[TokenRule]:
        """Return the demo policy's token rules: every token, feeds valid for an hour."""
        return [TokenRule(token.address, token.feed, token.policy_fee, 3_600) for token in self.tokens]

    def policy(self, **changes: Any) -> Policy:
        """Return the demo policy: 10 to 1,000 USDC a trade, a loss budget of 50 USDC a day."""
        policy = Policy(
            executor=self.accounts["executor"], guardian=self.accounts["guardian"],
            fee_receiver=self.accounts["fee_receiver"], profit_receiver=self.accounts["profit_receiver"],
            min_trade=10 * USDC_UNIT, max_trade=1_000 * USDC_UNIT, daily_notional=10_000 * USDC_UNIT,
            trades_per_day=24, cooldown=1, slippage_bps=100, loss_budget=50 * USDC_UNIT,
            total_loss_budget=500 * USDC_UNIT,
        )  # fmt: skip
        return replace(policy, **changes)

    def onboard(self, policy: Policy | None = None) -> dict[str, Any]:
        """Enable the module and set the policy in one transaction signed by the demo user."""
        from trading.venues.safe import onboarding

        enabled: bool = read(
            self.rpc, self.safe, encode_call("isModuleEnabled(address)", self.module), ["bool"]
        )[0]
        return self.execute_as_owner(
            onboarding.enable_tx(
                self.chain_id,
                self.safe,
                self.module,
                policy or self.policy(),
                self.rules(),
                self.safe_nonce(),
                enabled=enabled,
            )
        )

    # -- storage

    def contracts(self) -> Contracts:
        """Return the addresses as the venue's configuration."""
        tokens = {
            SYMBOLS.get(token.symbol, token.symbol): TokenStanza(
                address=token.address,
                symbol=token.symbol,
                decimals=token.decimals,
                feed=token.feed,
                max_age=3_600,
                deviation_bps=50,
            )
            for token in self.tokens
        }
        accounts = self.accounts
        return Contracts(
            usdc=self.usdc, module=self.module, router=self.router, quoter=self.quoter, factory=self.factory,
            multicall=self.multicall, guardian=accounts["guardian"], fee_receiver=accounts["fee_receiver"],
            profit_receiver=accounts["profit_receiver"], executor=accounts["executor"], tokens=tokens,
            sequencer_feed=self.sequencer_feed, gmx=self.gmx.contracts(self.tokens, self.perp_module),
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the addresses, and `contracts.json` for the venue; neither has secrets."""
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {key: value for key, value in asdict(self).items() if key != "rpc_url"}
        path.write_text(json.dumps(body, indent=2) + "\n")
        path.with_name(CONTRACTS_FILE.name).write_text(self.contracts().model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path, rpc_url: str) -> "World":
        body = json.loads(path.read_text())
        tokens = tuple(TokenInfo(**token) for token in body.pop("tokens"))
        return cls(rpc_url=rpc_url, tokens=tokens, gmx=Gmx(**body.pop("gmx")), **body)

    def stands(self) -> bool:
        """Return whether the chain at `rpc_url` has these contracts, with module and double of GMX of this checkout."""
        if (
            self.module_source != load("TradingModule")["source_sha256"]
            or self.perp_module_source != load("PerpModule")["source_sha256"]
            or self.gmx.source != gmx_double.source()
        ):
            return False
        wanted = (
            self.module,
            self.safe,
            self.router,
            self.gmx.order_handler,
            self.perp_module,
            self.perp_safe,
            *(token.feed for token in self.tokens),
        )
        return all(code != "0x" for code in self.rpc.batch([("eth_getCode", [a, "latest"]) for a in wanted]))


def sqrt_price(usdc: str, token: TokenInfo, price: Decimal) -> int:
    """Return Uniswap's sqrtPriceX96 for `price` USD a token."""
    usdc_raw, token_raw = int(price.scaleb(18)) * USDC_UNIT, 10 ** (18 + token.decimals)
    over = (usdc_raw, token_raw) if token.address.lower() < usdc.lower() else (token_raw, usdc_raw)
    return isqrt((over[0] << 192) // over[1])


def swap_data(
    sell: str, buy: str, fee: int, recipient: str, amount: int, limit: int = 0, deadline: int = 2**48
) -> bytes:
    """Return router calldata that sells up to `amount`, stopping at the sqrtPriceX96 `limit` (0 = none)."""
    return encode_call(_SWAP, (sell, buy, fee, recipient, deadline, amount, 0, limit))


def safe_artifact(name: str, part: str = "bytecode", release: str = "1.4.1") -> bytes:
    """Return the creation code of a contract of Safe's from safe-eth-py, such as "Safe" or "Proxy".

    With `part` "deployedBytecode" it is the deployed code.
    """
    from safe_eth.eth.contracts import load_contract_interface

    return bytes.fromhex(
        load_contract_interface(f"{name}_V{release.replace('.', '_')}.json")[part].removeprefix("0x")
    )


def uniswap_artifact(path: str) -> bytes:
    """Return the creation code of a Uniswap V3 contract from node_modules, such as "v3-periphery/SwapRouter"."""
    package, _, contract = path.partition("/")
    folder = HERE / "node_modules" / "@uniswap" / package / "artifacts" / "contracts"
    file = folder / f"{contract}.sol" / f"{contract.rpartition('/')[2]}.json"
    if not file.exists():
        raise AnvilError(f"Uniswap's {contract} is not installed: run `make install` (it needs npm)")
    return bytes.fromhex(json.loads(file.read_text())["bytecode"].removeprefix("0x"))


class Builder:
    """Deploys the contracts to a local chain, step by step."""

    def __init__(self, rpc_url: str) -> None:
        self.rpc = Rpc(rpc_url)
        if int(self.rpc("eth_chainId"), 16) != LOCAL_CHAIN_ID:
            raise AnvilError(f"{rpc_url} is not the local chain {LOCAL_CHAIN_ID}: nothing is deployed there")
        known = [to_checksum_address(account) for account in self.rpc("eth_accounts")]
        if len(known) < ACCOUNTS:
            raise AnvilError(f"{rpc_url} offers {len(known)} unlocked accounts, {ACCOUNTS} are needed")
        self.accounts = dict(zip(ROLES, known, strict=False))
        self.deployer = self.accounts["deployer"]

    def create(self, code: bytes, types: list[str] | None = None, args: list[Any] | None = None) -> str:
        """Deploy a contract and return its address."""
        receipt = transact(self.rpc, self.deployer, None, code + encode(types or [], args or []))
        return to_checksum_address(receipt["contractAddress"])

    def local(self, name: str, types: list[str], args: list[Any]) -> str:
        """Deploy one of this repository's contracts."""
        return self.create(bytes.fromhex(load(name)["bytecode"][2:]), types, args)

    def call(self, to: str, signature: str, *args: Any) -> None:
        """Send a transaction of the deployer."""
        transact(self.rpc, self.deployer, to, encode_call(signature, *args))

    def canonical(self) -> None:
        """Deploy Safe's contracts by its deterministic factory, and Multicall3, at their canonical addresses."""
        from safe_eth.eth.constants import SAFE_SINGLETON_FACTORY_ADDRESS
        from safe_eth.eth.contracts.abis.multicall import multicall_v3_bytecode

        from trading.venues.safe import library

        self.rpc("anvil_setCode", SAFE_SINGLETON_FACTORY_ADDRESS, DEPLOYER_CODE)
        wanted: dict[str, str] = {
            "Safe": library.deployed("SafeL2"),
            "ProxyFactory": library.deployed("SafeProxyFactory"),
            "CompatibilityFallbackHandler": library.deployed("CompatibilityFallbackHandler"),
            "MultiSend": library.deployed("MultiSend"),
            "MultiSendCallOnly": library.deployed("MultiSendCallOnly"),
        }
        codes = {address: safe_artifact(name) for name, address in wanted.items()}
        release = library.SETUP_LIBRARY
        codes[library.deployed("MultiSendCallOnly", release)] = safe_artifact(
            "MultiSendCallOnly", release=release
        )
        for address, code in codes.items():
            if self.rpc("eth_getCode", address, "latest") == "0x":
                transact(self.rpc, self.deployer, SAFE_SINGLETON_FACTORY_ADDRESS, bytes(32) + code)
            if self.rpc("eth_getCode", address, "latest") == "0x":
                raise AnvilError(f"a contract of Safe's did not land on {address}: safe-eth-py has changed")
        runtime = self.rpc("eth_call", {"data": "0x" + bytes(multicall_v3_bytecode).hex()}, "latest")
        self.rpc("anvil_setCode", MULTICALL3, runtime)

    def pool(self, factory: str, manager: str, usdc: str, token: TokenInfo, fee: int, price: Decimal) -> str:
        """Create a USDC pool at `price` with liquidity over the full range; returns its address."""
        first, second = sorted((usdc, token.address), key=str.lower)
        create = encode_call(
            "createAndInitializePoolIfNecessary(address,address,uint24,uint160)",
            first, second, fee, sqrt_price(usdc, token, price),
        )  # fmt: skip
        transact(self.rpc, self.accounts["trader"], manager, create)
        amounts = {usdc: POOL_DEPTH_USDC, token.address: _token_amount(POOL_DEPTH_USDC, token, price)}
        edge = MAX_TICK // TICK_SPACING[fee] * TICK_SPACING[fee]
        mint = encode_call(
            _MINT,
            (first, second, fee, -edge, edge, amounts[first], amounts[second], 0, 0, self.deployer, 2**48),
        )
        transact(self.rpc, self.accounts["trader"], manager, mint)
        lookup = encode_call("getPool(address,address,uint24)", usdc, token.address, fee)
        address: str = read(self.rpc, factory, lookup, ["address"])[0]
        return address

    def fund_trader(self, token: str, spenders: tuple[str, ...]) -> None:
        """Mint tokens to the trader, who stands for the rest of the market, and approve the spenders."""
        trader = self.accounts["trader"]
        transact(self.rpc, trader, token, encode_call("mint(address,uint256)", trader, TRADER_BALANCE))
        for spender in spenders:
            transact(self.rpc, trader, token, encode_call("approve(address,uint256)", spender, 2**255))

    def safe(self, owners: list[str], threshold: int = 1) -> str:
        """Deploy a Safe by the proxy factory; the salt is the deployer's nonce, so that a rebuild gets a new one."""
        from safe_eth.eth.contracts import get_proxy_factory_V1_4_1_contract

        from maxxit.evm.provider import offline
        from trading.venues.safe import library, onboarding

        salt = int(self.rpc("eth_getTransactionCount", self.deployer, "latest"), 16)
        data = onboarding.create_safe_data(onboarding.safe_setup_data(owners, threshold), salt)
        factory = library.deployed("SafeProxyFactory")
        receipt = transact(self.rpc, self.deployer, factory, data)
        creation = get_proxy_factory_V1_4_1_contract(offline()).events.ProxyCreation()
        (log,) = (log for log in receipt["logs"] if to_checksum_address(log["address"]) == factory)
        address: str = creation.process_log(log)["args"]["proxy"]
        return address


def _token_amount(usdc: int, token: TokenInfo, price: Decimal) -> int:
    """Convert USDC base units to base units of `token` at `price`."""
    return int(Decimal(usdc) * 10**token.decimals / (price * USDC_UNIT))


def build_world(rpc_url: str, prices: Mapping[str, Decimal] | None = None) -> World:
    """Deploy everything, fund the demo user's Safe with 10,000 USDC and sign its policy. About a second."""
    builder = Builder(rpc_url)
    builder.canonical()
    usdc = builder.local("Token", ["string", "string", "uint8"], ["USD Coin", "USDC", 6])
    factory = builder.create(uniswap_artifact("v3-core/UniswapV3Factory"))
    plain = {
        symbol: builder.local(
            "WrappedEther" if symbol == "WETH" else "Token",
            ["string", "string", "uint8"],
            [name, symbol, decimals],
        )
        for symbol, (name, decimals, _) in TOKENS.items()
    }
    both = [factory, plain["WETH"]]
    router = builder.create(uniswap_artifact("v3-periphery/SwapRouter"), ["address"] * 2, both)
    quoter = builder.create(uniswap_artifact("v3-periphery/lens/QuoterV2"), ["address"] * 2, both)
    manager = builder.create(
        uniswap_artifact("v3-periphery/NonfungiblePositionManager"), ["address"] * 3, [*both, ZERO_ADDRESS]
    )
    builder.fund_trader(usdc, (router, manager))
    sequencer = builder.local("Feed", ["uint8", "int256"], [0, 0])
    # Up since a day: the module waits an hour after a restart of the sequencer.
    started = int(builder.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16) - 86_400
    up = encode_call("set_round(int256,uint256,uint256)", 0, started, started)
    transact(builder.rpc, builder.deployer, sequencer, up)
    now = {**PRICES, **(prices or {})}
    tokens = tuple(
        _build_token(builder, (factory, router, manager), usdc, symbol, address, now[symbol])
        for symbol, address in plain.items()
    )
    gmx = gmx_double.deploy_gmx(builder, usdc, tokens, now, builder.accounts["keeper"])
    module = builder.local("TradingModule", ["address"] * 3, [usdc, router, sequencer])
    perp_module = builder.local(
        "PerpModule",
        ["address"] * 7,
        [
            usdc, gmx.wrapped_native, gmx.exchange_router, gmx.order_vault, gmx.data_store, gmx.role_store, sequencer,
        ],
    )  # fmt: skip
    safe = builder.safe([builder.accounts["owner"]])
    perp_safe = builder.safe([builder.accounts["owner"]])
    world = World(
        rpc_url, usdc, tokens, sequencer, factory, router, quoter, manager, MULTICALL3, module,
        load("TradingModule")["source_sha256"], safe, builder.accounts, gmx, perp_module,
        load("PerpModule")["source_sha256"], perp_safe,
    )  # fmt: skip
    world.mint("USDC", safe, DEMO_USDC)
    world.mint("USDC", perp_safe, PERPS_USDC)
    world.onboard()
    return world


def _build_token(
    builder: Builder, uniswap: tuple[str, str, str], usdc: str, symbol: str, address: str, price: Decimal
) -> TokenInfo:
    """Deploy a token's feed and pools; `uniswap` is (factory, router, position manager)."""
    factory, router, manager = uniswap
    _, decimals, fees = TOKENS[symbol]
    feed = builder.local("Feed", ["uint8", "int256"], [FEED_DECIMALS, int(price.scaleb(FEED_DECIMALS))])
    token = TokenInfo(symbol, address, decimals, feed, {})
    builder.fund_trader(address, (router, manager))
    pools = {str(fee): builder.pool(factory, manager, usdc, token, fee, price) for fee in fees}
    return replace(token, pools=pools)


def ensure_world(rpc_url: str, path: Path, prices: Mapping[str, Decimal] | None = None) -> World:
    """Load the saved addresses while the chain still has the contracts (and renew feeds), else deploy and save."""
    world = _saved(path, rpc_url)
    if world is not None and world.stands():
        Builder(rpc_url).canonical()  # what a newer version of this program uses besides
        world.refresh_feeds()
    else:
        world = build_world(rpc_url, prices)
    world.save(path)
    return world


def _saved(path: Path, rpc_url: str) -> World | None:
    """Return the saved world; None where there is none, or one of a version with other contracts."""
    if not path.exists():
        return None
    try:
        return World.load(path, rpc_url)
    except (KeyError, TypeError):
        return None
