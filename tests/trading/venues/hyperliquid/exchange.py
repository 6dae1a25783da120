"""A fake of Hyperliquid: accounts, agents, orders, isolated margin, funding and liquidation, kept in memory.

`server.py` puts it behind HTTP. Its answers have the members of recorded ones and of Hyperliquid's documents;
`tests/conformance/hyperliquid.py` holds it against hyperliquid-python-sdk.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from eth_account import Account as Wallet
from eth_account.messages import encode_typed_data

from trading.venues.hyperliquid.wire import action_hash, agent_message

Row = dict[str, Any]
ZERO, MICRO = Decimal(0), Decimal("0.000001")
TAKER_FEE = Decimal("0.00045")
NONCES_KEPT = 100
MIN_USD = 10
L1 = {
    "order", "cancel", "cancelByCloid", "updateLeverage", "updateIsolatedMargin", "scheduleCancel", "batchModify",
}  # fmt: skip
USER_SIGNED = {
    "approveAgent": (
        "HyperliquidTransaction:ApproveAgent",
        [
            ("hyperliquidChain", "string"),
            ("agentAddress", "address"),
            ("agentName", "string"),
            ("nonce", "uint64"),
        ],
    ),
    "approveBuilderFee": (
        "HyperliquidTransaction:ApproveBuilderFee",
        [
            ("hyperliquidChain", "string"),
            ("maxFeeRate", "string"),
            ("builder", "address"),
            ("nonce", "uint64"),
        ],
    ),
    "withdraw3": (
        "HyperliquidTransaction:Withdraw",
        [("hyperliquidChain", "string"), ("destination", "string"), ("amount", "string"), ("time", "uint64")],
    ),
    "usdSend": (
        "HyperliquidTransaction:UsdSend",
        [("hyperliquidChain", "string"), ("destination", "string"), ("amount", "string"), ("time", "uint64")],
    ),
}
"""Action -> its EIP-712 type and members."""


class Refused(Exception):
    """`{"status": "err"}` with HTTP 200."""


class NotUnderstood(Exception):
    """HTTP 422."""


@dataclass
class Market:
    """A perpetual future."""

    name: str
    sz_decimals: int
    max_leverage: int
    price: Decimal = Decimal(100)
    delisted: bool = False
    funding: Decimal = Decimal("0.0000125")
    """The rate of the next hour, a fraction."""


@dataclass
class Account:
    """One account, named by its main wallet."""

    address: str
    cash: Decimal = Decimal(100_000)
    """`totalRawUsd`: cash with all positions valued at zero."""
    held: dict[str, Decimal] = field(default_factory=dict)
    """Coin -> tokens; a short is negative."""
    entry: dict[str, Decimal] = field(default_factory=dict)
    margin: dict[str, Decimal] = field(default_factory=dict)
    """Coin -> USDC allotted to its isolated position."""
    leverage: dict[str, tuple[str, int]] = field(default_factory=dict)
    agents: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Address -> name and validUntil, milliseconds."""
    builders: dict[str, int] = field(default_factory=dict)
    """Builder -> tenths of a basis point that are approved."""
    mode: str = "disabled"
    orders: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    funding: list[Row] = field(default_factory=list)
    ledger: list[Row] = field(default_factory=list)
    scheduled: int | None = None
    effects: int = 0
    """How many orders were taken."""


class Exchange:
    """All accounts and markets. Every public method holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.accounts: dict[str, Account] = {}
        self.markets = [Market("BTC", 5, 40), Market("ETH", 4, 25), Market("SOL", 2, 20)]
        self.nonces: dict[str, set[int]] = defaultdict(set)
        self.mainnet = False
        self.depth: Decimal | None = None
        """Tokens that one level of the book holds, all at one price; None: enough. Each level is a fill."""
        self.levels = 20
        self.shown: int | None = None
        """How many fills are shown; the others come late. None: all."""
        self.triggers = True
        """Whether stops and targets fire."""
        self.leg_depth: Decimal | None = None
        """Tokens that a stop or target fills when it fires; None: all."""
        self.records_refused = True
        """Whether an order that was refused has a status afterwards."""
        self.skew = timedelta(0)
        self.time: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._oid, self._tid = 91_490_000, 118_906_512_037_719

    # -- what a test sets

    def account(self, address: str, **fields: Any) -> Account:
        """Open an account, or return the one of this address."""
        with self.lock:
            return self.accounts.setdefault(address.lower(), Account(address.lower(), **fields))

    def market(self, coin: str) -> Market:
        """Return a market by name."""
        return next(one for one in self.markets if one.name == coin)

    def approve(self, account: Account, agent: str, name: str = "maxxit", days: int = 90) -> None:
        """List an agent of an account."""
        until = self.now() + timedelta(days=days)
        account.agents[agent.lower()] = (name, int(until.timestamp() * 1000))

    def price(self, coin: str, usd: str) -> None:
        """Set a price; what rests and crosses it executes."""
        with self.lock:
            self.market(coin).price = Decimal(usd)
            for account in self.accounts.values():
                for order in account.orders:
                    if order["status"] != "open" or order["order"]["coin"] != coin:
                        continue
                    if not order["order"]["isTrigger"]:
                        self._match(account, order, self.market(coin), {})
                    elif self.triggers and _is_reached(order, self.market(coin).price):
                        self._trigger(account, order, self.market(coin))

    def pay_funding(self, account: Account, coin: str, usdc: str) -> None:
        """Pay funding (negative: charge it), with the row of userFunding."""
        with self.lock:
            account.cash += Decimal(usdc)
            size = account.held.get(coin, ZERO)
            delta = {
                "coin": coin, "fundingRate": "0.0000125", "nSamples": None, "szi": str(size), "type": "funding",
                "usdc": usdc,
            }  # fmt: skip
            account.funding.append({"delta": delta, "hash": "0x" + "0" * 64, "time": self.stamp()})

    def move(self, account: Account, change: str, **delta: Any) -> None:
        """Move the owner's money, with a row of userNonFundingLedgerUpdates."""
        with self.lock:
            account.cash += Decimal(change)
            number = len(account.ledger)
            account.ledger.append({"delta": delta, "hash": f"0x{number:064x}", "time": self.stamp()})

    def liquidate(
        self, account: Account, coin: str, usd: str, size: str = "", method: str = "market"
    ) -> None:
        """Close a position, or some of it, as Hyperliquid does with one whose margin is used up."""
        with self.lock:
            held = account.held[coin]
            part = Decimal(size) if size else abs(held)
            self._oid += 1
            order = self._order(
                self.market(coin), held < 0, usd, part, self._oid, None, reduces=True, tif="Ioc"
            )
            why = {"liquidatedUser": account.address, "markPx": usd, "method": method}
            self._execute(account, order, part, Decimal(usd), {}, liquidation=why)

    # -- time

    def now(self) -> datetime:
        """Return the exchange's own time, which may be wrong."""
        return self.time() + self.skew

    def stamp(self) -> int:
        """Return that time in milliseconds."""
        return int(self.now().timestamp() * 1000)

    # -- actions

    def act(self, raw: str) -> Row:
        """Take a signed action, as POST /exchange does. Raises Refused or NotUnderstood."""
        with self.lock:
            try:
                body = json.loads(raw)
                action, nonce, signature = body["action"], body["nonce"], body["signature"]
                kind = action["type"]
            except (ValueError, KeyError, TypeError) as error:
                raise NotUnderstood("Failed to deserialize the JSON body into the target type") from error
            expires = body.get("expiresAfter")
            signer = self._signer(action, nonce, signature, expires, body.get("vaultAddress"))
            account = self._account_of(signer, main=kind in USER_SIGNED)
            self._take_nonce(signer, nonce)
            if expires is not None and expires < self.stamp():
                raise Refused("Action expired")
            return getattr(self, f"_do_{kind}")(account, action)  # type: ignore[no-any-return]

    def _signer(self, action: Row, nonce: int, signature: Row, expires: int | None, vault: str | None) -> str:
        kind = action["type"]
        if kind in USER_SIGNED:
            primary, members = USER_SIGNED[kind]
            message = encode_typed_data(
                full_message={
                    "domain": {
                        "name": "HyperliquidSignTransaction",
                        "version": "1",
                        "chainId": int(action["signatureChainId"], 16),
                        "verifyingContract": "0x" + "0" * 40,
                    },
                    "types": {
                        "EIP712Domain": [
                            {"name": "name", "type": "string"},
                            {"name": "version", "type": "string"},
                            {"name": "chainId", "type": "uint256"},
                            {"name": "verifyingContract", "type": "address"},
                        ],
                        primary: [{"name": name, "type": kind_} for name, kind_ in members],
                    },
                    "primaryType": primary,
                    "message": {"agentName": "", **action},
                }
            )
        elif kind in L1:
            message = agent_message(action_hash(action, nonce, expires, vault), mainnet=self.mainnet)
        else:
            raise NotUnderstood("Failed to deserialize the JSON body into the target type")
        vrs = (signature["v"], int(signature["r"], 16), int(signature["s"], 16))
        return str(Wallet.recover_message(message, vrs=vrs)).lower()

    def _account_of(self, signer: str, *, main: bool) -> Account:
        """Return the signer's account; what moves money needs the main wallet."""
        if signer in self.accounts:
            return self.accounts[signer]
        for account in self.accounts.values():
            if not main and account.agents.get(signer, ("", 0))[1] > self.stamp():
                return account
        raise Refused(f"User or API Wallet {signer} does not exist.")

    def _take_nonce(self, signer: str, nonce: int) -> None:
        kept, now = self.nonces[signer], self.stamp()
        if nonce in kept:
            raise Refused(f"Invalid nonce: duplicate nonce {nonce}")
        day = 86_400_000
        if not now - 2 * day < nonce < now + day or (len(kept) >= NONCES_KEPT and nonce < min(kept)):
            raise Refused(f"Invalid nonce: {nonce}")
        kept.add(nonce)
        if len(kept) > NONCES_KEPT:
            kept.remove(min(kept))

    def _do_order(self, account: Account, action: Row) -> Row:
        builder = action.get("builder") or {}
        if builder and account.builders.get(builder["b"], 0) < builder["f"]:
            raise Refused("Builder fee has not been approved.")
        grouped = action["grouping"] == "normalTpsl"
        if grouped and any(not wire["t"].get("trigger") or not wire["r"] for wire in action["orders"][1:]):
            raise Refused("Invalid TP/SL price.")
        statuses: list[Any] = []
        for number, wire in enumerate(action["orders"]):
            child = grouped and number > 0
            statuses.append(self._place(account, wire, builder, child_of=statuses[0] if child else None))
        if grouped and "error" not in statuses[0]:
            self._link(account, action["orders"], statuses)
        return {"type": "order", "data": {"statuses": statuses}}

    def _link(self, account: Account, wires: list[Row], statuses: list[Any]) -> None:
        """Let the exits of an entry cancel each other; those of one that is not filled completely are canceled."""
        entry, *legs = account.orders[-len(wires) :]
        for leg in legs:
            leg["siblings"] = [other["order"]["oid"] for other in legs if other is not leg]
            if entry["status"] != "filled":
                leg |= {"status": "canceled", "statusTimestamp": self.stamp()}

    def _trigger(self, account: Account, order: Row, market: Market) -> None:
        """Execute a stop or a target at the market."""
        row = order["order"]
        part = min(
            Decimal(row["sz"]), abs(account.held.get(market.name, ZERO)), self.leg_depth or Decimal(10**9)
        )
        order |= {"status": "triggered", "statusTimestamp": self.stamp()}
        for other in account.orders:
            if other["order"]["oid"] in order.get("siblings", ()) and other["status"] == "open":
                other |= {"status": "siblingFilledCanceled", "statusTimestamp": self.stamp()}
        if part:
            self._execute(account, order, part, market.price, {})
        if order["status"] != "filled" and self.leg_depth is None:
            order |= {"status": "reduceOnlyCanceled", "statusTimestamp": self.stamp()}

    def _place(self, account: Account, wire: Row, builder: Row, child_of: Any = None) -> Any:
        if not 0 <= wire["a"] < len(self.markets):
            raise NotUnderstood("Failed to deserialize the JSON body into the target type")
        market = self.markets[wire["a"]]
        size, price = _wire_number(wire["s"]), _wire_number(wire["p"])
        self._oid += 1
        tif = wire["t"].get("limit", {}).get("tif")
        order = self._order(
            market, wire["b"], wire["p"], size, self._oid, wire.get("c"), reduces=wire["r"], tif=tif,
            trigger=wire["t"].get("trigger"),
        )  # fmt: skip
        problem, status = self._problem(account, market, order, size, price)
        if child_of is not None:  # its position may not be there yet
            failed = isinstance(child_of, dict) and "error" in child_of
            problem, status = (child_of["error"], "rejected") if failed else ("", "")
        if problem:
            if self.records_refused:
                account.orders.append(order | {"status": status})
            return {"error": problem}
        account.orders.append(order)
        if wire["t"].get("trigger"):
            return "waitingForTrigger"
        account.effects += 1
        before = len(account.fills)
        self._match(account, order, market, builder)
        fills = account.fills[before:]
        if not fills and tif == "Ioc":
            order |= {"status": "iocCancelRejected", "statusTimestamp": self.stamp()}
            account.effects -= 1
            return {
                "error": f"Order could not immediately match against any resting orders. asset={wire['a']}"
            }
        cloid = {"cloid": wire["c"]} if wire.get("c") else {}
        if not fills:
            return {"resting": {"oid": self._oid, **cloid}}
        total = sum((Decimal(fill["sz"]) for fill in fills), ZERO)
        average = sum((Decimal(fill["sz"]) * Decimal(fill["px"]) for fill in fills), ZERO) / total
        if tif == "Ioc" and Decimal(order["order"]["sz"]):
            order |= {"status": "canceled", "statusTimestamp": self.stamp()}
        return {
            "filled": {
                "totalSz": _text(total),
                "avgPx": _text(average.quantize(MICRO)),
                "oid": self._oid,
                **cloid,
            }
        }

    def _problem(
        self, account: Account, market: Market, order: Row, size: Decimal, price: Decimal
    ) -> tuple[str, str]:
        digits = price.normalize().as_tuple()
        decimals = max(-int(digits.exponent), 0)
        whole = decimals == 0
        if not whole and (len(digits.digits) > 5 or decimals > 6 - market.sz_decimals):
            return "Price must be divisible by tick size.", "tickRejected"
        if size <= 0 or size != size.quantize(Decimal(1).scaleb(-market.sz_decimals)):
            return "Order has invalid size.", "rejected"
        held = account.held.get(market.name, ZERO)
        buys, reduces = order["order"]["side"] == "B", order["order"]["reduceOnly"]
        if reduces and (not held or buys == (held > 0)):
            return "Reduce only order would increase position.", "reduceOnlyRejected"
        if not reduces and size * price < MIN_USD:
            return "Order must have minimum value of $10.", "minTradeNtlRejected"
        grows = not reduces and (not held or buys == (held > 0))
        if grows and size * market.price / self._leverage(account, market)[1] > self._free(account):
            return "Insufficient margin to place order.", "perpMarginRejected"
        return "", ""

    def _match(self, account: Account, order: Row, market: Market, builder: Row) -> None:
        """Execute what the book holds within the order's limit, level by level."""
        row = order["order"]
        crosses = Decimal(row["limitPx"]) >= market.price if row["side"] == "B" else (
            Decimal(row["limitPx"]) <= market.price
        )  # fmt: skip
        left = Decimal(row["sz"])
        if row["reduceOnly"]:
            left = min(left, abs(account.held.get(market.name, ZERO)))
        for _ in range(self.levels):
            if not left or not crosses:
                return
            part = left if self.depth is None else min(left, self.depth)
            self._execute(account, order, part, market.price, builder)
            left -= part

    def _execute(
        self,
        account: Account,
        order: Row,
        size: Decimal,
        price: Decimal,
        builder: Row,
        liquidation: Row | None = None,
    ) -> None:
        row = order["order"]
        coin, sign = row["coin"], 1 if row["side"] == "B" else -1
        before, notional = account.held.get(coin, ZERO), size * price
        after = before + sign * size
        kind, leverage = self._leverage(account, self.market(coin))
        builder_fee = (notional * builder.get("f", 0) / 100_000).quantize(MICRO, ROUND_HALF_EVEN)
        fee = (notional * TAKER_FEE).quantize(MICRO, ROUND_HALF_EVEN) + builder_fee
        account.cash -= sign * notional + fee
        closed = ZERO if not before or (before > 0) == (sign > 0) else min(size, abs(before))
        entry = account.entry.get(coin, ZERO)
        pnl = closed * (price - entry) * (1 if before > 0 else -1) if closed else ZERO
        if closed:
            account.margin[coin] = account.margin.get(coin, ZERO) * (1 - closed / abs(before))
        grown = size - closed
        if grown:
            kept = abs(before) if not closed else ZERO
            account.entry[coin] = (entry * kept + price * grown) / (kept + grown)
            if kind == "isolated":
                account.margin[coin] = account.margin.get(coin, ZERO) + grown * price / leverage
        account.held[coin] = after
        if not after:
            self._cancel_triggers(account, coin, but=order)
            for held in (account.held, account.entry, account.margin):
                held.pop(coin, None)
        self._tid += 1
        opens = "Open" if not closed else "Close"
        side = "Long" if (before or after) > 0 else "Short"
        fill: Row = {
            "coin": coin, "px": _text(price), "sz": _text(size), "side": row["side"], "time": self.stamp(),
            "startPosition": str(before), "dir": f"{opens} {side}", "closedPnl": str(pnl.quantize(MICRO)),
            "hash": f"0x{self._tid:064x}", "oid": row["oid"], "crossed": True, "fee": str(fee), "tid": self._tid,
            "feeToken": "USDC", "twapId": None,
        }  # fmt: skip
        if row.get("cloid"):
            fill["cloid"] = row["cloid"]
        if builder_fee:
            fill["builderFee"] = str(builder_fee)
        if liquidation:
            fill |= {"liquidation": liquidation, "dir": f"Liquidated {kind.capitalize()} {side}"}
        account.fills.append(fill)
        left = Decimal(row["sz"]) - size
        row["sz"] = _text(left)
        if not left:
            order |= {"status": "filled", "statusTimestamp": self.stamp()}

    def _cancel_triggers(self, account: Account, coin: str, but: Row) -> None:
        """Cancel stops and targets that have nothing left to reduce."""
        for order in account.orders:
            row = order["order"]
            if order is not but and order["status"] == "open" and row["isTrigger"] and row["coin"] == coin:
                order |= {"status": "reduceOnlyCanceled", "statusTimestamp": self.stamp()}

    def _order(
        self, market: Market, buys: bool, price: str, size: Decimal, oid: int, cloid: str | None, *, reduces: bool,
        tif: str | None, trigger: Row | None = None,
    ) -> Row:  # fmt: skip
        order: Row = {
            "coin": market.name, "side": "B" if buys else "A", "limitPx": price, "sz": _text(size), "oid": oid,
            "timestamp": self.stamp(), "triggerCondition": "N/A", "isTrigger": bool(trigger),
            "triggerPx": trigger["triggerPx"] if trigger else "0.0", "children": [], "isPositionTpsl": False,
            "reduceOnly": reduces, "orderType": "Limit", "origSz": _text(size), "tif": tif, "cloid": cloid,
        }  # fmt: skip
        told: Row = {"order": order, "status": "open", "statusTimestamp": self.stamp()}
        return told | ({"tpsl": trigger["tpsl"]} if trigger else {})

    def _do_cancel(self, account: Account, action: Row) -> Row:
        return self._cancel(account, [("oid", one["o"]) for one in action["cancels"]])

    def _do_cancelByCloid(self, account: Account, action: Row) -> Row:
        return self._cancel(account, [("cloid", one["cloid"]) for one in action["cancels"]])

    def _cancel(self, account: Account, wanted: Iterable[tuple[str, Any]]) -> Row:
        statuses: list[Any] = []
        for name, value in wanted:
            order = next((one for one in account.orders if one["order"][name] == value), None)
            if order is None or order["status"] in ("filled", "canceled") or "Rejected" in order["status"]:
                statuses.append({"error": "Order was never placed, already canceled, or filled."})
            else:
                order |= {"status": "canceled", "statusTimestamp": self.stamp()}
                statuses.append("success")
        return {"type": "cancel", "data": {"statuses": statuses}}

    def _do_updateLeverage(self, account: Account, action: Row) -> Row:
        market = self.markets[action["asset"]]
        if not 1 <= action["leverage"] <= market.max_leverage:
            raise Refused("Invalid leverage value")
        kind = "cross" if action["isCross"] else "isolated"
        if account.held.get(market.name) and self._leverage(account, market)[0] != kind:
            raise Refused("Cannot switch leverage type with open position.")
        account.leverage[market.name] = (kind, action["leverage"])
        return {"type": "default"}

    def _do_updateIsolatedMargin(self, account: Account, action: Row) -> Row:
        coin = self.markets[action["asset"]].name
        account.margin[coin] = account.margin.get(coin, ZERO) + Decimal(action["ntli"]) / 1_000_000
        return {"type": "default"}

    def _do_scheduleCancel(self, account: Account, action: Row) -> Row:
        at = action.get("time")
        if at is not None and at < self.stamp() + 5_000:
            raise Refused("Scheduled cancel time must be at least 5 seconds in the future.")
        account.scheduled = at
        return {"type": "default"}

    def _do_batchModify(self, account: Account, action: Row) -> Row:
        statuses = []
        for one in action["modifies"]:
            name = "cloid" if isinstance(one["oid"], str) else "oid"
            self._cancel(account, [(name, one["oid"])])
            statuses.append(self._place(account, one["order"], {}))
        return {"type": "order", "data": {"statuses": statuses}}

    def _do_approveAgent(self, account: Account, action: Row) -> Row:
        self.approve(account, action["agentAddress"], action.get("agentName") or "")
        return {"type": "default"}

    def _do_approveBuilderFee(self, account: Account, action: Row) -> Row:
        percent = Decimal(action["maxFeeRate"].removesuffix("%"))
        account.builders[action["builder"].lower()] = int(percent * 1000)
        return {"type": "default"}

    def _do_withdraw3(self, account: Account, action: Row) -> Row:
        amount = Decimal(action["amount"])
        if amount > self._free(account):
            raise Refused("Insufficient balance for withdrawal.")
        self.move(
            account, str(-amount), type="withdraw", usdc=str(amount - 1), nonce=action["time"], fee="1.0"
        )
        return {"type": "default"}

    _do_usdSend = _do_withdraw3

    # -- reads

    def info(self, ask: Row) -> Any:
        """Answer POST /info. Raises NotUnderstood for a type that is not known."""
        with self.lock:
            answer = getattr(self, f"_info_{ask.get('type')}", None)
            if answer is None:
                raise NotUnderstood("Failed to deserialize the JSON body into the target type")
            return answer(ask)

    def _user(self, ask: Row) -> Account:
        """Return the account of an address; one that Hyperliquid never saw is empty."""
        return self.accounts.get(str(ask["user"]).lower()) or Account(str(ask["user"]).lower(), cash=ZERO)

    def _info_meta(self, ask: Row) -> Row:
        universe = []
        for one in self.markets:
            row: Row = {"szDecimals": one.sz_decimals, "name": one.name, "maxLeverage": one.max_leverage}
            row |= {"marginTableId": one.max_leverage} | ({"isDelisted": True} if one.delisted else {})
            universe.append(row)
        return {"universe": universe, "marginTables": [], "collateralToken": 0}

    def _info_metaAndAssetCtxs(self, ask: Row) -> list[Any]:
        contexts = [
            {
                "funding": _text(one.funding), "openInterest": "1000.0", "prevDayPx": _text(one.price),
                "dayNtlVlm": "1000000.0", "premium": "0.0001", "oraclePx": _text(one.price), "markPx": _text(one.price),
                "midPx": _text(one.price), "impactPxs": [_text(one.price)] * 2, "dayBaseVlm": "500.0",
            }
            for one in self.markets
        ]  # fmt: skip
        return [self._info_meta(ask), contexts]

    def _info_spotMeta(self, ask: Row) -> Row:
        return {"universe": [], "tokens": []}

    def _info_allMids(self, ask: Row) -> Row:
        return {one.name: _text(one.price) for one in self.markets}

    def _info_l2Book(self, ask: Row) -> Row:
        market = self.market(ask["coin"])
        size = _text(self.depth if self.depth is not None else Decimal(1_000_000))
        level = {"px": _text(market.price), "sz": size, "n": 1}
        return {"coin": market.name, "time": self.stamp(), "levels": [[level] * self.levels] * 2}

    def _info_clearinghouseState(self, ask: Row) -> Row:
        account = self._user(ask)
        rows = [self._position(account, self.market(coin), size) for coin, size in account.held.items()]
        worth = sum((size * self.market(coin).price for coin, size in account.held.items()), ZERO)
        gross = sum((abs(size) * self.market(coin).price for coin, size in account.held.items()), ZERO)
        isolated = [row["position"] for row in rows if row["position"]["leverage"]["type"] == "isolated"]
        iso_raw = sum((Decimal(row["leverage"]["rawUsd"]) for row in isolated), ZERO)
        iso_used = sum((Decimal(row["marginUsed"]) for row in isolated), ZERO)
        used = sum((Decimal(row["position"]["marginUsed"]) for row in rows), ZERO)

        def summary(value: Decimal, raw: Decimal, notional: Decimal, margin: Decimal) -> Row:
            return {
                "accountValue": str(value), "totalNtlPos": str(notional), "totalRawUsd": str(raw),
                "totalMarginUsed": str(margin),
            }  # fmt: skip

        value = account.cash + worth
        iso_notional = sum((Decimal(row["positionValue"]) for row in isolated), ZERO)
        return {
            "marginSummary": summary(value, account.cash, gross, used),
            "crossMarginSummary": summary(
                value - iso_used, account.cash - iso_raw, gross - iso_notional, used - iso_used
            ),
            "crossMaintenanceMarginUsed": "0.0",
            "withdrawable": str(self._free(account)),
            "assetPositions": rows,
            "time": self.stamp(),
        }

    def _position(self, account: Account, market: Market, size: Decimal) -> Row:
        kind, leverage = self._leverage(account, market)
        entry, value = account.entry[market.name], abs(size) * market.price
        raw = account.margin.get(market.name, ZERO) - size * entry
        used = (raw + size * market.price) if kind == "isolated" else value / leverage
        maintenance = Decimal(1) / (2 * market.max_leverage)
        liquidation = raw / (-size + abs(size) * maintenance)
        told: Row = {"type": kind, "value": leverage}
        return {
            "type": "oneWay",
            "position": {
                "coin": market.name, "szi": str(size),
                "leverage": told | ({"rawUsd": str(raw)} if kind == "isolated" else {}),
                "entryPx": str(entry.quantize(MICRO)), "positionValue": str(value),
                "unrealizedPnl": str(size * (market.price - entry)), "returnOnEquity": "0.0",
                "liquidationPx": str(liquidation.quantize(Decimal("1e-8"))) if liquidation > 0 else None,
                "marginUsed": str(used), "maxLeverage": market.max_leverage,
                "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
            },
        }  # fmt: skip

    def _free(self, account: Account) -> Decimal:
        """Return what is not used as margin, USDC."""
        worth = sum((size * self.market(coin).price for coin, size in account.held.items()), ZERO)
        used = sum(
            (Decimal(self._position(account, self.market(coin), size)["position"]["marginUsed"])
             for coin, size in account.held.items()),
            ZERO,
        )  # fmt: skip
        return account.cash + worth - used

    def _leverage(self, account: Account, market: Market) -> tuple[str, int]:
        return account.leverage.get(market.name, ("cross", min(20, market.max_leverage)))

    def _info_activeAssetData(self, ask: Row) -> Row:
        account, market = self._user(ask), self.market(ask["coin"])
        kind, leverage = self._leverage(account, market)
        free = self._free(account)
        most = str((free * leverage / market.price).quantize(MICRO))
        return {
            "user": account.address, "coin": market.name, "leverage": {"type": kind, "value": leverage},
            "maxTradeSzs": [most, most], "availableToTrade": [str(free)] * 2, "markPx": _text(market.price),
        }  # fmt: skip

    def _info_orderStatus(self, ask: Row) -> Row:
        name = "cloid" if isinstance(ask["oid"], str) else "oid"
        for order in self._user(ask).orders:
            if order["order"][name] == ask["oid"]:
                shown = ("order", "status", "statusTimestamp")
                return {"status": "order", "order": {key: order[key] for key in shown}}
        return {"status": "unknownOid"}

    def _info_openOrders(self, ask: Row) -> list[Row]:
        names = ("coin", "limitPx", "oid", "side", "sz", "timestamp", "origSz", "cloid")
        return [
            {name: order["order"][name] for name in names}
            for order in self._user(ask).orders
            if order["status"] == "open"
        ]

    def _info_frontendOpenOrders(self, ask: Row) -> list[Row]:
        return [order["order"] for order in self._user(ask).orders if order["status"] == "open"]

    def _info_historicalOrders(self, ask: Row) -> list[Row]:
        return list(reversed(self._user(ask).orders))

    def _info_userFills(self, ask: Row) -> list[Row]:
        return list(reversed(self._user(ask).fills[: self.shown]))[:2000]

    def _info_userFillsByTime(self, ask: Row) -> list[Row]:
        until = ask.get("endTime") or 10**15
        fills = self._user(ask).fills[: self.shown]
        return [row for row in fills if ask["startTime"] <= row["time"] <= until][:2000]

    def _info_userFunding(self, ask: Row) -> list[Row]:
        return [row for row in self._user(ask).funding if row["time"] >= ask["startTime"]][:500]

    def _info_userNonFundingLedgerUpdates(self, ask: Row) -> list[Row]:
        return [row for row in self._user(ask).ledger if row["time"] >= ask["startTime"]][:2000]

    def _info_extraAgents(self, ask: Row) -> list[Row]:
        return [
            {"name": name, "address": address, "validUntil": until}
            for address, (name, until) in self._user(ask).agents.items()
        ]

    def _info_maxBuilderFee(self, ask: Row) -> int:
        return self._user(ask).builders.get(ask["builder"].lower(), 0)

    def _info_userAbstraction(self, ask: Row) -> str:
        return self._user(ask).mode

    def _info_userRole(self, ask: Row) -> Row:
        address = str(ask["user"]).lower()
        if address in self.accounts:
            return {"role": "user"}
        for account in self.accounts.values():
            if address in account.agents:
                return {"role": "agent", "data": {"user": account.address}}
        return {"role": "missing"}

    def _info_userRateLimit(self, ask: Row) -> Row:
        return {"cumVlm": "0.0", "nRequestsUsed": 1, "nRequestsCap": 10_000}


def _is_reached(order: Row, price: Decimal) -> bool:
    """Return whether the price has reached a trigger: a stop is left at a loss, a target with a profit."""
    row, level = order["order"], Decimal(order["order"]["triggerPx"])
    falls = (row["side"] == "A") == (order["tpsl"] == "sl")
    return price <= level if falls else price >= level


def _wire_number(text: Any) -> Decimal:
    """Parse a number of an action: text without trailing zeros, as it was signed."""
    if not isinstance(text, str) or text != _text(Decimal(text)):
        raise NotUnderstood("Failed to deserialize the JSON body into the target type")
    return Decimal(text)


def _text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
