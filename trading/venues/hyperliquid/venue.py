"""The venue Hyperliquid: immediate-or-cancel orders in perpetual futures, isolated margin, an agent key per account.

`prepare` stores the action's text and its nonce. Sending the same again is refused as "duplicate nonce", which proves
that it arrived and nothing of what became of it; a new nonce would make a second order. What is signed is bounded by
`signer.SignerPolicy`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from maxxit.core.money import USDC, ZERO, plain
from maxxit.core.terms import BPS, OrderSide, Purpose
from maxxit.market import quotes
from trading import ledger
from trading.perps import funding, liquidations, margin
from trading.perps.liquidations import Liquidation
from trading.reasons import Reason
from trading.states import IN_FLIGHT
from trading.venues.base import (
    Capabilities,
    KeyAccess,
    KeyCard,
    Leg,
    Prepared,
    Question,
    Report,
    Request,
    VenueAnswer,
)
from trading.venues.broker import BrokerVenue, Found, Ref
from trading.venues.hyperliquid import accounts, moves, nonces
from trading.venues.hyperliquid.access import Access
from trading.venues.hyperliquid.card import key_card
from trading.venues.hyperliquid.client import Client, Keys, Refusal, api_host, statuses_of
from trading.venues.hyperliquid.exits import legs_of, parts_of
from trading.venues.hyperliquid.markets import Listing, Market, read_markets
from trading.venues.hyperliquid.moves import LiquidationRef
from trading.venues.hyperliquid.orders import (
    LEG,
    Row,
    cancel_action,
    is_open,
    leg_wires,
    leverage_action,
    limit_of,
    order_action,
)
from trading.venues.hyperliquid.reader import Reader
from trading.venues.hyperliquid.signer import Signer, SignerPolicy, SigningFacts
from trading.venues.hyperliquid.wire import Builder
from trading.venues.parallel import in_parallel

log = structlog.get_logger(__name__)

LIQUIDATIONS_FOR = timedelta(days=2)
"""How far back liquidations are looked for."""
MAX_BUILDER_TENTHS = 100
TAKEN = frozenset({"resting", "filled"})
TAKEN_WORDS = frozenset({"waitingForFill", "waitingForTrigger"})


class HyperliquidVenue(BrokerVenue[Keys]):
    """Perpetual futures at Hyperliquid.

    Args:
        network: mainnet or testnet; the host follows from it.
        markets: coin -> {asset, sz_decimals} of the deep markets that may be traded.
        slippage_bps, exit_slippage_bps: how far an order's price limit is from its reference price.
        price_band_bps, exit_band_bps: how far the signer lets a price limit be from our quote.
        daily_notional_usd: the signer's limit of an account's entries within 24 hours.
        builder: {address, tenths_of_bp} of the fee that each order pays to the platform; none without it.
        resting_exits: entries carry their stop and target to Hyperliquid.
    """

    name = "hyperliquid"
    credential_fields = ("address", "agent_key")

    def __init__(  # noqa: PLR0913 (the options of the stanza)
        self,
        *,
        network: str,
        markets: Mapping[str, Any],
        daily_notional_usd: int,
        base_url: str = "",
        slippage_bps: int = 50,
        exit_slippage_bps: int = 300,
        price_band_bps: int = 150,
        exit_band_bps: int = 1_000,
        builder: Mapping[str, Any] | None = None,
        resting_exits: bool = True,
        shorts: bool = False,
        max_leverage: Decimal = Decimal(1),
    ) -> None:
        super().__init__()
        if max_leverage != int(max_leverage):
            raise Misconfigured("venue hyperliquid: max_leverage is a whole number")
        if not 0 < slippage_bps < price_band_bps < BPS or not 0 < exit_slippage_bps < exit_band_bps < BPS:
            raise Misconfigured(
                "venue hyperliquid: slippage_bps is below price_band_bps, exit_slippage_bps below exit_band_bps, "
                f"and all are between 0 and {BPS}"
            )
        if daily_notional_usd <= 0:
            raise Misconfigured("venue hyperliquid: daily_notional_usd is above zero")
        self.client = Client(api_host(network, base_url))
        self.markets = read_markets(markets)
        self.builder = _read_builder(builder)
        self.slippage, self.exit_slippage = Decimal(slippage_bps) / BPS, Decimal(exit_slippage_bps) / BPS
        policy = SignerPolicy(
            markets={market.asset: market for market in self.markets.values()},
            price_band=Decimal(price_band_bps) / BPS,
            exit_band=Decimal(exit_band_bps) / BPS,
            max_leverage=int(max_leverage),
            daily_notional_usd=Decimal(daily_notional_usd),
            builder=self.builder,
        )
        self.signer = Signer(policy, mainnet=network == "mainnet")
        self.listing = Listing(self.client)
        self.access = Access(self.client, self.builder)
        self.capabilities = Capabilities(
            dedup=True, shorts=shorts, max_leverage=max_leverage, collects_fees=False,
            find_lag=timedelta(seconds=10), batch=50, liquidates=True,
            resting_exits=resting_exits,
        )  # fmt: skip

    def key_card(self) -> KeyCard:
        """Return what the platform can do with an agent key under the signer's policy."""
        return key_card(self.signer.policy)

    # -- orders

    def prepare(self, request: Request) -> Prepared:
        """Return the action's text with its nonce; for an entry also the action that sets margin and leverage."""
        market = self._market(request.symbol)
        closes = request.purpose == Purpose.CLOSE
        limit = limit_of(request, market, self.exit_slippage if closes else self.slippage)
        legs = (
            leg_wires(request, market, limit, self.exit_slippage) if self.capabilities.resting_exits else []
        )
        payload: dict[str, Any] = {
            "account": request.account,
            "symbol": request.symbol,
            "closes": closes,
            "deadline": request.deadline.isoformat(),
            "action": order_action(request, market, limit, self.builder, legs),
        }
        order = request.client_order_id
        if closes:
            payload["nonce"] = nonces.take(self.name, request.account, order)
        else:
            leverage, sets = max(int(request.leverage), 1), f"{order}/leverage"
            taken = nonces.take_many(self.name, request.account, {sets: ZERO, order: limit.notional})
            payload |= {
                "leverage": leverage,
                "leverage_action": leverage_action(market, leverage),
                "leverage_nonce": taken[sets],
                "nonce": taken[order],
            }
        ref = str(Ref(request.account, request.client_order_id, request.deadline))
        return Prepared(ref, payload, rests_exits=bool(legs))

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Send many orders, some at once; return ref -> error."""
        prices = self._prices({order.payload["symbol"] for order in orders})
        notionals = nonces.notional_of_day(self.name, {order.payload["account"] for order in orders})

        def send(keys: Keys, order: Prepared) -> None:
            notional = notionals.get(order.payload["account"], ZERO)
            self._send(keys, order, SigningFacts(prices, notional))

        return self._send_each(orders, send)

    def _send(self, keys: Keys, order: Prepared, facts: SigningFacts) -> None:
        payload, deadline = order.payload, datetime.fromisoformat(order.payload["deadline"])
        if clock.now() >= deadline:
            raise Rejected(
                f"the order was not sent before its deadline, {deadline}", code=Reason.DEADLINE_PASSED
            )
        sent = Ref.parse(order.ref).client_order_id
        body = self.signer.body(keys, payload["action"], payload["nonce"], deadline, facts)
        try:
            self._check_market(payload)
            if not payload["closes"]:
                self._set_leverage(keys, payload, deadline, facts)
            response = self.client.exchange(body)
        except Refusal as refusal:
            if self._arrived(keys, sent):
                return
            if refusal.arrived_before:
                raise Unknown(
                    f"Hyperliquid had the order {sent} before and does not find it: {refusal.text}"
                ) from refusal
            raise
        status = statuses_of(response)[0]
        if isinstance(status, Mapping) and isinstance(status.get("error"), str):
            raise Refusal(status["error"])
        if not (TAKEN & set(status) if isinstance(status, Mapping) else status in TAKEN_WORDS):
            raise Unknown(f"Hyperliquid's answer to the order {sent} is not known: {status}")

    def _check_market(self, payload: Mapping[str, Any]) -> None:
        """Check that the number of the market still means it. An exit does not wait where the list is unread."""
        try:
            self.listing.check(self._market(payload["symbol"]), payload.get("leverage", 1))
        except Retryable as error:
            if not payload["closes"]:
                raise
            log.warning("markets_not_read", venue=self.name, error=str(error))

    def _set_leverage(
        self, keys: Keys, payload: Mapping[str, Any], deadline: datetime, facts: SigningFacts
    ) -> None:
        """Set isolated margin and the order's leverage where the account has another one.

        Raises Retryable where it is not known to be set: the order itself was not sent.
        """
        if self._leverage_is_set(keys, payload):
            return
        body = self.signer.body(keys, payload["leverage_action"], payload["leverage_nonce"], deadline, facts)
        try:
            self.client.exchange(body)
        except Unknown as error:
            raise Retryable(f"the leverage may not be set, the order was not sent: {error}") from error
        except Refusal as refusal:
            if not refusal.arrived_before:
                raise
            if not self._leverage_is_set(keys, payload):
                raise Retryable("the leverage was set and changed since; the order was not sent") from refusal

    def _leverage_is_set(self, keys: Keys, payload: Mapping[str, Any]) -> bool:
        answer = self.client.info_object(
            "activeAssetData", "leverage", user=keys.address, coin=payload["symbol"]
        )
        now = answer["leverage"]
        return bool(now.get("type") == "isolated" and now.get("value") == payload["leverage"])

    def _arrived(self, keys: Keys, client_order_id: str) -> bool:
        """Return whether Hyperliquid has an order that it refuses now. Raises Unknown where it cannot be asked."""
        try:
            return self._reader(keys).order(client_order_id) is not None
        except (Retryable, Refusal) as error:
            raise Unknown(
                f"the order {client_order_id} was refused and cannot be looked up: {error}"
            ) from error

    def find_many(self, refs: Sequence[str]) -> dict[str, Found]:
        """Return where many orders stand, account by account; cancel what is not filled at its deadline."""
        liquidated = {text: one for text in refs if (one := LiquidationRef.parse(text))}
        found = self._of_orders([text for text in refs if text not in liquidated], self._find)
        for text, answer in found.items():
            if isinstance(answer, Report) and answer.state in IN_FLIGHT:
                self._cancel_late(Ref.parse(text))
        return found | self._find_liquidations(liquidated.values())

    def _find(self, keys: Keys, orders: Sequence[Ref]) -> dict[str, Found]:
        return self._reader(keys).reports(orders)

    def _find_liquidations(self, refs: Iterable[LiquidationRef]) -> dict[str, Found]:
        of_account: defaultdict[str, list[LiquidationRef]] = defaultdict(list)
        for ref in refs:
            of_account[ref.account].append(ref)

        def ask(account: str, keys: Keys) -> dict[str, Found]:
            return self._reader(keys).liquidation_reports(of_account[account])

        found: dict[str, Found] = {}
        jobs = {account: (account, partial(ask, account)) for account in of_account}
        for account, answer in self._with_keys(jobs).items():
            if isinstance(answer, Exception):
                found |= {str(ref): answer for ref in of_account[account]}
            else:
                found |= answer
        return found

    def _reader(self, keys: Keys) -> Reader:
        return Reader(self.client, keys, takes_fee=self.builder is not None)

    def cancel(self, ref: str) -> None:
        """Cancel what is not filled; nothing to do where the order has ended or never arrived."""
        if LiquidationRef.parse(ref):
            return
        order = Ref.parse(ref)
        try:
            self._cancel(order, [order.client_order_id])
        except (Rejected, Retryable, Unknown) as error:  # it ended meanwhile, or the next `find` tries again
            log.warning("order_not_canceled", venue=self.name, order=order.client_order_id, error=str(error))

    def _cancel(self, order: Ref, client_order_ids: Sequence[str]) -> None:
        """Cancel those of these orders of one market that are open. Raises Refusal, Retryable or Unknown."""
        keys = self._keys(order.account)
        if live := self._open(keys, client_order_ids):
            self.client.exchange(self._cancellation(keys, order, live))

    def _open(self, keys: Keys, client_order_ids: Sequence[str]) -> dict[str, Row]:
        """Return those of these orders that are open and in our markets."""
        reader = self._reader(keys)
        rows = {one: reader.order(one) for one in client_order_ids}
        return {
            one: row
            for one, row in rows.items()
            if row is not None and is_open(row) and row["order"]["coin"] in self.markets
        }

    def _cancellation(self, keys: Keys, order: Ref, live: Mapping[str, Row]) -> str:
        """Return the signed action that cancels open orders of one market, with a nonce of its own."""
        [coin] = {row["order"]["coin"] for row in live.values()}
        now = clock.now()
        name = f"{order.client_order_id}/cancel/{nonces.milliseconds(now)}"
        nonce = nonces.take(self.name, order.account, name)
        action = cancel_action(self.markets[coin], list(live))
        return self.signer.body(keys, action, nonce, now + timedelta(minutes=1), SigningFacts({}))

    def _cancel_late(self, ref: Ref) -> None:
        """Cancel an order that is open after its deadline; exits that the venue keeps have none."""
        if LEG not in ref.client_order_id and ref.is_over(clock.now()):
            self.cancel(str(ref))

    # -- exits that the venue keeps

    def exits(self, refs: Sequence[str]) -> dict[str, tuple[Leg, ...] | Exception]:
        """Return ref of an entry -> its stop and target at Hyperliquid, or why they are not known."""

        def ask(entry: Ref, keys: Keys) -> tuple[Leg, ...]:
            return legs_of(self._reader(keys), entry)

        entries = {text: Ref.parse(text) for text in refs}
        return self._with_keys(
            {text: (entry.account, partial(ask, entry)) for text, entry in entries.items()}
        )

    def release(self, refs: Sequence[str]) -> None:
        """Cancel the exits of entries, and what is not filled of the entries. Raises Retryable or Unknown.

        Some are looked for, and then canceled, at once; the nonces are taken in between, because the threads use no
        database.
        """

        def look(entry: Ref, keys: Keys) -> dict[str, Row]:
            return self._open(keys, parts_of(entry))

        entries = {text: Ref.parse(text) for text in refs}
        found: dict[str, Any] = {}
        found |= self._with_keys(
            {text: (entry.account, partial(look, entry)) for text, entry in entries.items()}
        )
        jobs: dict[str, Callable[[], Any]] = {}
        for text, live in found.items():
            if not live or isinstance(live, Exception):
                continue
            try:
                body = self._cancellation(self._keys(entries[text].account), entries[text], live)
            except (Rejected, Misconfigured) as error:  # the others are canceled before it is raised
                found[text] = error
            else:
                jobs[text] = partial(self.client.exchange, body)
        for text, answer in (found | in_parallel(jobs)).items():
            if isinstance(answer, Rejected):
                raise Retryable(f"the exits of {entries[text].client_order_id} were not canceled: {answer}")
            if isinstance(answer, Exception):
                raise answer

    # -- what it would take

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return whether Hyperliquid would take each order; the accounts of entries are read some at once first."""
        entries = {question.account for question in questions if question.purpose == Purpose.OPEN}
        self._with_keys({account: (account, self.access.terms) for account in entries})
        return super().answers(questions)

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the average price, USD, at which the order book would fill `cash` USDC; None where it is too thin."""
        if side == OrderSide.SELL and not self.capabilities.shorts:
            raise Rejected(f"short sales of {symbol} are switched off", code=Reason.SHORTS_NOT_SUPPORTED)
        if symbol not in self.markets or symbol not in quotes.latest([symbol]):
            return None
        return self.access.average_price(symbol, side, cash)

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return why Hyperliquid, or the account's owner, would not let an entry trade. An exit waits for no read."""
        if purpose == Purpose.CLOSE:
            return ""
        if symbol not in self.markets:
            return Reason.TOKEN_NOT_LISTED
        keys = self._keys(account)
        self.listing.check(self.markets[symbol])
        return self.access.problem(keys)

    # -- accounts

    def _balances(self, keys: Keys) -> dict[str, Decimal]:
        """Return USDC (`totalRawUsd`, which may be negative) and every position in tokens; a short is negative."""
        return accounts.read_state(self.client, keys).balances

    def balances_of(self, names: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the same of many accounts; one that cannot be read is missing.

        Their agents are looked at as well, some minutes apart; foreign ones raise an alert.
        """
        states = self._read(names, partial(accounts.read_state, self.client))
        for account, state in states.items():
            margin.store(self.name, account, state.margins)
        agents = self._with_keys({account: (account, self.access.strangers) for account in states})
        for account, strangers in agents.items():
            if isinstance(strangers, Exception):
                log.warning("agents_not_read", account=account, error=str(strangers))
            elif strangers:
                moves.tell_of_agents(self.name, account, strangers)
        return {account: state.balances for account, state in states.items()}

    def verify(self, account: str) -> dict[str, Any]:
        """Return what an account's key may do, its cash, and its positions with leverage and liquidation price."""
        keys = self._keys(account)
        access = accounts.access_of(self.client, keys, self.builder)
        state = accounts.read_state(self.client, keys)
        return {
            "permissions": list(access.permissions),
            "may_trade": access.may_trade,
            "cash": plain(state.cash),
            "notes": [
                f"account value {plain(state.value)} USDC, margin used {plain(state.margin_used)}, "
                f"withdrawable {plain(state.withdrawable)}",
                *(one.line for one in state.positions),
            ],
        }

    def state(self, account: str) -> accounts.State:
        """Return an account's cash and positions with leverage, margin and liquidation price."""
        return accounts.read_state(self.client, self._keys(account))

    def opening_balance(self, account: str) -> Decimal | None:
        """Return the USDC of the account. Raises Rejected while it has positions: whose they are is not known."""
        state = self.state(account)
        if state.positions:
            held = ", ".join(f"{one.size} {one.coin}" for one in state.positions)
            raise Rejected(f"the account holds {held} at Hyperliquid: close its positions first")
        return state.cash

    def unexplained(self, account: str, differences: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Book funding and the owner's transfers; return the differences that remain.

        A liquidation that is not adopted yet explains its own: `positions.liquidations` adopts it.
        """
        left = dict(differences)
        deployment = ledger.booking_deployment(account, self.name)
        since = ledger.first_deposit_at(deployment) if deployment else None
        if deployment is None or since is None:
            return left
        keys = self._keys(account)
        if USDC in left:
            left[USDC] -= self._book_moves(keys, deployment, since)
        if any(asset != USDC for asset in left):
            for one in self._liquidations(keys, account, since):
                if one.symbol in left and liquidations.awaits_adoption(self.name, account, one.ref):
                    left[one.symbol] -= -one.quantity if one.sells else one.quantity
                    if USDC in left:  # else an order in flight changes it, and it is not compared
                        left[USDC] -= one.cash
        return {asset: amount for asset, amount in left.items() if amount}

    def _book_moves(self, keys: Keys, deployment: Deployment, since: datetime) -> Decimal:
        """Book funding and transfers since the newest that are booked; return their sum, USDC."""
        newest = funding.last_booked(deployment) or since
        reader = self._reader(keys)
        paid = reader.rows_since("userFunding", nonces.milliseconds(newest))
        updates = reader.rows_since("userNonFundingLedgerUpdates", nonces.milliseconds(since))
        payments = [one for one in moves.funding_of(paid) if one.at > since]
        transfers = [one for one in moves.transfers_of(updates, keys.address) if one.at > since]
        return funding.book(deployment, payments) + moves.book_transfers(deployment, transfers)

    def liquidations(self, account: str) -> Sequence[Liquidation]:
        """Return the liquidations of the account's positions since its deployment started, oldest first."""
        deployment = ledger.booking_deployment(account, self.name)
        since = ledger.first_deposit_at(deployment) if deployment else None
        return self._liquidations(self._keys(account), account, since) if since else ()

    def _liquidations(self, keys: Keys, account: str, since: datetime) -> list[Liquidation]:
        earliest = max(since, clock.now() - LIQUIDATIONS_FOR)
        fills = self._reader(keys).fills_since(nonces.milliseconds(earliest))
        return moves.liquidations_of(account, keys.address, fills)

    def parse_keys(self, secrets: Mapping[str, str]) -> Keys:
        """Return the keys of an account. Raises InvalidInput for an address or a key that is none."""
        return accounts.keys_of(secrets)

    def key_access(self, secrets: Mapping[str, str]) -> KeyAccess:
        """Return what an agent key may do; the main wallet's own key counts as able to withdraw."""
        return accounts.access_of(self.client, self.parse_keys(secrets), self.builder)

    # -- helpers

    def _market(self, symbol: str) -> Market:
        try:
            return self.markets[symbol]
        except KeyError:
            raise Misconfigured(
                f"venue {self.name}: {symbol} is not among `markets` of its stanza in config/venues.yaml"
            ) from None

    def _prices(self, symbols: set[str]) -> dict[str, Decimal]:
        """Return symbol -> fresh quote, USD."""
        return {symbol: quote.price for symbol, quote in quotes.latest(sorted(symbols), closing=True).items()}


def _read_builder(stanza: Mapping[str, Any] | None) -> Builder | None:
    if stanza is None:
        return None
    address, tenths = str(stanza.get("address", "")).lower(), stanza.get("tenths_of_bp")
    if (
        not accounts.is_address(address)
        or not isinstance(tenths, int)
        or not 0 < tenths <= MAX_BUILDER_TENTHS
    ):
        raise Misconfigured(
            "venue hyperliquid: builder is {address: 0x…, tenths_of_bp: 1 to "
            f"{MAX_BUILDER_TENTHS}}}, not {dict(stanza)!r}"
        )
    return Builder(address, tenths)
