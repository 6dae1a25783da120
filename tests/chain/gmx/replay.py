"""Repeats the recorded steps of GMX v2's own contracts on the double, from the recorded state of the market.

The Safe of the recording trades (its address is impersonated), at the recorded prices and block times. What an order's
creation calls on the ExchangeRouter is encoded from the recorded OrderCreated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.evm.codec import ZERO_ADDRESS, decode, encode_call
from maxxit.ops.devchain.anvil import Rpc
from maxxit.ops.devchain.gmx import data_key
from maxxit.ops.devchain.world import World, transact
from tests.chain.gmx import router
from tests.chain.gmx.router import OrderParams
from tests.trading.venues.gmx.recorded import ADDRESSES, SAFE, recording, steps
from trading.venues.gmx.calls import OrderType
from trading.venues.gmx.events import EVENT_DATA, EVENT_LOG_1, EVENT_LOG_2, TRANSFER, Decoded, decode_logs

START = 1795970252
"""When the recording's market last accrued before its first execution."""
GAS_PRICE = 1_000_000_007
KINDS = ("address", "uint256", "int256", "bool", "bytes32", "bytes", "string")
MODEL = recording()["module"]
KEEPER, PROVIDER, ORACLE, INCREASES, DECREASES, SWAPS = (
    to_checksum_address(address)
    for address in (
        "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
        "0x34b40ba116d5dec75548a9e9a8f15411461e8c70",
        "0x1613beb3b2c4f22ee086b2b38c1476a3ce7f78e8",
        "0x7969c5ed335650692bc04293b07f5bf2e7a673c0",
        "0xcbeaf3bde82155f56486fb5a1072cb8baaf547cc",
        "0x70e0ba845a1a0f2da3359c97e0285013525ffc49",
    )
)
"""The last three are libraries of GMX; in the double they are the engine."""
BEFORE: Mapping[tuple[Any, ...], int] = {
    ("OPEN_INTEREST", "market", "usdc", True): 99_000 * 10**30,
    ("OPEN_INTEREST", "market", "usdc", False): 19_000 * 10**30,
    ("OPEN_INTEREST_IN_TOKENS", "market", "usdc", True): 32999999999999999999,
    ("OPEN_INTEREST_IN_TOKENS", "market", "usdc", False): 6333333333333333334,
    ("COLLATERAL_SUM", "market", "usdc", True): 9692721790,
    ("COLLATERAL_SUM", "market", "usdc", False): 4991389193,
    ("POOL_AMOUNT", "market", "usdc"): 20000532645503,
    ("POOL_AMOUNT", "market", "wnt"): 5999887278582930756845,
    ("POSITION_IMPACT_POOL_AMOUNT", "market"): 443435646765,
    ("FUNDING_FEE_AMOUNT_PER_SIZE", "market", "usdc", True): 2468179223744292243,
    ("CLAIMABLE_FUNDING_AMOUNT_PER_SIZE", "market", "usdc", False): 12341566029800528715,
    ("CUMULATIVE_BORROWING_FACTOR", "market", True): 3005166140260060351722313,
    ("CUMULATIVE_BORROWING_FACTOR", "market", False): 540502988673972496967862,
    ("FUNDING_UPDATED_AT", "market"): START,
    ("CUMULATIVE_BORROWING_FACTOR_UPDATED_AT", "market", True): START,
    ("CUMULATIVE_BORROWING_FACTOR_UPDATED_AT", "market", False): START,
}
"""The market before the first step: what the first recorded values of each number say less their delta."""
PENDING_IMPACT = -273000000000


@dataclass(frozen=True, slots=True)
class TypedEvent:
    """One event with its items in their order: (type, item, value), arrays as (type[], item, values)."""

    name: str
    sender: str
    topics: tuple[str, ...]
    items: tuple[tuple[str, str, Any], ...]


def typed(log: Mapping[str, Any]) -> TypedEvent:
    """Decode an EventLog1 or EventLog2 with everything that is in it."""
    topics = tuple("0x" + topic.removeprefix("0x") for topic in log["topics"])
    assert topics[0] in (EVENT_LOG_1, EVENT_LOG_2)
    sender, name, data = decode(
        ["address", "string", EVENT_DATA], bytes.fromhex(log["data"].removeprefix("0x"))
    )
    items = []
    for kind, (single, arrays) in zip(KINDS, data, strict=True):
        items += [(kind, key, value) for key, value in single]
        items += [(f"{kind}[]", key, list(value)) for key, value in arrays]
    return TypedEvent(name, sender, topics, tuple(items))


OUTCOMES = {
    "executed": "afterOrderExecution",
    "cancelled": "afterOrderCancellation",
    "frozen": "afterOrderFrozen",
}
CALLBACK_SELECTORS = {
    "0x" + keccak(text=f"{name}(bytes32,{EVENT_DATA},{EVENT_DATA})")[:4].hex(): outcome
    for outcome, name in OUTCOMES.items()
}


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback of an order: its outcome, and the items of its eventData."""

    outcome: str
    key: str
    items: dict[str, Any]

    @classmethod
    def of_call(cls, call: str) -> Self:
        """Decode a callback's calldata."""
        key, order, event = decode(["bytes32", EVENT_DATA, EVENT_DATA], bytes.fromhex(call[10:]))
        assert next(name for name, _ in order[0][0]) == "account"
        items = {name: value for kind in event for name, value in kind[0]}
        return cls(CALLBACK_SELECTORS[call[:10]], f"0x{key.hex()}", items)


def _calls(trace: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a call and those within it, in their order."""
    yield trace
    for call in trace.get("calls", ()):
        yield from _calls(call)


def callbacks(rpc: Rpc, receipt: Mapping[str, Any]) -> list[Callback]:
    """What the double told orders' contracts in a transaction."""
    trace = rpc("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
    return [
        Callback.of_call(call["input"]) for call in _calls(trace) if call["input"][:10] in CALLBACK_SELECTORS
    ]


class Replay:
    """The recording on one double: `run` repeats a step and returns its receipt."""

    def __init__(self, world: World) -> None:
        self.world, self.gmx = world, world.gmx
        self.rpc: Rpc = world.rpc
        self.market = self.gmx.markets["WETH"]
        self.listener = self.gmx.order_vault
        """Stands for the recorded model module: a contract that accepts every call."""
        self.same: dict[str, str] = {
            ADDRESSES["EventEmitter"]: self.gmx.event_emitter,
            ADDRESSES["Router"]: self.gmx.router,
            ADDRESSES["OrderVault"]: self.gmx.order_vault,
            ADDRESSES["OrderHandler"]: self.gmx.order_handler,
            ADDRESSES["ExchangeRouter"]: self.gmx.exchange_router,
            ADDRESSES["LiquidationHandler"]: self.gmx.liquidation_handler,
            ADDRESSES["wnt"]: self.gmx.wrapped_native,
            ADDRESSES["usdc"]: world.usdc,
            ADDRESSES["market"]: self.market,
            MODEL: self.listener,
            KEEPER: world.accounts["keeper"],
            PROVIDER: PROVIDER,
            ORACLE: self.gmx.oracle,
            INCREASES: self.gmx.engine,
            DECREASES: self.gmx.engine,
            SWAPS: self.gmx.engine,
            SAFE: SAFE,
            ZERO_ADDRESS: ZERO_ADDRESS,
        }
        """Recorded address -> that of the double."""
        self.keys: dict[str, str] = {}
        """Recorded key of an order or a position -> that of the double."""
        for is_long in (True, False):
            recorded, ours = (
                router.position_key(SAFE, market, usdc, is_long=is_long).hex()
                for market, usdc in ((ADDRESSES["market"], ADDRESSES["usdc"]), (self.market, world.usdc))
            )
            self.keys[f"0x{recorded}"] = f"0x{ours}"
        self._prepare()

    def _prepare(self) -> None:
        """Put the market into the recorded state, and give the Safe its money."""
        self.rpc("anvil_setBlockTimestampInterval", 0)  # time passes only as recorded
        for account in (SAFE, self.world.accounts["keeper"]):
            self.rpc("anvil_impersonateAccount", account)
            self.rpc("anvil_setBalance", account, hex(10**20))
        places = {
            "market": self.market,
            "usdc": self.world.usdc,
            "wnt": self.gmx.wrapped_native,
        }
        names, values = [], []
        for (name, *words), value in BEFORE.items():
            names.append(self._key(name, [places.get(word, word) for word in words]))
            values.append(value)
        data = self.gmx.data_store
        self.world.send("deployer", data, encode_call("setUints(bytes32[],uint256[])", names, values))
        pending = encode_call(
            "setInt(bytes32,int256)", self._key("TOTAL_PENDING_IMPACT_AMOUNT", [self.market]), PENDING_IMPACT
        )
        self.world.send("deployer", data, pending)
        self.world.mint("USDC", SAFE, 10_000 * 10**6)
        self._send(SAFE, self.world.usdc, encode_call("approve(address,uint256)", self.gmx.router, 2**255))

    @staticmethod
    def _key(name: str, words: list[Any]) -> bytes:
        return data_key(name, *words, types="".join("b" if isinstance(word, bool) else "a" for word in words))

    # -- steps

    def run(self, number: int) -> dict[str, Any]:
        """Repeat a step. Its block's time is the recorded one."""
        step = steps()[number]
        created = [event for event in step["events"] if event["name"] == "OrderCreated"]
        if step["to"] == MODEL:
            return self._create(created[0]["fields"])
        data = bytes.fromhex(step["input"].removeprefix("0x"))
        if step["to"] == ADDRESSES["OrderHandler"]:
            (key, prices) = decode(["bytes32", "(address[],address[],bytes[])"], data[4:])
            call = encode_call(
                "executeOrder(bytes32,(address[],address[],bytes[]))",
                bytes.fromhex(self.keys[f"0x{key.hex()}"][2:]),
                self._prices(prices),
            )
            return self._at(self._time(step), self.world.accounts["keeper"], self.gmx.order_handler, call)
        account, _, _, is_long, prices = decode(
            ["address", "address", "address", "bool", "(address[],address[],bytes[])"], data[4:]
        )
        call = encode_call(
            "executeLiquidation(address,address,address,bool,(address[],address[],bytes[]))",
            account, self.market, self.world.usdc, is_long, self._prices(prices),
        )  # fmt: skip
        receipt = self._at(
            self._time(step), self.world.accounts["keeper"], self.gmx.liquidation_handler, call
        )
        (ours,) = [event for event in self.decoded(receipt).events if event.name == "OrderCreated"]
        self.keys["0x" + created[0]["fields"]["key"]] = ours.fields["key"]
        return receipt

    def _create(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The calls of the recorded model module: WNT into the vault; sendTokens and createOrder as the Safe."""
        fee = int(fields["executionFee"])
        params = OrderParams(
            receiver=fields["receiver"],
            cancellation_receiver=fields["cancellationReceiver"],
            callback_contract=self.same[to_checksum_address(fields["callbackContract"])],
            market=self.market,
            initial_collateral_token=self.world.usdc,
            size_delta_usd=int(fields["sizeDeltaUsd"]),
            order_type=OrderType(int(fields["orderType"])),
            is_long=fields["isLong"],
            acceptable_price=int(fields["acceptablePrice"]),
            execution_fee=fee,
            initial_collateral_delta_amount=int(fields["initialCollateralDeltaAmount"]),
            trigger_price=int(fields["triggerPrice"]),
            callback_gas_limit=int(fields["callbackGasLimit"]),
            auto_cancel=fields["autoCancel"],
            decrease_swap_type=int(fields["decreasePositionSwapType"]),
        )
        call = router.create_order(params)
        assert call[:4].hex() == "f59c48eb"
        batch = [call]
        if params.initial_collateral_delta_amount:
            amount = params.initial_collateral_delta_amount
            batch.insert(0, router.send_tokens(self.world.usdc, self.gmx.order_vault, amount))
        wnt = self.gmx.wrapped_native
        self._send(SAFE, wnt, encode_call("deposit()"), value=fee)
        self._send(SAFE, wnt, encode_call("transfer(address,uint256)", self.gmx.order_vault, fee))
        time = int(fields["updatedAtTime"])
        receipt = self._at(time, SAFE, self.gmx.exchange_router, router.multicall(batch))
        (ours,) = [event for event in self.decoded(receipt).events if event.name == "OrderCreated"]
        self.keys["0x" + fields["key"]] = ours.fields["key"]
        return receipt

    @staticmethod
    def _time(step: Mapping[str, Any]) -> int:
        """The time of a step's block: that of its position, else of its prices."""
        for name, item in (("PositionIncrease", "increasedAtTime"), ("PositionDecrease", "decreasedAtTime")):
            for event in step["events"]:
                if event["name"] == name:
                    return int(event["fields"][item])
        return int(step["events"][0]["fields"]["timestamp"])

    def _prices(self, recorded: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens, providers, data = recorded
        return ([self.same[to_checksum_address(token)] for token in tokens], list(providers), list(data))

    # -- transactions

    def _at(self, time: int, sender: str, to: str, call: bytes) -> dict[str, Any]:
        """One transaction in a block of `time`."""
        self.rpc("evm_setNextBlockTimestamp", time)
        return self._send(sender, to, call)

    def _send(self, sender: str, to: str, call: bytes, value: int = 0) -> dict[str, Any]:
        self.rpc("anvil_setNextBlockBaseFeePerGas", "0x7")
        return transact(self.rpc, sender, to, call, value, gas_price=GAS_PRICE)

    # -- comparison

    def decoded(self, receipt: Mapping[str, Any]) -> Decoded:
        return decode_logs(receipt["logs"], self.gmx.event_emitter)

    def ours(self, receipt: Mapping[str, Any]) -> list[TypedEvent]:
        """The double's events in a transaction."""
        emitter = self.gmx.event_emitter.lower()
        return [typed(log) for log in receipt["logs"] if log["address"].lower() == emitter]

    def expected(self, number: int) -> list[TypedEvent]:
        """The recorded events of a step, with the double's addresses and keys."""
        emitter = ADDRESSES["EventEmitter"].lower()
        events = [typed(log) for log in steps()[number]["logs"] if log["address"].lower() == emitter]
        return [
            TypedEvent(
                event.name,
                self.mapped(event.sender),
                tuple(self.mapped(topic) for topic in event.topics),
                tuple((kind, key, self.mapped(value)) for kind, key, value in event.items),
            )
            for event in events
        ]

    def mapped(self, value: Any) -> Any:
        """A recorded value in terms of the double."""
        if isinstance(value, list):
            return [self.mapped(one) for one in value]
        if isinstance(value, bytes):
            key = self.keys.get(f"0x{value.hex()}")
            return value if key is None else bytes.fromhex(key[2:])
        if not isinstance(value, str) or not value.startswith("0x"):
            return value
        if value in self.keys:
            return self.keys[value]
        if value.startswith("0x" + "0" * 24) and len(value) == 66:
            found = self.same[to_checksum_address("0x" + value[-40:])]
            return "0x" + "0" * 24 + found[2:].lower()
        return self.same.get(value, value)

    def expected_callbacks(self, number: int) -> list["Callback"]:
        """What the recorded model module logged of its callbacks: outcome and key, then the items of eventData."""
        found: list[Callback] = []
        for log in steps()[number]["logs"]:
            data = bytes.fromhex(log["data"].removeprefix("0x"))
            if log["address"].lower() != MODEL.lower():
                continue
            kind = log["topics"][0].removeprefix("0x")[:8]
            if kind == "3031f46c":
                outcome, key, _ = decode(["string", "bytes32", "uint256"], data)
                found.append(Callback(outcome, self.keys[f"0x{key.hex()}"], {}))
            else:
                types = {"36ddcedb": "uint256", "ba0ea5ea": "address"}
                name, value = decode(["string", types[kind]], data)
                found[-1].items[name] = self.mapped(value)
        return found

    def transfers(self, logs: list[dict[str, Any]], *, recorded: bool) -> list[tuple[str, str, str, int]]:
        """Transfers of tokens: token, from, to, amount; recorded ones in terms of the double."""
        found = []
        for log in logs:
            topics = ["0x" + topic.removeprefix("0x") for topic in log["topics"]]
            if topics[0] != TRANSFER:
                continue
            places = [to_checksum_address(log["address"])]
            places += [to_checksum_address("0x" + topic[-40:]) for topic in topics[1:]]
            token, source, target = (self.mapped(place) if recorded else place for place in places)
            found.append((token, source, target, int(log["data"].removeprefix("0x"), 16)))
        return found
