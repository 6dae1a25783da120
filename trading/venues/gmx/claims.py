"""Claim the funding that Safes earned at GMX: GMX keeps it until it is claimed; the module pays it to the Safe only.

The scan books it when the claim is final: USDC as funding of the deployment, another token to the Safe's own account.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

import structlog
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from agents.models import PERPS_ACCOUNT, Deployment
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.core.money import USDC
from maxxit.core.terms import Purpose
from maxxit.evm.codec import encode_call
from maxxit.evm.rpc import Fault
from maxxit.market import quotes
from trading.chain import outbox
from trading.chain.models import ChainTransaction
from trading.chain.states import TxState
from trading.passes import TimeBudget
from trading.venues.base import Prepared
from trading.venues.gmx import sending
from trading.venues.gmx.access import GmxAccess
from trading.venues.gmx.contract import module as p
from trading.venues.safe.units import USDC_DECIMALS, whole

log = structlog.get_logger(__name__)

CLAIMABLE = keccak(encode(["string"], ["CLAIMABLE_FUNDING_AMOUNT"]))
"""GMX's key of the funding that an account may claim."""
CLAIM_SECONDS = 600
"""Until when a claim may be signed."""
CLAIMS_A_RUN = 50
"""At most, because orders wait for the same worker and the same key."""


class Sender(Protocol):
    """What is needed of the venue."""

    def send(self, prepared: Prepared) -> None:
        """Sign and broadcast an intent."""

    def may_send(self, tx: ChainTransaction) -> bool:
        """Return whether the gate allows a transaction now."""

    def advance(self, tx: ChainTransaction) -> bool:
        """Take an intent further on the chain."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Funding that one Safe earned in one market and one token."""

    safe: str
    market: str
    token: str
    symbol: str
    """Whose quote values the token; USDC for itself."""
    amount: Decimal
    """Whole units."""

    @property
    def key(self) -> str:
        """The beginning of the intents' names."""
        return f"claim/{self.safe[2:22]}/{self.market[2:18]}/{self.token[2:10]}"


def claim_earned(at: GmxAccess, sender: Sender, budget: TimeBudget) -> int:
    """Claim what is worth it for every Safe whose module is enabled; return how many claims were sent.

    The largest first, CLAIMS_A_RUN at most, while `budget` lasts; the next run claims the rest. One Safe that cannot
    claim stops no other. Raises Retryable where the chain cannot be read.
    """
    accounts = Deployment.objects.filter(
        agent__venue=at.name, chain_id=at.stanza.chain_id, account__startswith=PERPS_ACCOUNT, module_enabled=True
    )  # fmt: skip
    safes = sorted(
        {account.removeprefix(PERPS_ACCOUNT) for account in accounts.values_list("account", flat=True)}
    )
    sending.follow_sent(at, sender.advance, "claims", safes)
    sent = 0
    for one in claimable(at, safes):
        if sent >= CLAIMS_A_RUN or not budget.left():
            log.info("claims_left_over", venue=at.name, sent=sent)
            break
        try:
            sent += _claim(at, sender, one)
        except MaxxitError as error:  # the next run tries again
            log.warning("funding_not_claimed", safe=one.safe, market=one.market, error=str(error))
    return sent


def claimable(at: GmxAccess, safes: Sequence[str]) -> list[Claim]:
    """Return what these Safes may claim in listed markets and is worth `claim_from_usd` or more, the largest first."""
    asked = list(_asked(at, safes))
    calls = [(at.gmx.data_store, encode_call("getUint(bytes32)", _key_of(one))) for one, _ in asked]
    if not calls:
        return []
    answers = at.chain.many(calls, block=hex(at.final_block()), agreed=True)
    found = []
    for (one, decimals), answer in zip(asked, answers, strict=True):
        amount = whole(int.from_bytes(answer, "big"), decimals)
        if amount and (worth := _worth(one.symbol, amount)) >= at.claim_from_usd:
            found.append((worth, replace(one, amount=amount)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _asked(at: GmxAccess, safes: Sequence[str]) -> Iterator[tuple[Claim, int]]:
    """Yield each Safe, market and token of the market, with the token's decimals."""
    for safe in safes:
        for symbol, market in at.gmx.markets.items():
            yield Claim(safe, market.market, at.places.usdc, USDC, Decimal(0)), USDC_DECIMALS
            if (token := at.places.tokens.get(symbol)) is not None:
                yield Claim(safe, market.market, token.address, symbol, Decimal(0)), token.decimals


def _key_of(one: Claim) -> bytes:
    words = ["bytes32", "address", "address", "address"]
    return keccak(encode(words, [CLAIMABLE, one.market, one.token, one.safe]))


def _worth(symbol: str, amount: Decimal) -> Decimal:
    """Return USD of an amount; zero without a quote."""
    if symbol == USDC:
        return amount
    quote = quotes.latest([symbol]).get(symbol)
    return amount * quote.price if quote is not None else Decimal(0)


def _claim(at: GmxAccess, sender: Sender, one: Claim) -> int:
    """Send a claim, or the one that is under way; return 0 where the gate or the module would refuse it now."""
    made = ChainTransaction.objects.filter(
        chain_id=at.stanza.chain_id, terms__safe=one.safe, terms__claims=one.market, terms__token=one.token
    )
    latest = made.order_by("-pk").first()
    if latest is None or latest.state not in (*outbox.FOLLOWED, TxState.PLANNED):
        terms = {
            "venue": at.name, "account": at.account_of(one.safe), "safe": one.safe, "purpose": Purpose.CLOSE,
            "claims": one.market, "token": one.token,
        }  # fmt: skip
        if not sender.may_send(ChainTransaction(chain_id=at.stanza.chain_id, terms=terms)):
            return 0
        signer = at.signer_for(at.allowed_now(one.safe))
        data = p.claim_data(one.safe, one.market, one.token)
        try:
            at.chain.call(at.module, data, sender=signer.address, block="pending")
        except Fault as fault:  # the Safe has never traded there, or the module was disabled
            log.info("claim_refused", safe=one.safe, market=one.market, error=str(fault))
            return 0
        deadline = clock.now() + timedelta(seconds=CLAIM_SECONDS)
        latest = outbox.plan(f"{one.key}/{made.count()}", at.stanza.chain_id, terms, deadline)
    sender.send(Prepared(latest.idempotency_key, {}))
    return 1
