"""The venue GMX v2: leveraged positions of users' own Safes through our PerpModule, with collateral in USDC.

An order has two phases. Our transaction creates it with its stop and target; a keeper of GMX executes, cancels or
freezes it later. It is accepted while GMX stores it, and ends by GMX's events at final blocks. What a keeper has not
executed after 300 s no keeper executes any more: then we cancel it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

import structlog

from agents.models import Deployment
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected
from maxxit.core.money import ZERO
from maxxit.core.terms import OrderSide, Purpose
from maxxit.evm.rpc import Fault
from maxxit.market import quotes
from trading.chain import outbox
from trading.chain.models import ChainTransaction
from trading.chain.outbox import Call
from trading.chain.signer import Signer
from trading.chain.states import TxState
from trading.models import Order
from trading.passes import TimeBudget
from trading.perps import liquidations
from trading.perps.liquidations import Liquidation
from trading.reasons import Reason
from trading.states import IN_FLIGHT
from trading.venues.base import Capabilities, Leg, Prepared, Question, Report, Request, Venue, VenueAnswer
from trading.venues.gmx import accounts, cancellations, claims, endings, orders, scan, sending, verify
from trading.venues.gmx.access import GmxAccess
from trading.venues.gmx.endings import FORCED
from trading.venues.gmx.models import GmxTransaction
from trading.venues.gmx.orders import LEG_KEYS, PerpTrade, hex_key
from trading.venues.gmx.policies import PERPS
from trading.venues.parallel import result_of, with_helpers
from trading.venues.safe import entry_stops
from trading.venues.safe import venue as safe_venue
from trading.venues.safe.access import SafeAccess
from trading.venues.safe.kinds import SafeKind
from trading.venues.safe.reconcile import reconcile
from trading.venues.safe.units import USDC_DECIMALS, whole
from trading.venues.safe.venue import SafeVenue, report_of

log = structlog.get_logger(__name__)

AT_ONCE = 20


class GmxVenue(GmxAccess, SafeVenue):
    """Positions at GMX v2 of the Safes on one chain.

    Args:
        slippage_bps, exit_slippage_bps: how far from the feed's price an entry, an exit may be executed; the signed
            policy's limit applies too.
        gas_limit: of our transactions; an entry creates up to three orders.
        fee_headroom_bps: of execution fees, for gas prices that rise before a keeper executes.
        max_execution_fee_wei: the most that the signer pays for one order.
        maintenance_bps: of a position's size; GMX liquidates when less of its collateral is left. For the display.
        claim_from_usd: funding that a Safe earned is claimed from this value on.
    """

    def __init__(  # noqa: PLR0913 (the options of the stanza)
        self,
        *,
        chain: str,
        slippage_bps: int,
        exit_slippage_bps: int = 100,
        gas_limit: int = 6_000_000,
        fee_headroom_bps: int = 20_000,
        max_execution_fee_wei: int = 20 * 10**15,
        maintenance_bps: int = 100,
        claim_from_usd: int = 5,
        shorts: bool = True,
        max_leverage: Decimal = Decimal(1),
    ) -> None:
        if not 0 < slippage_bps <= 500 or not 0 < exit_slippage_bps <= 500:
            raise Misconfigured("venue gmx: slippage_bps and exit_slippage_bps are 1 to 500")
        if fee_headroom_bps < 10_000:
            raise Misconfigured("venue gmx: fee_headroom_bps is at least 10000")
        SafeAccess.__init__(self, chain)
        self.sending = replace(self.sending, gas_limit=gas_limit)
        self.slippage_bps, self.exit_slippage_bps = slippage_bps, exit_slippage_bps
        self.fee_headroom_bps, self.max_execution_fee = fee_headroom_bps, max_execution_fee_wei
        self.maintenance = Decimal(maintenance_bps) / 10_000
        self.claim_from_usd = Decimal(claim_from_usd)
        self.capabilities = Capabilities(
            dedup=True,
            shorts=shorts,
            max_leverage=max_leverage,
            collects_fees=True,
            find_lag=timedelta(0),
            batch=AT_ONCE,
            liquidates=True,
            resting_exits=True,
        )

    @property
    def kind(self) -> SafeKind:
        """Perpetual futures."""
        return PERPS

    def read_block(self, safe: str) -> int:
        """Return the block up to which GMX's events of the Safe are read and booked: what is compared must be of it."""
        self._read_one(safe)
        sending.follow_sent(self, self.advance, "claims", [safe])
        scanned = scan.scanned_to(self.stanza.chain_id, safe)
        return self.final_block() if scanned is None else scanned

    def has_moved(self, safe: str, block: int) -> bool:
        """Return whether events of GMX after `block` are booked already.

        Until the caller's database transaction ends no other worker books more of the Safe.
        """
        scanned = scan.scanned_to(self.stanza.chain_id, safe, lock=True)
        return scanned is not None and scanned > block

    # -- orders

    def prepare(self, request: Request) -> Prepared:
        """Store the intent. What makes it impossible is reported by `send`."""
        try:
            trade = PerpTrade.of(request, self.safe_of(request.account), self.gmx, self.name)
            terms = trade.as_terms()
        except Rejected as rejection:
            trade, terms = None, {"refused": rejection.code, "purpose": request.purpose}
        outbox.plan(request.client_order_id, self.stanza.chain_id, terms, request.deadline)
        rests = (
            trade is not None
            and trade.purpose == Purpose.OPEN
            and bool(trade.stop_price or trade.target_price)
        )
        return Prepared(request.client_order_id, {"transaction": request.client_order_id}, rests_exits=rests)

    def find(self, ref: str) -> Report | None:
        """Advance the order and return its status; None while it is stored and unsigned."""
        found = self.find_many([ref])[ref]
        if isinstance(found, Exception):
            raise found
        return found

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        """Advance many orders side by side, read what GMX did with their Safes, and return ref -> report or error."""
        intents = {
            ref: outbox.find_intent(ref.partition("/")[0]) for ref in refs if not ref.startswith(FORCED)
        }
        known = {ref: tx for ref, tx in intents.items() if tx is not None}
        advanced = with_helpers(
            {ref: partial(self.advance, tx) for ref, tx in known.items()}, safe_venue.HELPERS
        )
        keys = [ref.removeprefix(FORCED) for ref in refs if ref.startswith(FORCED)]
        safes = {tx.terms["safe"] for tx in known.values() if tx.state == TxState.FINAL}
        problems = self._read_new(safes)
        found: dict[str, Report | Exception | None] = {key: None for key in refs}
        for ref, tx in known.items():
            outcome = advanced[ref]
            if isinstance(outcome, Exception):
                found[ref] = outcome
            elif outcome:
                found[ref] = result_of(partial(self._status, ref, tx, problems.get(tx.terms["safe"])))
        forced = {FORCED + key: result_of(partial(endings.forced_report, self, key)) for key in keys}
        return found | forced

    def _read_new(self, safes: Collection[str]) -> dict[str, Exception]:
        """Read what GMX did with the Safes, then follow our cancellations; return Safe -> why it was not read."""
        if not safes:
            return {}
        problems = scan.read_new(self, safes)
        for safe, problem in problems.items():
            log.warning("venue_not_read", venue=self.name, safe=safe, error=str(problem))
        sending.follow_sent(self, self.advance, "cancels", safes)
        return problems

    def _read_one(self, safe: str) -> None:
        """Read what GMX did with one Safe. Raises where it cannot be read."""
        if problem := self._read_new({safe}).get(safe):
            raise problem

    def _status(self, ref: str, tx: ChainTransaction, problem: Exception | None) -> Report | Exception | None:
        """Return the report of an order whose transaction was signed, or of an exit that it created.

        Args:
            problem: why its Safe was not read. Then the end of an order that was read before counts, but a cancelled
                entry is not reported: whether it left exits at GMX is not known.
        """
        leg = ref.partition("/")[2]
        if tx.state != TxState.FINAL:
            return None if leg else report_of(tx)
        args = orders.requested(tx)
        key = hex_key(args.get(LEG_KEYS[leg] if leg else "order_key", b"")) if args else ""
        if not key:
            return None if leg else Report("rejected", reason=Reason.NO_FILL_IN_RECEIPT)
        fee = ZERO if leg or "fee" not in args else whole(args["fee"], USDC_DECIMALS)
        ended = endings.ending_of(self, tx, key, fee)
        if problem is not None and (ended is None or (ended.reason and not leg)):
            return problem
        if not leg:
            cancellations.tidy(self, self.send, tx, args, ended, fee)
            if ended is not None and ended.reason and cancellations.leaves_exits(self, tx, args, ended):
                return Report("accepted")
        return orders.report_of(ended)

    def cancel(self, ref: str) -> None:
        """Give up an unsigned intent, or cancel an order that GMX stores; a market order only after 300 s."""
        super().cancel(ref)
        tx = outbox.find_intent(ref)
        if tx is None or tx.state != TxState.FINAL or not (key := orders.key_of(tx)):
            return
        try:
            cancellations.cancel(self, self.send, tx, key)
        except MaxxitError as error:
            log.warning("order_not_cancelled", transaction=tx.pk, error=str(error))

    def _call_of(self, tx: ChainTransaction) -> tuple[Call, Signer]:
        """Return the call that an intent stands for, after a trial, and the key that signs it. Raises Rejected."""
        return sending.call_of(self, tx)

    # -- exits that GMX keeps

    def exits(self, refs: Sequence[str]) -> dict[str, tuple[Leg, ...] | Exception]:
        """Return ref of an entry -> its stop and target at GMX, or why they are not known."""
        entries = {ref: outbox.find_intent(ref) for ref in refs}
        problems = self._read_new(
            {tx.terms["safe"] for tx in entries.values() if tx is not None and tx.state == TxState.FINAL}
        )
        unread = {
            ref: problem
            for ref, tx in entries.items()
            if tx is not None and (problem := problems.get(tx.terms["safe"]))
        }
        return unread | {
            ref: result_of(partial(endings.legs_of, self, ref, tx))
            for ref, tx in entries.items()
            if ref not in unread
        }

    def release(self, refs: Sequence[str]) -> None:
        """Cancel the exits of entries, and entries that no keeper executes any more. Raises Retryable or Unknown."""
        problems: list[Exception] = []
        for tx in [outbox.find_intent(ref) for ref in refs]:
            if tx is not None and tx.state == TxState.FINAL:
                found = result_of(partial(cancellations.release, self, self.send, tx))
                problems += [found] if isinstance(found, Exception) else found
        for problem in problems:
            raise problem

    # -- accounts

    def liquidations(self, account: str) -> Sequence[Liquidation]:
        """Return the liquidations and deleveragings of the account's positions, oldest first."""
        safe = self.safe_of(account)
        self._read_one(safe)
        return endings.liquidations_of(self, safe)

    def claim_earned(self, budget: TimeBudget) -> int:
        """Claim the funding that Safes earned, to the Safes; return how many claims were sent."""
        return claims.claim_earned(self, self, budget)

    def balances(self, account: str) -> dict[str, Decimal]:
        """Return cash (ADR 30) and positions in tokens, a short negative, at the newest final block."""
        return self.balances_of([account])[account]

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the same of many accounts, all at one block, read through Multicall3."""
        safes = {}
        for account in accounts:
            try:
                safes[account] = self.safe_of(account)
            except Rejected as error:
                log.warning("account_not_read", account=account, error=str(error))
        self._read_new(safes.values())  # also where no order asks any more, so that refunds are booked
        held = self.balances_of_safes(list(safes.values()), self.final_block()) if safes else {}
        return {account: held[safe] for account, safe in safes.items()}

    def balances_of_safes(self, safes: Sequence[str], block: int) -> dict[str, dict[str, Decimal]]:
        """Return Safe -> USDC (cash) and listed markets' symbols -> whole units at the end of `block`."""
        return accounts.balances_of(self, safes, block)

    def unbooked(self, safe: str, after: int) -> Iterator[str]:
        """Yield intents and orders of GMX that have not ended, or whose fills are not in the ledger yet."""
        for order in Order.objects.filter(account=self.account_of(safe), state__in=IN_FLIGHT).only(
            "client_order_id"
        ):
            yield order.client_order_id or str(order.pk)
        yield from endings.unbooked_fills(self, safe, after)

    def own_transactions(self, hashes: Collection[str]) -> set[str]:
        """Return those of these transactions that are ours or GMX's: their transfers are not the owners'."""
        of_gmx = GmxTransaction.objects.filter(chain_id=self.stanza.chain_id, hash__in=hashes)
        return super().own_transactions(hashes) | set(of_gmx.values_list("hash", flat=True))

    def unexplained(self, account: str, differences: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Book the owners' transfers of USDC and return the differences that remain.

        Empty while an order has not ended, and until a liquidation is adopted or told as not adoptable.
        """
        safe = self.safe_of(account)
        result = reconcile(self, safe)  # it reads what GMX did first
        if result.in_flight:
            return {}
        if result.unbooked:
            awaited = [one for one in endings.liquidations_of(self, safe)
                       if liquidations.awaits_adoption(self.name, account, one.ref)]  # fmt: skip
            return {} if awaited else dict(differences)
        return result.unexplained

    # -- what it would take

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return the quote, which GMX's own oracle follows; price impact is not in it."""
        if side == OrderSide.SELL and not self.capabilities.shorts:
            raise Rejected(f"short sales of {symbol} are switched off", code=Reason.SHORTS_NOT_SUPPORTED)
        if symbol not in self.gmx.markets:
            raise Rejected(f"{symbol} is not traded on this chain", code=Reason.TOKEN_NOT_LISTED)
        quote = quotes.latest([symbol]).get(symbol)
        return None if quote is None else quote.price

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return whether each Safe would take its order."""
        return Venue.answers(self, questions)

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return why the Safe would refuse the order. What depends on the amount is checked by `send`."""
        market = self.gmx.markets.get(symbol)
        if market is None:
            return Reason.TOKEN_NOT_LISTED
        safe = self.safe_of(account)
        if purpose == Purpose.OPEN and (
            code := self._entry_problem_of(deployment, account, safe, market.market)
        ):
            return code
        try:
            now = self.allowed_now(safe)
        except Fault:
            return Reason.NOT_A_SAFE
        return verify.closing_problem(now, self.executors)

    def _entry_problem_of(self, deployment: int, account: str, safe: str, market: str) -> str:
        verified = Deployment.objects.filter(
            pk=deployment, account=account, chain_id=self.stanza.chain_id, verified_at__isnull=False
        )
        if not verified.exists():
            return Reason.SAFE_NOT_VERIFIED
        plan = self.plan_of(safe)
        return entry_stops.reason(plan, market) if plan else Reason.SAFE_NOT_PLANNED
