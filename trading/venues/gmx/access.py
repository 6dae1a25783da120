"""The Safes that trade perpetual futures on one chain: GMX's contracts, the module, our keys, the plans in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from eth_utils.address import is_checksum_address

from agents.models import PERPS_ACCOUNT
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.money import USDC
from maxxit.evm.codec import ZERO_ADDRESS
from trading.chain import chains, outbox
from trading.chain.models import SafePlan
from trading.chain.signer import Signer, SigningPolicy, open_signers
from trading.reasons import Reason
from trading.venues.base import Capabilities
from trading.venues.gmx import verify
from trading.venues.gmx.books import Account
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.units import execution_fee
from trading.venues.gmx.verify import Allowed
from trading.venues.safe.access import SafeAccess
from trading.venues.safe.units import USDC_DECIMALS
from trading.venues.safe.verify import plan_in_force

SELECTORS = frozenset(
    {
        p.open_data(ZERO_ADDRESS, p.Opening(bytes(32), ZERO_ADDRESS, True, 0, 0, 0, 0, 0, 0), 0)[:4],
        p.close_data(ZERO_ADDRESS, bytes(32), acceptable_price=0, execution_fee=0, deadline=0)[:4],
        p.cancel_data(ZERO_ADDRESS, bytes(32))[:4],
        p.claim_data(ZERO_ADDRESS, ZERO_ADDRESS, ZERO_ADDRESS)[:4],
    }
)
"""Functions of the module that an executor's key calls."""
ORDERS_OF_AN_ENTRY = 3
"""The entry, its stop and its target: the executor pays an execution fee for each."""
SWAPS = 1
"""That an order's execution fee pays for: a decrease whose profit is swapped to the collateral."""


@dataclass(frozen=True, slots=True)
class Pause:
    """For how long a Safe whose events could not be read is not read again by this process."""

    failures: int
    """In a row."""
    until: datetime
    why: str


class GmxAccess(SafeAccess):
    """GMX and the PerpModule on one chain."""

    name = "gmx"
    capabilities: Capabilities
    slippage_bps: int
    exit_slippage_bps: int
    fee_headroom_bps: int
    max_execution_fee: int
    """Wei, of one order."""
    maintenance: Decimal
    """Fraction of a position's size."""
    claim_from_usd: Decimal

    @cached_property
    def scan_pauses(self) -> dict[str, Pause]:
        """Safe -> its pause; see `trading.venues.gmx.scan`."""
        return {}

    @cached_property
    def gmx(self) -> chains.GmxContracts:
        """The contracts of GMX on the chain."""
        if self.places.gmx is None:
            raise Misconfigured(f"chain {chains.name_of(self.stanza)} has no `gmx` under its contracts")
        return self.places.gmx

    @cached_property
    def module(self) -> str:
        """The PerpModule's address."""
        if self.gmx.module is None:
            raise Misconfigured(
                f"chain {chains.name_of(self.stanza)} has no `module` under `gmx` of its contracts"
            )
        return self.gmx.module

    @cached_property
    def signers(self) -> Mapping[str, Signer]:
        """Address -> signer; decrypts the keys, so only the process that executes may use it."""
        policy = SigningPolicy(
            frozenset({self.module}), SELECTORS, ORDERS_OF_AN_ENTRY * self.max_execution_fee
        )
        return open_signers(self.stanza.chain_id, policy, self.stanza.signatures_per_minute)

    def signer_for(self, now: Allowed) -> Signer:
        """Return the key that the Safe's policy names. Raises Rejected where we do not have it."""
        try:
            return self.signers[now.policy.executor]
        except KeyError:
            raise Rejected(
                f"the policy's executor {now.policy.executor} is none of ours",
                code=Reason.EXECUTOR_NOT_ALLOWED,
            ) from None

    @property
    def booked_tokens(self) -> Mapping[str, tuple[str, int]]:
        """The tokens of a Safe that its deployment's books contain: USDC alone, its positions are not tokens."""
        return {self.places.usdc: (USDC, USDC_DECIMALS)}

    def account_of(self, safe: str) -> str:
        """Return the account of the deployments that trade perpetual futures from a Safe."""
        return f"{PERPS_ACCOUNT}{safe}"

    def safe_of(self, account: str) -> str:
        """Return the Safe of an account. Raises Rejected where the account names none."""
        safe = account.removeprefix(PERPS_ACCOUNT)
        if not account.startswith(PERPS_ACCOUNT) or not is_checksum_address(safe):
            raise Rejected(
                f"the account {account} names no Safe: gmx:0x… with its checksum", code=Reason.NOT_A_SAFE
            )
        return safe

    def symbol_of(self, market: str) -> str:
        """Return the symbol of a market; its address where it is not listed."""
        return next((symbol for symbol, one in self.gmx.markets.items() if one.market == market), market[:20])

    def money_of(self, safe: str) -> Account:
        """Return where a Safe's money can be."""
        return Account(safe, self.places.usdc, self.gmx.order_vault)

    def entry_cost(self) -> int:
        """Return the wei that an executor must hold to send an entry with stop and target at the present fees."""
        price, _ = outbox.first_fees(self.chain.head(), self.sending)
        fee = self.execution_fee(price, self.max_execution_fee)
        return self.sending.gas_limit * price + ORDERS_OF_AN_ENTRY * fee

    def execution_fee(self, gas_price: int, limit: int) -> int:
        """Return the execution fee of each order in wei, with headroom, at most `limit`. `gas_price`: wei per gas."""
        return min(execution_fee(gas_price, p.CALLBACK_GAS, SWAPS, self.fee_headroom_bps), limit)

    def least_execution_fee(self, gas_price: int) -> int:
        """Return the wei below which GMX refuses an order. `gas_price`: wei per gas."""
        return execution_fee(gas_price, p.CALLBACK_GAS, SWAPS)

    def allowed_now(self, safe: str) -> Allowed:
        """Read what a Safe allows now. Raises Fault where there is no Safe, Retryable."""
        return verify.allowed(self.chain, self.module, self.places.usdc, safe)

    def plan_of(self, safe: str) -> SafePlan | None:
        """Return the Safe's plan in force for this module; None where it has none."""
        plan = plan_in_force(self.stanza.chain_id, safe)
        return plan if plan is not None and plan.module == self.module else None
