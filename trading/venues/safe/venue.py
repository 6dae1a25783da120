"""The venue for users' own Safes: spot trades on Uniswap V3 through our module, within the policy the owners signed.

`prepare` stores the intent in the reserving database transaction, without network. `send` checks the Safe against its
plan and asks for a quote; then the outbox assigns a nonce, signs once, and broadcasts the stored bytes. An order counts
as filled when its block is final, so that a reorg cannot undo a booked fill.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import cache, cached_property, partial
from typing import Any

import structlog
from django import db
from eth_utils.address import is_checksum_address

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable, StaleState
from maxxit.core.terms import OrderSide, Purpose
from maxxit.evm.rpc import Fault
from maxxit.postgres import threads
from trading import gate
from trading.chain import chains, outbox
from trading.chain.models import ChainTransaction, SafePlan
from trading.chain.signer import Signer, SigningPolicy, has_keystore, open_signers
from trading.chain.states import TxState
from trading.reasons import Reason
from trading.risk.checks import gate_verdict
from trading.venues.base import Capabilities, Prepared, Question, Report, Request, Venue, VenueAnswer
from trading.venues.parallel import with_helpers
from trading.venues.safe import entry_stops, trades, verify
from trading.venues.safe.access import SafeAccess
from trading.venues.safe.kinds import SafeKind
from trading.venues.safe.reconcile import reconcile
from trading.venues.safe.spot import SPOT
from trading.venues.safe.trades import Trade, call_of, expected, fills_of
from trading.venues.safe.units import USDC_DECIMALS, base, whole

log = structlog.get_logger(__name__)

AT_ONCE = 20
"""Safes whose orders are placed together: read in one request, then signed and broadcast side by side."""
HELPERS = threads.Pool(8, "safe")
"""Threads of this process, each with a database connection, that help all that send orders or look for them."""
TEMPORARY_REFUSALS = frozenset({"cooldown"})
"""Refusals of the module that end by themselves: the intent is retried until its deadline."""


Readable = verify.Tradable | Fault | Retryable
"""What was read of a Safe and a token, or why it could not be."""


class SafeVenue(SafeAccess, Venue):
    """Safes on one chain.

    `slippage_bps`: how far below the quote a swap may end, in basis points; the policy's own price floor applies too.
    """

    name = "safe"

    def __init__(
        self, *, chain: str, slippage_bps: int, shorts: bool = False, max_leverage: Decimal = Decimal(1)
    ) -> None:
        if shorts or max_leverage != 1:
            raise Misconfigured(
                "venue safe: spot trading has neither shorts nor leverage: set shorts false, max_leverage 1"
            )
        if not 0 < slippage_bps <= 500:
            raise Misconfigured("venue safe: slippage_bps is 1 to 500")
        self.slippage_bps = slippage_bps
        super().__init__(chain)
        self.capabilities = Capabilities(
            dedup=True,
            shorts=False,
            max_leverage=Decimal(1),
            collects_fees=True,
            find_lag=timedelta(0),
            batch=AT_ONCE,
        )

    @cached_property
    def signers(self) -> Mapping[str, Signer]:
        """Address -> signer; decrypts the keys, so only the process that executes may use it."""
        return open_signers(
            self.stanza.chain_id,
            SigningPolicy(frozenset({self.places.module})),
            self.stanza.signatures_per_minute,
        )

    @property
    def kind(self) -> SafeKind:
        """Spot trading."""
        return SPOT

    @property
    def module(self) -> str:
        """The address of the trading module."""
        return self.places.module

    # -- the Venue protocol

    def safe_access(self) -> SafeAccess | None:
        """Return itself: it trades from Safes."""
        return self

    def unbooked(self, safe: str, after: int) -> Iterator[str]:
        """Yield the final trades of a Safe since block `after` that the ledger does not have yet."""
        return trades.unbooked(self.stanza.chain_id, safe, after)

    def prepare(self, request: Request) -> Prepared:
        """Store the intent. What makes it impossible is reported by `send`."""
        outbox.plan(
            request.client_order_id, self.stanza.chain_id, _terms(request, self.places), request.deadline
        )
        return Prepared(request.client_order_id, {"transaction": request.client_order_id})

    def send(self, prepared: Prepared) -> None:
        """Sign the intent if it is not signed, and broadcast it. Raises Rejected with a code, Retryable or Unknown."""
        tx = outbox.find_intent(prepared.ref)
        if tx is None:
            raise Rejected(f"there is no stored intent {prepared.ref}", code="no_intent")
        just_signed = False
        if tx.state == TxState.PLANNED:
            if not self.may_send(tx):
                raise Retryable(f"the gate of {self.name} is closed: {prepared.ref} is not signed")
            just_signed = self._sign(tx)
        if tx.state == TxState.DROPPED:
            raise Rejected(f"{prepared.ref} was given up: {tx.reason}", code=tx.reason or "dropped")
        self._follow(tx, just_signed=just_signed)

    def send_many(self, orders: Sequence[Prepared]) -> dict[str, Exception]:
        """Send orders of many Safes side by side; return ref -> error. `outbox.commit` assigns their nonces in turn."""
        jobs = {order.ref: partial(self.send, order) for order in orders}
        answers = with_helpers(jobs, HELPERS)
        return {ref: error for ref, error in answers.items() if isinstance(error, Exception)}

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        """Advance many intents side by side; return ref -> what `find` returns or raises."""
        return with_helpers({ref: partial(self.find, ref) for ref in refs}, HELPERS)

    def find(self, ref: str) -> Report | None:
        """Advance the intent on the chain and return its status; None while it is stored and unsigned."""
        tx = outbox.find_intent(ref)
        return None if tx is None or not self.advance(tx) else report_of(tx)

    def advance(self, tx: ChainTransaction) -> bool:
        """Take an intent further on the chain; return whether it was ever signed or given up."""
        if tx.state == TxState.PLANNED and clock.now() >= tx.deadline:
            try:
                outbox.drop(tx, Reason.NEVER_SENT)
            except StaleState:
                tx.refresh_from_db()
        if tx.state == TxState.PLANNED:
            return False
        self._follow(tx)
        tx.refresh_from_db()
        if tx.state == TxState.REVERTED:
            self._note_failure(tx)
        return True

    def cancel(self, ref: str) -> None:
        """Give up an unsigned intent. Signed bytes cannot be recalled; the module rejects them after the deadline."""
        tx = outbox.find_intent(ref)
        if tx is not None and tx.state == TxState.PLANNED:
            outbox.drop(tx, Reason.CANCELED)

    def balances(self, account: str) -> dict[str, Decimal]:
        """Return USDC and every listed token in the Safe at the newest final block, in whole units."""
        return self.balances_at(account, self.final_block())

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        """Return the same of many Safes, all at one block, read through Multicall3."""
        safes = [account for account in accounts if is_checksum_address(account)]
        return self.balances_of_safes(safes, self.final_block()) if safes else {}

    def unexplained(self, account: str, differences: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Book the owners' transfers found in the chain's logs and return the differences that remain.

        Empty while a transaction of ours is in flight.
        """
        result = reconcile(self, account)
        if result.in_flight:
            return {}
        return dict(differences) if result.unbooked else result.unexplained

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """Return QuoterV2's price in the pool that the Safe's policy names, USD per token, pool fee included."""
        if side != OrderSide.BUY:
            raise Rejected("a Safe cannot sell what it does not hold", code=Reason.SHORTS_NOT_SUPPORTED)
        token = self.places.tokens.get(symbol)
        if token is None:
            raise Rejected(f"{symbol} is not traded on this chain", code=Reason.TOKEN_NOT_LISTED)
        try:
            received = expected(self.chain, self.places, account, symbol, base(cash, USDC_DECIMALS))
        except Fault:
            return None
        return cash / whole(received, token.decimals)

    def answers(self, questions: Sequence[Question]) -> list[VenueAnswer]:
        """Return whether each Safe would take its order; all Safes are read in one request, each pool once."""
        tokens = self.places.tokens
        wanted = [(one.account, tokens[one.symbol].address) for one in questions if one.symbol in tokens]
        try:
            read = verify.tradable(self.chain, self.places.module, wanted)
        except Retryable as error:
            read = dict.fromkeys(wanted, error)

        @cache
        def bought(symbol: str, cash: Decimal, pool_fee: int) -> VenueAnswer:
            try:
                received = trades.bought(self.chain, self.places, symbol, base(cash, USDC_DECIMALS), pool_fee)
            except Rejected as rejection:
                return VenueAnswer(rejection.code)
            except Retryable as error:
                log.warning("venue_not_read", venue=self.name, error=str(error))
                return VenueAnswer()
            return VenueAnswer("", cash / whole(received, tokens[symbol].decimals))

        return [self._answered(one, read, bought) for one in questions]

    def _answered(
        self,
        question: Question,
        read: Mapping[tuple[str, str], Readable],
        bought: Callable[[str, Decimal, int], VenueAnswer],
    ) -> VenueAnswer:
        token = self.places.tokens.get(question.symbol)
        if token is None:
            return VenueAnswer(Reason.TOKEN_NOT_LISTED)
        now = read[question.account, token.address]
        problem = self._problem(question.deployment, question.account, question.symbol, question.purpose, now)
        if problem or isinstance(now, Exception) or question.purpose == Purpose.CLOSE:
            return VenueAnswer(problem)
        if question.side != OrderSide.BUY:
            return VenueAnswer(Reason.SHORTS_NOT_SUPPORTED)
        if not now.pool_fee:
            return VenueAnswer(Reason.TOKEN_NOT_LISTED)
        return bought(question.symbol, question.cash, now.pool_fee)

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """Return why the Safe would refuse the order: for an entry also whether this deployment is verified for it.

        What depends on the amount is checked by `send`.
        """
        token = self.places.tokens.get(symbol)
        if token is None:
            return Reason.TOKEN_NOT_LISTED
        [now] = verify.tradable(self.chain, self.places.module, [(account, token.address)]).values()
        problem = self._problem(deployment, account, symbol, purpose, now)
        if problem is None:
            why = now if isinstance(now, Exception) else "the executor's key could not be asked for"
            raise Retryable(f"the Safe {account} could not be read: {why}")
        return problem

    def _problem(self, deployment: int, account: str, symbol: str, purpose: str, now: Readable) -> str | None:
        """Return the reason code of the Safe's objection, empty for none; None where it could not be found out."""
        if purpose == Purpose.OPEN and (code := self._entry_problem(deployment, account, symbol)):
            return code
        if isinstance(now, Fault):
            return Reason.NOT_A_SAFE
        if isinstance(now, Retryable):
            log.warning("venue_not_read", venue=self.name, account=account, error=str(now))
            return None
        try:
            executors = self.executors
        except Retryable as error:  # a key service that does not answer
            log.warning("executor_not_read", venue=self.name, account=account, error=str(error))
            return None
        return verify.closing_problem(now.permission, executors)

    # -- helpers

    def may_send(self, tx: ChainTransaction) -> bool:
        """Return whether the gate allows the transaction now; False where the gate cannot be read."""
        try:
            facts = gate.read(
                tx.terms.get("venue", self.name), tx.terms.get("account", tx.terms.get("safe", ""))
            )
        except db.Error as error:
            log.error("gate_unreadable", transaction=tx.pk, error=str(error))
            facts = None
        verdict = gate_verdict(facts, reduces=tx.terms.get("purpose") == "close")
        if not verdict.allowed:
            log.warning("transaction_held_back", transaction=tx.pk, why=verdict.reason)
        return verdict.allowed

    def _follow(self, tx: ChainTransaction, *, just_signed: bool = False) -> None:
        """Take a signed intent further, unless another worker does at the same moment. Raises Retryable or Unknown."""
        signer = self._signer_of(tx)
        try:
            outbox.follow(tx, self.chain, signer, self.sending, self.may_send, just_signed=just_signed)
        except StaleState:
            log.info("already_followed", transaction=tx.pk)

    def _sign(self, tx: ChainTransaction) -> bool:
        """Check the Safe and sign the intent; return False where another worker signed it meanwhile.

        A refusal drops the intent. Raises Rejected, or Retryable for a refusal that ends by itself.
        """
        try:
            call, signer = self._call_of(tx)
            outbox.commit(tx, call, self.chain, signer, self.sending)
            return True
        except Rejected as rejection:
            tx.refresh_from_db()
            if tx.state != TxState.PLANNED:
                return False  # another worker signed it meanwhile
            if rejection.code in TEMPORARY_REFUSALS:
                raise Retryable(f"the module refuses it for now: {rejection.code}") from rejection
            outbox.drop(tx, rejection.code)
            if rejection.code == entry_stops.UNNAMED:
                self._note_failure(tx)
            raise
        except StaleState:
            tx.refresh_from_db()
            return False

    def _call_of(self, tx: ChainTransaction) -> tuple[outbox.Call, Signer]:
        """Return the call that an intent stands for, after a trial, and the key that signs it. Raises Rejected."""
        trade, signer = self._allowed(tx)
        call = call_of(
            self.chain, self.places, trade, executor=signer.address, slippage_bps=self.slippage_bps
        )
        return call, signer

    def _entry_problem(self, deployment: int, account: str, symbol: str) -> str:
        """Return why this deployment may not open positions: no verified plan for the Safe, or entries are stopped."""
        verified = Deployment.objects.filter(
            pk=deployment,
            account=account,
            safe_wallet=account,
            chain_id=self.stanza.chain_id,
            verified_at__isnull=False,
        )
        if not verified.exists():
            return Reason.SAFE_NOT_VERIFIED
        plan = verify.plan_in_force(self.stanza.chain_id, account)
        return (
            entry_stops.reason(plan, self.places.tokens[symbol].address) if plan else Reason.SAFE_NOT_PLANNED
        )

    def _permission(self, safe: str) -> verify.Permission:
        """Read what the Safe allows our executors now."""
        return verify.permission(self.chain, self.places.module, safe)

    def _allowed(self, tx: ChainTransaction) -> tuple[Trade, Signer]:
        """Return the trade and the key that the Safe's policy names.

        Raises Rejected for an entry unless the chain shows the plan in force, for an exit unless the module allows it.
        """
        if refused := tx.terms.get("refused"):
            raise Rejected(f"the venue cannot do this: {refused}", code=refused)
        trade = Trade.load(tx.terms)
        if trade.purpose == Purpose.CLOSE:
            allowed = self._permission(trade.safe)
            code = verify.closing_problem(allowed, self.signers)
            details = ""
        else:
            plan = self._plan(trade.safe)
            proposed = verify.proposal(self.stanza.chain_id, trade.safe)
            allowed = now = verify.standing(self.chain, self.places, plan, proposed)
            code = entry_stops.reason(plan, trade.token) or verify.opening_problem(
                now, self.signers, trade.token, trade.amount
            )
            details = "; ".join(now.differences)
        if code:
            raise Rejected(f"the Safe {trade.safe} does not allow it: {code}. {details}".rstrip(), code=code)
        return trade, self.signers[allowed.policy.executor]

    def _plan(self, safe: str) -> SafePlan:
        """Return the Safe's plan in force. Raises Rejected where it has none."""
        plan = verify.plan_in_force(self.stanza.chain_id, safe)
        if plan is None:
            raise Rejected(
                f"the Safe {safe} has no verified plan: run `manage.py safe plan`, then `safe verify`",
                code=Reason.SAFE_NOT_PLANNED,
            )
        return plan

    def _note_failure(self, tx: ChainTransaction) -> None:
        """Count a failed transaction against its Safe."""
        entry_stops.note_failure(self.stanza.chain_id, tx.terms["safe"], self.stanza.reverts_before_stop)

    def _signer_of(self, tx: ChainTransaction) -> Signer | None:
        """Return the key that signed it, for fee bumps; None where this process does not have it or cannot open it.

        What is signed already is followed without its key.
        """
        if tx.signer is None or not has_keystore():
            return None
        try:
            return self.signers.get(tx.signer.address)
        except (Retryable, Misconfigured) as error:
            log.error("executor_not_opened", venue=self.name, transaction=tx.pk, error=str(error))
            return None


def _terms(request: Request, places: chains.Contracts) -> dict[str, Any]:
    """Return the terms of the trade to store; or the reason code why it is impossible, which `send` raises."""
    if request.purpose == Purpose.OPEN and request.side == OrderSide.SELL:
        return {"refused": "shorts_not_supported"}  # a Safe cannot sell what it does not hold
    try:
        return Trade.of(request, places).as_terms()
    except Rejected as rejection:
        return {"refused": rejection.code}


ENDED_STATES = {
    TxState.REVERTED: "rejected",
    TxState.REPLACED: "replaced",
    TxState.DROPPED: "rejected",
    TxState.EXPIRED: "expired",
    TxState.CANCELED: "canceled",
}
DROP_REASONS: dict[str, str] = {Reason.NEVER_SENT: "expired", Reason.CANCELED: "canceled"}


def report_of(tx: ChainTransaction) -> Report:
    """Return the status of an order whose intent was signed or given up."""
    state = TxState(tx.state)
    if state == TxState.FINAL:
        fills = fills_of(tx)
        return Report("filled", fills) if fills else Report("rejected", reason=Reason.NO_FILL_IN_RECEIPT)
    if state in ENDED_STATES:
        return Report(DROP_REASONS.get(tx.reason, ENDED_STATES[state]), reason=tx.reason)
    return Report("accepted")
