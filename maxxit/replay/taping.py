"""Record a tape while a replay runs: what each generation pass saw, every quote, and the positions that closed."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agents.fee_terms import fees_of
from agents.models import Agent, CtAccount, Deployment
from agents.states import AgentState, DeploymentState
from maxxit.core import clock, data_folder
from maxxit.core.money import plain
from maxxit.market import quotes, snapshots
from maxxit.market.feeds.file import candle_file
from maxxit.market.instruments import all_instruments, listed_on
from maxxit.market.models import Quote
from maxxit.market.venues import venue_policy
from maxxit.pipeline import release
from maxxit.pipeline.runs import Counts
from maxxit.pipeline.stages import stage
from maxxit.replay.run import Recorded, play, prepare
from maxxit.replay.tape import Tape, TapedAgent, TapedCall, TapedDeployment, TapedPass, TapedPosition
from positions.models import ExitPause, Position
from signals_app.inputs import wrong_input
from signals_app.models import CtPost, Signal, SocialMetric
from signals_app.policy import policy as signals_policy
from trading.models import KillSwitch
from trading.risk.limits_in_force import risk_limits

GENERATE = stage("generate").task


@dataclass
class Taped(Recorded):
    """A replay that is recorded on a tape."""

    tape: Tape | None = None
    """Set by `begin`."""
    _rows: dict[int, int] = field(default_factory=dict)
    """Snapshot row -> its place on the tape."""
    _seen: set[int] = field(default_factory=set)
    _impacts: dict[int, str] = field(default_factory=dict)
    _quotes: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def begin(self) -> None:
        """Record the configuration in force and the agents. Call it between `prepare` and `play`."""
        policy = signals_policy().generate
        names = sorted({agent.venue for agent in _agents()})
        self.tape = Tape(
            start=_seconds(self.start),
            end=_seconds(self.end),
            inputs=self._hashes(),
            release=release.mine(),
            risk=risk_limits().model_dump(mode="json"),
            generate=policy.model_dump(mode="json"),
            venues={name: venue_policy(name).model_dump(mode="json") for name in names},
            instruments=instruments(),
            max_age_seconds=quotes.policy().max_age_seconds,
            agents=[_agent(agent) for agent in _agents()],
        )

    def passes(self) -> dict[str, tuple[str, Callable[[], Counts]]]:
        """Return the passes of a replay; that of the generate stage records what it sees."""
        passes = super().passes()
        name, generate = passes[GENERATE]

        def recording() -> Counts:
            before = self._see_candidates()
            counts = generate()
            self._note_pass(before)
            return counts

        return passes | {GENERATE: (name, recording)}

    def note_moment(self, moment: datetime) -> None:
        """Record the quotes of a moment that has been played."""
        tape = self._tape()
        place = len(tape.moments)
        tape.moments.append(_seconds(moment))
        for row in Quote.objects.order_by("symbol").values_list(
            "symbol", "price", "at", "trusted_for_entries"
        ):
            symbol, price, at, trusted = row
            if self._quotes.get(symbol) != row:
                self._quotes[symbol] = row
                tape.quotes.setdefault(symbol, []).append([place, plain(price), _seconds(at), trusted])

    def finish(self) -> Tape:
        """Return the tape with the positions that closed and what it does not represent."""
        tape = self._tape()
        closed = Position.objects.filter(state="closed").order_by("closed_at", "pk")
        for row in closed.select_related("deployment"):
            tape.closed.append(
                TapedPosition(
                    row.deployment.account, row.symbol, row.side, _seconds(row.opened_at),
                    _seconds(row.closed_at), row.exit_reason, plain(row.realised_pnl), plain(row.quantity),
                    plain(row.entry_price), plain(row.exit_price or row.entry_price), plain(row.profit_share),
                )
            )  # fmt: skip
        tape.open = Position.objects.exclude(state="closed").count()
        tape.signals = Signal.objects.count()
        tape.unsupported = _unsupported()
        return tape

    def _tape(self) -> Tape:
        if self.tape is None:
            raise RuntimeError("the tape was not begun")
        return self.tape

    def _hashes(self) -> dict[str, str]:
        files = [self.posts, *(candle_file(self.candles, symbol) for symbol in self.inputs.bars)]  # type: ignore[union-attr]
        return {path.name: data_folder.sha256(path) for path in files if path is not None}

    def _see_candidates(self) -> TapedPass:
        """Record candidates that no pass saw before, and impact factors that changed."""
        now = _seconds(clock.now())
        rows = CtPost.objects.filter(is_signal_candidate=True).exclude(pk__in=self._seen).order_by("pk")
        for post in rows:
            counts = [n for n in (post.likes, post.reposts, post.replies, post.quotes) if n is not None]
            self._seen.add(post.pk)
            self._tape().calls.append(
                TapedCall(
                    post.pk, post.account_id, post.posted_at.timestamp(), post.ingested_at.timestamp(), now,
                    post.sides, None if post.confidence is None else plain(post.confidence),
                    sum(counts) if counts else None,
                )
            )  # fmt: skip
        changed = {}
        for pk, factor in CtAccount.objects.order_by("pk").values_list("pk", "impact_factor"):
            if self._impacts.get(pk) != (text := plain(factor)):
                self._impacts[pk] = changed[str(pk)] = text
        return TapedPass(now, {}, changed)

    def _note_pass(self, seen: TapedPass) -> None:
        """Record the indicators that the pass used."""
        policy, tape = signals_policy().generate, self._tape()
        tokens = {token for agent in tape.agents for token in agent.tokens or listed_on(agent.venue)}
        terms = snapshots.Terms(
            timedelta(minutes=policy.bar_minutes), policy.bars, policy.warm_up_bars,
            timedelta(hours=policy.bucket_hours),
        )  # fmt: skip
        for token, kept in sorted(snapshots.of(sorted(tokens), terms, clock.now()).items()):
            if kept.row not in self._rows:
                self._rows[kept.row] = len(tape.figures)
                tape.figures.append(list(astuple(kept.figures)))
            seen.markets[token] = self._rows[kept.row]
        tape.passes.append(seen)


def record_tape(recorded: Taped, progress: Callable[[datetime], None]) -> Tape:
    """Replay files in this (scratch) database and return the tape. Raises `Misconfigured` where they are wrong."""
    with wrong_input():
        prepare(recorded)
    play_taped(recorded, progress)
    return recorded.finish()


def play_taped(recorded: Taped, progress: Callable[[datetime], None]) -> None:
    """Run a prepared replay and record its tape. `progress` is called as by `play`."""

    def played(moment: datetime) -> None:
        recorded.note_moment(moment)
        progress(moment)

    recorded.begin()
    play(recorded, played)


def instruments() -> dict[str, Any]:
    """Return what a trade depends on of every configured instrument, as JSON."""
    return {
        symbol: {
            "tick": plain(one.tick),
            "lot": plain(one.lot),
            "illiquid": one.illiquid,
            "venues": sorted(one.venues),
        }
        for symbol, one in all_instruments().items()
    }


def _agents() -> list[Agent]:
    return list(Agent.objects.filter(state=AgentState.ACTIVE).order_by("pk"))


def _agent(agent: Agent) -> TapedAgent:
    deployments = agent.deployments.filter(state=DeploymentState.ACTIVE).order_by("pk")
    follows = agent.subscriptions.filter(account__is_active=True).values_list("account_id", flat=True)
    return TapedAgent(
        agent.pk, agent.name, agent.venue, list(agent.tokens), dict(agent.weights), plain(agent.min_confidence),
        agent.sizing_preset, agent.exit_preset, fees_of(agent), sorted(follows),
        [TapedDeployment(d.pk, d.account, plain(d.starting_balance), d.agreed_fees) for d in deployments],
    )  # fmt: skip


def _unsupported() -> list[str]:
    """Return what happened in this database that the fast backtest does not represent."""
    venues = {agent.venue: venue_policy(agent.venue) for agent in _agents()}
    limited = Deployment.objects.exclude(max_daily_usd=None, max_position_usd=None, max_open_positions=None)
    found = {
        "posts that were edited or deleted": CtPost.objects.exclude(edited_at=None, deleted_at=None).exists(),
        "social metrics": SocialMetric.objects.exists(),
        "a model that proposes trades (generate.proposer)": signals_policy().generate.proposer != "formula",
        "owners' limits": limited.exists(),
        "entries that owners confirm": Deployment.objects.filter(confirm_entries=True).exists(),
        "a kill switch": KillSwitch.objects.exists(),
        "paused exits": ExitPause.objects.exists(),
        "risk scores": risk_limits().risk_score.enabled,
        "sizes by volatility targets": any(agent.volatility_target_pct for agent in _agents()),
    }
    for name, venue in venues.items():
        found[f"the adapter {venue.adapter} (venue {name})"] = venue.adapter != "paper"
        found[f"leverage, funding and liquidations (venue {name})"] = not venue.is_spot
    return [what for what, happened in found.items() if happened]


def _seconds(at: datetime | None) -> int:
    """Return whole seconds since 1970; a replay's moments have no fraction."""
    return int(at.timestamp()) if at else 0
