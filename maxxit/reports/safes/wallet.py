"""The Safes of a customer: balances, limits used and left, fees paid, module, stops and pending signatures.

The page Wallet, `GET /api/safes` and `manage.py safe show` show these rows. A constant number of statements, and one
bounded read of each chain (`trading.venues.safe.snapshot`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, Sum

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.clock import iso_utc
from maxxit.core.errors import MaxxitError
from maxxit.core.money import USDC, ZERO, plain, usdc
from maxxit.market import quotes
from maxxit.reports.trades.reasons import explain
from positions.models import Position
from positions.performance.identity import read_each
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.perps.models import MarginPosition
from trading.venues import safe_kinds
from trading.venues.safe import snapshot
from trading.venues.safe.contract import module as m
from trading.venues.safe.entry_stops import EVERYTHING
from trading.venues.safe.kinds import SafeKind
from trading.venues.safe.limits import SCALES
from trading.venues.safe.safes import safe_access
from trading.venues.safe.units import USDC_DECIMALS, whole

MOST = 50
"""Safes on the page at most."""
NEARLY_USED = Decimal("0.8")
STOPS = {
    m.NO_ENTRIES: "stopped: no position is opened; open ones are closed as usual",
    m.HALTED: "halted: Maxxit can do nothing in this Safe until its owners resume it",
}
"""Stop level of the module, set by the guardian or the owners -> meaning."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A limit that the owners signed, and what is used of it."""

    name: str
    label: str
    used: Decimal
    limit: Decimal
    unit: str
    """USDC, or empty for a count."""

    @property
    def left(self) -> Decimal:
        return self.limit - self.used

    @property
    def percent(self) -> int:
        """Return the used part in whole percent."""
        return int(100 * self.used / self.limit) if self.limit else 100

    @property
    def high(self) -> Decimal:
        """Return from where on the limit is nearly used up."""
        return self.limit * NEARLY_USED

    def as_json(self) -> dict[str, str]:
        return {
            "name": self.name,
            "used": plain(self.used),
            "left": plain(self.left),
            "limit": plain(self.limit),
            "unit": self.unit,
        }


@dataclass(frozen=True, slots=True)
class Wallet:
    """One deployment's Safe."""

    deployment: Deployment
    chain: str
    """Name of the chain, for people."""
    explorer: str
    coin: str
    """Symbol of the coin that gas is paid in."""
    usdc_contract: str
    seen: snapshot.Seen
    in_force: SafePlan | None
    proposal: SafePlan | None
    """A plan that its owners were asked to sign and that the chain has not confirmed."""
    fees: Decimal
    """Platform fees paid, USDC."""
    profit_share: Decimal
    """Profit share paid, USDC."""
    open_positions: int
    shared_with: list[str] = field(default_factory=list)
    """Names of the owner's other agents that trade from the same Safe."""
    collateral: Decimal = ZERO
    """USDC of collateral in positions at GMX, as the venue was read last."""
    token_values: dict[str, Decimal | None] = field(default_factory=dict)
    """Symbol -> USD at the newest quote, None without one, of each token that the Safe holds."""

    @property
    def state(self) -> snapshot.SafeState | None:
        return self.seen.state

    @property
    def usdc(self) -> Decimal | None:
        """Return the USDC in the Safe; None where it was never read."""
        return self.state.balances.get(USDC, ZERO) if self.state and self.state.balances else None

    @property
    def tokens(self) -> dict[str, Decimal]:
        """Return symbol -> quantity of the tokens that the Safe holds."""
        balances = self.state.balances if self.state and self.state.balances else {}
        return {symbol: amount for symbol, amount in balances.items() if symbol != USDC and amount}

    @property
    def tokens_usd(self) -> Decimal | None:
        """Return the worth of the tokens in USD; None where one has no quote."""
        values = list(self.token_values.values())
        return None if None in values else sum((value for value in values if value), ZERO)

    @property
    def missing_usdc(self) -> Decimal | None:
        """Return how much USDC is missing to the capital that was named, before anything was bought; else None.

        None as well while the module is not on: nobody should send money to an address that may still change.
        """
        wanted, held = self.deployment.safe_capital, self.usdc
        if self.module != "on" or wanted is None or held is None:
            return None
        if self.tokens or self.collateral or self.open_positions or held >= wanted:
            return None
        return wanted - held

    @property
    def gauges(self) -> list[Gauge]:
        """Return the limits of the policy in force on the chain; none where there is no policy."""
        state = self.state
        if state is None or state.policy is None or state.headroom is None:
            return []
        return [
            Gauge(
                use.name,
                use.label,
                Decimal(use.limit - use.left).scaleb(-SCALES[use.unit]),
                Decimal(use.limit).scaleb(-SCALES[use.unit]),
                str(use.unit),
            )
            for use in self.kind.uses(state.policy, state.headroom)
        ]

    @property
    def kind(self) -> SafeKind:
        """What the owners of the Safe sign: spot trading or perpetual futures."""
        return safe_kinds.of_deployment(self.deployment)

    @property
    def largest(self) -> str:
        """Return the largest trade that the policy allows, in words; empty where there is no policy."""
        policy = self.state.policy if self.state else None
        return self.kind.largest(policy) if policy else ""

    @property
    def limits(self) -> dict[str, str]:
        """Return the limits that an owner may choose as the chain has them; decimal text in USDC, times or counts."""
        policy = self.state.policy if self.state else None
        if policy is None:
            return {}
        return {one.name: plain(one.shown(getattr(policy, one.field))) for one in self.kind.choice.limits}

    @property
    def max_trade(self) -> Decimal | None:
        """Return the largest order, or the largest collateral of a trade, that the policy allows, USDC."""
        policy = self.state.policy if self.state else None
        if policy is None:
            return None
        return whole(getattr(policy, self.kind.largest_field), USDC_DECIMALS)

    @property
    def module(self) -> str:
        """Return the state of the module: unknown, not created, off, no policy, on, or pending."""
        state = self.state
        if state is None:
            return "unknown"
        if not state.created:
            return "not created"
        if not state.enabled:
            return "off"
        if state.policy is None:
            return "pending" if state.pending_at else "no policy"
        return "on"

    @property
    def can_revoke(self) -> bool:
        """Return whether the module may do something in the Safe."""
        return self.module in ("on", "pending", "no policy")

    @property
    def several_owners(self) -> bool:
        return self.state is not None and len(self.state.owners) > 1

    @property
    def stop(self) -> str:
        """Return what the guardian or the owners stopped, in words; empty for nothing."""
        return STOPS.get(self.state.stop_level, "") if self.state else ""

    @property
    def pending_at(self) -> datetime | None:
        """Return when a policy that was signed takes effect; None where none is pending."""
        at = self.state.pending_at if self.state else 0
        return datetime.fromtimestamp(at, UTC) if at else None

    @property
    def unsigned(self) -> SafePlan | None:
        """Return the plan that still needs a signature; None where the chain shows it, or it is pending there."""
        if self.proposal is None or self.deployment.state == DeploymentState.REVOKED:
            return None
        shown = self.state is not None and self.state.created and not self.state.differences
        return None if shown or self.pending_at else self.proposal

    @property
    def entries_stopped(self) -> dict[str, str]:
        """Return what stops entries besides the chain: token, or * for all -> reason code."""
        return dict(self.in_force.stops) if self.in_force else {}

    @property
    def stop_sentences(self) -> list[str]:
        """Return the same in words."""
        lines = []
        for token, code in self.entries_stopped.items():
            what = "every token" if token == EVERYTHING else f"the token {token}"
            lines.append(f"no position in {what} is opened: {explain(code)[0]}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the Safe for the API and `--json`; amounts as decimal text."""
        row, state = self.deployment, self.state
        return {
            "deployment_id": row.pk,
            "agent": row.agent.name,
            "kind": self.kind.name,
            "status": row.state.upper(),
            "safe": row.safe_wallet,
            "chain_id": row.chain_id,
            "verified_at": iso_utc(row.verified_at) if row.verified_at else None,
            "read_at": iso_utc(self.seen.read_at) if self.seen.read_at else None,
            "problem": self.seen.problem,
            "owners": list(state.owners) if state else [],
            "threshold": state.threshold if state else None,
            "usdc": None if self.usdc is None else plain(self.usdc),
            "collateral": plain(self.collateral),
            "tokens": {symbol: plain(amount) for symbol, amount in self.tokens.items()},
            "capital": None if row.safe_capital is None else plain(row.safe_capital),
            "missing_usdc": None if self.missing_usdc is None else plain(self.missing_usdc),
            "module": self.module,
            "stop": self.stop,
            "entries_stopped": self.entries_stopped,
            "limits": [gauge.as_json() for gauge in self.gauges],
            "max_trade": None if self.max_trade is None else plain(self.max_trade),
            "signed_limits": self.limits,
            "differences": list(state.differences) if state else [],
            "pending_at": iso_utc(self.pending_at) if self.pending_at else None,
            "unsigned_plan": self.unsigned.safe_tx_hash or "new Safe" if self.unsigned else None,
            "fees_paid": plain(usdc(self.fees)),
            "profit_share_paid": plain(usdc(self.profit_share)),
            "open_positions": self.open_positions,
        }


def wallets(deployments: Sequence[Deployment], *, fresh: bool = False) -> list[Wallet]:
    """Return the Safes of these deployments, in their order; those without a Safe are left out.

    Args:
        deployments: selected with their agents.
        fresh: ask the chain, whatever was read a moment ago.
    """
    rows = [row for row in deployments if row.safe_wallet and row.chain_id is not None]
    if not rows:
        return []
    in_force, proposals = plans_of(rows)
    seen = _seen(rows, in_force, proposals, fresh=fresh)
    books = {row.deployment: row for row in read_each([row.pk for row in rows]).deployments}
    open_rows = Position.objects.filter(deployment__in=rows).exclude(state="closed").order_by()
    counts = dict(open_rows.values_list("deployment").annotate(Count("pk")))
    sharing, collateral = _sharing(rows), _collateral(rows)
    held = {
        symbol
        for one in seen.values()
        if one.state and one.state.balances
        for symbol, amount in one.state.balances.items()
        if symbol != USDC and amount
    }
    prices = _prices(held)
    result = []
    for row in rows:
        key, own = (row.chain_id, row.safe_wallet), books.get(row.pk)
        stanza = chains.chain_of_id(row.chain_id or 0)
        state = seen[key].state
        balances = state.balances if state and state.balances else {}
        result.append(
            Wallet(
                deployment=row,
                chain=chains.title(row.chain_id or 0),
                explorer=stanza.explorer if stanza else "",
                coin=stanza.coin if stanza else "",
                usdc_contract=_usdc_contract(stanza),
                seen=seen[key],
                in_force=in_force.get(key),
                proposal=proposals.get(key),
                fees=own.platform_fees if own else ZERO,
                profit_share=own.profit_share if own else ZERO,
                open_positions=counts.get(row.pk, 0),
                collateral=collateral.get((row.agent.venue, row.account), ZERO),
                shared_with=[agent for pk, agent in sharing.get(key, []) if pk != row.pk],
                token_values={
                    symbol: None if prices.get(symbol) is None else amount * prices[symbol]
                    for symbol, amount in balances.items()
                    if symbol in held and amount
                },
            )
        )
    return result


Key = tuple[int | None, str]
"""Chain id and Safe."""


def plans_of(rows: Sequence[Deployment]) -> tuple[dict[Key, SafePlan], dict[Key, SafePlan]]:
    """Return the plans in force and the proposals of the Safes, in one statement."""
    if not rows:
        return {}, {}
    wanted = Q()
    for chain_id in {row.chain_id for row in rows}:
        wanted |= Q(chain_id=chain_id, safe__in=[row.safe_wallet for row in rows if row.chain_id == chain_id])
    in_force: dict[Key, SafePlan] = {}
    proposals: dict[Key, SafePlan] = {}
    newest = SafePlan.objects.filter(wanted).order_by("chain_id", "safe", "verified_at")
    for plan in newest:  # NULL comes last, and of those that were verified the newest
        (in_force if plan.verified_at else proposals)[plan.chain_id, plan.safe] = plan
    return in_force, proposals


def _seen(
    rows: Sequence[Deployment],
    in_force: dict[Key, SafePlan],
    proposals: dict[Key, SafePlan],
    *,
    fresh: bool,
) -> dict[Key, snapshot.Seen]:
    """Return the state of each Safe, with one bounded read for each venue."""
    by_venue: dict[str, list[Deployment]] = {}
    for row in rows:
        by_venue.setdefault(row.agent.venue, []).append(row)
    result: dict[Key, snapshot.Seen] = {}
    for own in by_venue.values():
        asked = {}
        for row in own:
            key = (row.chain_id, row.safe_wallet)
            plan = proposals.get(key) or in_force.get(key)
            asked[row.safe_wallet] = snapshot.Asked(row.safe_wallet, row.module_address, plan)
        try:
            answers = snapshot.look(safe_access(own[0]), list(asked.values()), fresh=fresh)
        except MaxxitError as error:  # the venue is not configured any more
            answers = {safe: snapshot.Seen(None, None, str(error)) for safe in asked}
        result |= {(row.chain_id, row.safe_wallet): answers[row.safe_wallet] for row in own}
    return result


def _sharing(rows: Sequence[Deployment]) -> dict[Key, list[tuple[int, str]]]:
    """Return Safe -> (deployment, agent's name) of the deployments that trade from it, revoked ones left out."""
    sharing: dict[Key, list[tuple[int, str]]] = {}
    others = Deployment.objects.filter(
        account__in=[row.account for row in rows], owner__in={row.owner_id for row in rows}
    ).exclude(state=DeploymentState.REVOKED)
    for pk, chain_id, safe, agent in others.values_list("pk", "chain_id", "safe_wallet", "agent__name"):
        sharing.setdefault((chain_id, safe), []).append((pk, agent))
    return sharing


def _collateral(rows: Sequence[Deployment]) -> dict[tuple[str, str], Decimal]:
    """Return (venue, account) -> USDC in positions at GMX, of those that trade perpetual futures."""
    accounts = [row.account for row in rows if row.trades_perps]
    if not accounts:
        return {}
    held = MarginPosition.objects.filter(account__in=accounts).order_by().values_list("venue", "account")
    return {(venue, account): total for venue, account, total in held.annotate(Sum("margin"))}


def _prices(symbols: set[str]) -> dict[str, Decimal]:
    """Return symbol -> USD of the newest usable quotes."""
    if not symbols:
        return {}
    return {symbol: quote.price for symbol, quote in quotes.latest(sorted(symbols), closing=True).items()}


def _usdc_contract(stanza: chains.ChainStanza | None) -> str:
    try:
        return chains.contracts(stanza).usdc if stanza else ""
    except MaxxitError:  # the local chain has not been built
        return ""
