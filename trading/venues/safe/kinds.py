"""What the owners of a Safe sign so that we may trade from it: spot trading, or perpetual futures.

Each kind is a module contract with a policy of its own. Planning, verification, the pages and the limits are the same
for both (`trading.venues.safe.plans`, `safes`, `snapshot`) and ask the kind for what differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from agents.models import Deployment
from trading.chain.chains import Contracts
from trading.chain.models import SafePlan
from trading.venues.safe.card import PermissionCard
from trading.venues.safe.limits import Choice, Unit


@dataclass(frozen=True, slots=True)
class Use:
    """A limit of a rolling window and what is left of it."""

    name: str
    """The contract's."""
    label: str
    limit: int
    left: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a Safe allows a module now."""

    enabled: bool
    policy: Any
    """The module's `Policy`; None where none was set, or it was revoked."""
    headroom: Any
    """The module's `Headroom`."""
    pending_at: int
    """When a policy that was set takes effect, a Unix time; 0: none is pending."""
    waits: bool
    """Whether that policy is the plan's."""
    differences: tuple[str, ...]
    """From the plan; empty without one."""


class SafeKind(Protocol):
    """What differs between spot trading and perpetual futures."""

    @property
    def name(self) -> str:
        """`spot` or `perps`."""

    @property
    def choice(self) -> Choice:
        """The limits that an owner may choose."""

    @property
    def policy_type(self) -> type[Any]:
        """The dataclass of the module's policy."""

    @property
    def headroom_type(self) -> type[Any]:
        """The dataclass of what a policy still allows."""

    @property
    def smallest_field(self) -> str:
        """The policy's field with the smallest order, or the smallest collateral of a trade, in base units of USDC."""

    @property
    def largest_field(self) -> str:
        """The same of the largest; also the name of the limit that an owner chooses."""

    @property
    def size_words(self) -> str:
        """What these two limit, after an amount."""

    # -- planning

    def terms(self) -> Any:
        """Return the loosest limits that the platform plans."""

    def scaled(self, capital: Decimal | None, preset: str) -> Any:
        """Return the limits that a plan proposes for a capital in USDC; None: the loosest."""

    def consent(self, deployment: int, safe: str, chain_id: int) -> str:
        """Return the text with whose signature an owner lets a deployment plan for a Safe."""

    def require_free(self, at: Any, deployment: Deployment, safe: str) -> None:
        """Raise Rejected where the deployment may not trade from the Safe beside what trades or is held there."""

    def rules(self, at: Any, deployment: Deployment, wanted: Any) -> list[Any]:
        """Return rules for what is traded, measured on the chain. Raises Rejected where nothing can be traded."""

    def rules_for_card(self, at: Any, deployment: Deployment) -> list[Any]:
        """Return the same without a look at the chain, for the card."""

    def set_policy(self, policy: Any, rules: Sequence[Any]) -> bytes:
        """Return the calldata with which a Safe sets its policy."""

    def card(self, places: Contracts | None, policy: Any, rules: Sequence[Any]) -> PermissionCard:
        """Return the permission card. `places` are the chain's contracts; None where it is not configured."""

    # -- plans and the chain

    def policy_of(self, plan: SafePlan) -> Any:
        """Return a plan's policy."""

    def rules_of(self, plan: SafePlan) -> list[Any]:
        """Return a plan's rules."""

    def symbols_of(self, places: Contracts | None, plan: SafePlan) -> dict[str, str]:
        """Return the address of each token or market of a plan -> its symbol, or the address where it is not listed."""

    def reads(self, safe: str, module: str, plan: SafePlan | None) -> list[tuple[str, bytes]]:
        """Return the calls whose answers `allowed` takes, for one Multicall3."""

    def allowed(self, plan: SafePlan | None, answers: Sequence[bytes]) -> Allowed:
        """Return what a Safe allows by the answers of `reads`."""

    def compare(self, at: Any, plan: SafePlan, proposed: SafePlan | None = None) -> tuple[bool, list[str]]:
        """Return whether the module is enabled, and how the chain differs from the plan.

        Args:
            proposed: the plan after it. While the chain shows it as pending, the stricter of both is expected.

        Raises Fault where the address is not a Safe, Retryable.
        """

    def shallow(self, at: Any, plan: SafePlan, measured: dict[Any, Any]) -> dict[str, int | None]:
        """Return the plan's tokens with too shallow a market -> price impact in basis points, None without a quote.

        `measured` is kept between the Safes of one pass.
        """

    def begin(self, at: Any, safe: str) -> None:
        """Begin to read what the books of the Safe need, unless that has begun."""

    # -- for people

    def uses(self, policy: Any, headroom: Any) -> list[Use]:
        """Return the limits of rolling windows with what is left of them."""

    def largest(self, policy: Any) -> str:
        """Return the largest trade that a policy allows, in words."""
