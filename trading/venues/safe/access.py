"""Access to the Safes on one chain: configuration, addresses, the RPC client, balances at final blocks.

The venue trades through it; onboarding and reconciliation read through it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.money import USDC
from maxxit.evm.codec import encode_call
from maxxit.evm.rpc import Chain
from trading.chain import chains, outbox
from trading.chain.models import ChainAttempt
from trading.chain.signer import executor_addresses, has_keystore
from trading.venues.safe.units import USDC_DECIMALS, whole

if TYPE_CHECKING:
    from trading.venues.safe.kinds import SafeKind


class SafeAccess:
    """The Safes on one chain of config/chains.yaml. Connections are opened when first used."""

    def __init__(self, chain: str) -> None:
        self.stanza = chains.stanza(chain)
        self.sending = outbox.rules_of(self.stanza)

    @cached_property
    def places(self) -> chains.Contracts:
        """The contract addresses."""
        return chains.contracts(self.stanza)

    @property
    def kind(self) -> "SafeKind":
        """What the owners of its Safes sign."""
        raise NotImplementedError

    @property
    def module(self) -> str:
        """The address of the module that its Safes enable."""
        raise NotImplementedError

    @property
    def configured(self) -> bool:
        """Return whether endpoints and contracts are configured; nothing is asked."""
        try:
            return bool(self.stanza.urls and self.places and self.module)
        except Misconfigured:
            return False

    @cached_property
    def chain(self) -> Chain:
        """The RPC client of the chain."""
        return chains.connect(self.stanza)

    @property
    def executors(self) -> tuple[str, ...]:
        """Our executor's address, which new plans name, then the previous one during a rotation; decrypts nothing."""
        if has_keystore():
            return executor_addresses()
        previous = self.places.previous_executor
        return (self.places.executor, *((previous,) if previous else ()))

    @property
    def booked_tokens(self) -> Mapping[str, tuple[str, int]]:
        """The tokens of a Safe that its deployments' books contain: address -> asset and decimals."""
        tokens = {one.address: (symbol, one.decimals) for symbol, one in self.places.tokens.items()}
        return {self.places.usdc: (USDC, USDC_DECIMALS)} | tokens

    def account_of(self, safe: str) -> str:
        """Return the account of the deployments that trade from a Safe."""
        return safe

    def read_block(self, safe: str) -> int:
        """Return the newest final block up to which everything that happened with a Safe is read.

        Raises Retryable where the chain cannot be read.
        """
        return self.final_block()

    def has_moved(self, safe: str, block: int) -> bool:
        """Return whether more than our transactions after `block` may be in the ledger already."""
        return False

    def unbooked(self, safe: str, after: int) -> Iterator[str]:
        """Yield what happened with a Safe since block `after` that is not in the ledger yet."""
        raise NotImplementedError

    def own_transactions(self, hashes: Collection[str]) -> set[str]:
        """Return those of these transactions that are ours: their transfers are not the owners'."""
        attempts = ChainAttempt.objects.filter(hash__in=hashes)
        return set(attempts.values_list("hash", flat=True))

    def entry_cost(self) -> int:
        """Return the wei that an executor must hold to send one entry at the present fees."""
        price, _ = outbox.first_fees(self.chain.head(), self.sending)
        return self.sending.gas_limit * price

    def final_block(self) -> int:
        """Return the newest block that counts as final."""
        return max(self.chain.head().number - self.sending.finality_depth + 1, 0)

    def silence(self) -> str:
        """Ask the chain for its newest block; return why it does not answer, empty where it does."""
        try:
            self.final_block()
        except MaxxitError as error:
            return str(error)
        return ""

    def balances_at(self, safe: str, block: int) -> dict[str, Decimal]:
        """Return USDC and every listed token in the Safe at the end of `block`, in whole units."""
        return self.balances_of_safes([safe], block)[safe]

    def balances_of_safes(self, safes: Sequence[str], block: int) -> dict[str, dict[str, Decimal]]:
        """Return Safe -> asset -> whole units held at the end of `block`, read through Multicall3."""
        assets = [(USDC, self.places.usdc, USDC_DECIMALS)] + [
            (symbol, token.address, token.decimals) for symbol, token in self.places.tokens.items()
        ]
        calls = [
            (address, encode_call("balanceOf(address)", safe)) for safe in safes for _, address, _ in assets
        ]
        answers = iter(self.chain.many(calls, block=hex(block), agreed=True))
        return {
            safe: {
                symbol: whole(int.from_bytes(next(answers), "big"), digits) for symbol, _, digits in assets
            }
            for safe in safes
        }
