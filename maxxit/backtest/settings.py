"""What a backtest varies: agents, risk policy, levels and venue options, each by its key. Unknown keys are refused.

A key is a path: `exits.signal.trailing_pct`, `sizing.moderate.high_pct`, `account.cooldown_seconds_per_symbol`,
`max_trade_usd`, `generate.spot.stop_loss_pct`, `venues.paper.fee_bps`, `agents.Follower.min_confidence`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, cast

from pydantic import ValidationError

from agents.evidence import FORECAST, weights_problem
from agents.fee_terms import SHARE, Terms, terms
from maxxit.core.errors import Misconfigured
from maxxit.core.terms import ExitPreset, Preset
from maxxit.market.venues import VenuePolicy
from maxxit.replay.tape import Tape, TapedAgent
from signals_app.policy import Generate
from trading.risk.policy import RiskPolicy
from trading.venues.paper import PaperVenue

RECORDED = (
    "is recorded on the tape: write another one with `manage.py replay --tape FILE` and that configuration"
)
OF_FORECASTS = "takes live forecasts, which a tape does not hold"
REFUSED: Mapping[str, str] = {
    "generate.bar_minutes": RECORDED,
    "generate.bars": RECORDED,
    "generate.warm_up_bars": RECORDED,
    "generate.bucket_hours": RECORDED,
    "generate.social_hours": RECORDED,
    "generate.volatility_stop": OF_FORECASTS,
    "generate.direction_forecast": OF_FORECASTS,
    "generate.volatility_size": OF_FORECASTS,
    "generate.proposer": "asks a model, which the fast backtest does not",
    "generate.perps": "needs leverage, which the fast backtest does not represent",
    "generate.signal_ttl_hours": "concerns signals that wait, and on paper each is executed when it is made",
    "authors": RECORDED,
    "classify": RECORDED,
    "ingest": RECORDED,
    "triggers": "pulls the kill switch, which neither a replay nor the fast backtest does",
    "liquidation_warning": "needs leverage, which the fast backtest does not represent",
    "loosen_after_seconds": "delays changes of limits, which a backtest does not make",
    "order_deadline_seconds": "concerns orders that arrive late, which a paper venue has not",
    "risk_score": OF_FORECASTS,
    "platform": "scales crowds of many accounts, which the fast backtest does not represent",
}
"""Key, or the beginning of keys -> why the fast path does not take it."""
PARTS = 1_000
"""Of each kind that are kept."""
OF_VENUE = ("shorts", "max_leverage")
"""What may be set of a venue besides its options."""
OF_AGENT = ("min_confidence", "sizing_preset", "exit_preset", "profit_share", "tokens")


@dataclass(frozen=True)
class Account:
    """A deployment of an agent."""

    id: int
    account: str
    balance: Decimal
    terms: Terms


@dataclass(frozen=True)
class Trader:
    """An agent with its settings."""

    pk: int
    name: str
    venue: str
    tokens: tuple[str, ...]
    weights: Mapping[str, int]
    min_confidence: Decimal
    sizing_preset: str
    exit_preset: str
    follows: frozenset[int]
    accounts: tuple[Account, ...]

    @property
    def decides_by(self) -> tuple[Any, ...]:
        """What its signals depend on."""
        return (
            self.pk, self.venue, self.tokens, tuple(sorted(self.weights.items())), self.min_confidence,
            self.follows,
        )  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """One set of settings."""

    changes: Mapping[str, str]
    """Key -> value, where it differs from the tape."""
    risk: RiskPolicy
    generate: Generate
    venues: Mapping[str, VenuePolicy]
    traders: tuple[Trader, ...]


Changes = tuple[tuple[str, str], ...]
"""Keys and values, in order: what one part of the settings is made of."""


class TapeSettings:
    """Makes settings of one tape. Parts that many settings share are made once."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._recorded = {token for one in tape.passes for token in one.markets}
        self._risk = lru_cache(PARTS)(self._made_risk)
        self._generate = lru_cache(PARTS)(self._made_generate)
        self._venues = lru_cache(PARTS)(self._made_venues)

    def of(self, changes: Mapping[str, str] | None = None) -> Settings:
        """Return the tape's settings with `changes` (key -> value as text).

        Raises `Misconfigured` naming a key that is unknown, that the fast path does not represent, or whose value is
        wrong.
        """
        given = dict(changes or {})
        parts: dict[str, list[tuple[str, str]]] = {"agents": [], "venues": [], "generate": [], "risk": []}
        for key, value in sorted(given.items()):
            _refuse(key)
            root = key.partition(".")[0]
            parts[root if root in parts else "risk"].append((key, value))
        policy = self._risk(tuple(parts["risk"]))
        settings = Settings(
            given,
            policy,
            self._generate(tuple(parts["generate"])),
            self._venues(tuple(parts["venues"])),
            self._traders(tuple(parts["agents"]), policy),
        )
        self._check(settings)
        return settings

    def _made_risk(self, changes: Changes) -> RiskPolicy:
        values = _without_repeats(_copied(self._tape.risk))
        for key, value in changes:
            _set(values, key, key, value)
        return cast(RiskPolicy, _validated(RiskPolicy, values, changes))

    def _made_generate(self, changes: Changes) -> Generate:
        values = _copied(self._tape.generate)
        for key, value in changes:
            _set(values, key, key.partition(".")[2], value)
        return cast(Generate, _validated(Generate, values, changes))

    def _made_venues(self, changes: Changes) -> Mapping[str, VenuePolicy]:
        values = {name: _copied(venue) for name, venue in self._tape.venues.items()}
        for key, value in changes:
            _set_of_venue(values, key, key.partition(".")[2], value)
        return {name: _validated(VenuePolicy, venue, changes) for name, venue in values.items()}

    def _traders(self, changes: Changes, policy: RiskPolicy) -> tuple[Trader, ...]:
        values = {agent.name: _copied(vars(agent)) for agent in self._tape.agents}
        for key, value in changes:
            set_of_agent(values, key, key.partition(".")[2], value)
        return tuple(_trader(TapedAgent(**agent), policy) for agent in values.values())

    def _check(self, settings: Settings) -> None:
        """Refuse by name what the fast path does not represent."""
        listed, recorded = self._tape.instruments.keys(), self._recorded
        accounts = [account.account for trader in settings.traders for account in trader.accounts]
        if len(set(accounts)) < len(accounts):
            raise Misconfigured("two agents share an account: the fast backtest does not represent that")
        for trader in settings.traders:
            if any(account.terms.month for account in trader.accounts):
                raise Misconfigured(
                    f"agents.{trader.name}.monthly_fee: the fast backtest charges no subscription; "
                    "use `manage.py replay`"
                )
            if unknown := sorted(set(trader.tokens) - listed):
                raise Misconfigured(f"agents.{trader.name}.tokens: {', '.join(unknown)} is not on the tape")
            if recorded and (missing := sorted(set(trader.tokens) & listed - recorded)):
                raise Misconfigured(
                    f"agents.{trader.name}.tokens: no indicators of {', '.join(missing)} are on the tape"
                )
        for name, venue in settings.venues.items():
            if not venue.is_spot:
                raise Misconfigured(
                    f"venues.{name}.max_leverage: the fast backtest does not represent leverage"
                )
            _check_options(name, venue)
            slippage = Decimal(venue.options["slippage_bps"]) / 100
            if slippage > settings.risk.max_slippage_pct:
                raise Misconfigured(
                    f"venues.{name}.slippage_bps {venue.options['slippage_bps']} is above max_slippage_pct "
                    f"{settings.risk.max_slippage_pct}: no entry would pass"
                )


def _check_options(name: str, venue: VenuePolicy) -> None:
    """Refuse what the paper venue itself refuses, and name the venue's key."""
    try:
        PaperVenue(shorts=venue.shorts, **venue.options)
    except (Misconfigured, TypeError) as error:
        raise Misconfigured(f"venues.{name}: {error}") from None


def _refuse(key: str) -> None:
    for refused, why in REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise Misconfigured(f"{key} {why}")


def _without_repeats(risk: dict[str, Any]) -> dict[str, Any]:
    """Return the policy without exceptions of a symbol that repeat the general limit.

    The limits in force name each symbol; a general limit that is changed has to count for all that have no own.
    """
    general = {**risk, **risk["account"], **risk.get("risk_score", {})}
    risk["symbols"] = {
        symbol: own
        for symbol, limits in risk["symbols"].items()
        if (own := {name: value for name, value in limits.items() if value not in (None, general[name])})
    }
    return risk


def _copied(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _copied(value) for name, value in values.items()}
    return values


def _set(values: dict[str, Any], key: str, path: str, value: str) -> None:
    *folders, name = path.split(".")
    place: Any = values
    for folder in folders:
        place = place.get(folder) if isinstance(place, dict) else None
    if not isinstance(place, dict) or name not in place or isinstance(place[name], dict):
        known = sorted(place) if isinstance(place, dict) else sorted(values)
        raise Misconfigured(f"{key} is no setting; known here: {', '.join(known)}")
    place[name] = None if value in ("none", "") else value


def _set_of_venue(venues: dict[str, Any], key: str, rest: str, value: str) -> None:
    name, _, option = rest.partition(".")
    if name not in venues:
        raise Misconfigured(f"{key}: the venues of the tape are {', '.join(sorted(venues))}")
    if option in venues[name]["options"]:
        if not value.isascii() or not value.isdigit():
            raise Misconfigured(f"{key}: {value!r} is not a whole number")
        venues[name]["options"][option] = int(value)
    elif option in OF_VENUE:
        _set(venues[name], key, option, value)
    else:
        known = ", ".join((*OF_VENUE, *sorted(venues[name]["options"])))
        raise Misconfigured(f"{key} is no setting of a venue that a backtest varies; known: {known}")


def set_of_agent(agents: dict[str, Any], key: str, rest: str, value: str) -> None:
    """Set one setting of an agent in place. Raises `Misconfigured` for an unknown agent or setting, or a wrong value.

    Args:
        agents: name -> its settings, as on a tape.
        rest: the key without `agents.`: NAME.min_confidence, NAME.weights.rsi.
    """
    name, _, option = rest.rpartition(".")
    of_weight = name.endswith(".weights")
    name = name.removesuffix(".weights")
    if name not in agents:
        raise Misconfigured(f"{key}: the agents of the tape are {', '.join(sorted(agents))}")
    agent = agents[name]
    if of_weight:
        _set_weight(agent, key, option, value)
    elif option == "min_confidence":
        agent["min_confidence"] = str(_fraction(key, value))
    elif option == "profit_share":
        agent["fees"] = {**agent["fees"], SHARE: str(_fraction(key, value))}
    elif option in ("sizing_preset", "exit_preset"):
        presets = list(Preset if option == "sizing_preset" else ExitPreset)
        if value not in presets:
            raise Misconfigured(f"{key}: {value!r} is not one of {', '.join(presets)}")
        agent[option] = value
    elif option == "tokens":
        agent["tokens"] = [token for token in value.replace(" ", "").split("+") if token]
    else:
        known = ", ".join((*OF_AGENT, "weights.NAME"))
        raise Misconfigured(f"{key} is no setting of an agent; known: {known}")


def _set_weight(agent: dict[str, Any], key: str, name: str, value: str) -> None:
    if not value.isascii() or not value.isdigit():
        raise Misconfigured(f"{key}: {value!r} is not a whole number from 0 to 100")
    agent["weights"] = {**agent["weights"], name: int(value)}
    if problem := weights_problem(agent["weights"]):
        raise Misconfigured(f"{key}: {problem}")


def _fraction(key: str, value: str) -> Decimal:
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= 1:
        raise Misconfigured(f"{key}: {value!r} is not a fraction from 0 to 1")
    return number


def _validated(schema: Any, values: dict[str, Any], changes: Changes) -> Any:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        path = ".".join(str(part) for part in wrong["loc"])
        shown = next((key for key, _ in changes if key == path or key.endswith(f".{path}")), path)
        raise Misconfigured(f"{shown}: {wrong['msg'].removeprefix('Value error, ')}") from None


def _trader(agent: TapedAgent, policy: RiskPolicy) -> Trader:
    if agent.exit_preset == ExitPreset.VOLATILITY:
        raise Misconfigured(
            f"agents.{agent.name}.exit_preset: {ExitPreset.VOLATILITY} {OF_FORECASTS}: choose another preset"
        )
    if agent.weights.get(FORECAST):
        raise Misconfigured(f"agents.{agent.name}.weights.{FORECAST} {OF_FORECASTS}: set it to 0")
    fees = policy.fees
    return Trader(
        agent.id,
        agent.name,
        agent.venue,
        tuple(agent.tokens),
        agent.weights,
        Decimal(agent.min_confidence),
        agent.sizing_preset,
        agent.exit_preset,
        frozenset(agent.follows),
        tuple(
            Account(
                one.id,
                one.account,
                Decimal(one.balance),
                terms(agent.fees, one.agreed_fees, trade=fees.trade, profit=fees.profit),
            )
            for one in agent.deployments
        ),
    )
