"""A tape: everything that a replay decided on, and the positions that it closed, in one file.

`manage.py replay --tape FILE` writes it (`maxxit.replay.taping`); the fast backtest (`maxxit.backtest`) reads it.
It is gzipped JSON with sorted keys and no time stamp, so that the same contents give the same bytes. Moments are
seconds since 1970 in UTC, amounts and prices are decimal strings.
"""

import gzip
import hashlib
import json
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured

VERSION = 1


@dataclass
class TapedDeployment:
    """An account that trades for an agent."""

    id: int
    account: str
    balance: str
    """USDC that it starts with."""
    agreed_fees: dict[str, str]


@dataclass
class TapedAgent:
    """An agent as it was when the replay began."""

    id: int
    name: str
    venue: str
    tokens: list[str]
    """Empty: all of its venue."""
    weights: dict[str, int]
    min_confidence: str
    sizing_preset: str
    exit_preset: str
    fees: dict[str, str]
    """As `agents.fee_terms.fees_of` has them."""
    follows: list[int]
    """Ids of accounts."""
    deployments: list[TapedDeployment]


@dataclass
class TapedCall:
    """A post that was read as a call."""

    id: int
    account: int
    posted_at: float
    ingested_at: float
    known_at: int
    """The first generation pass that saw it as a candidate."""
    sides: dict[str, str]
    """Token -> long or short."""
    confidence: str | None
    reactions: int | None


@dataclass
class TapedPass:
    """One pass of the generate stage."""

    at: int
    markets: dict[str, int]
    """Token -> place in `Tape.figures`."""
    impacts: dict[str, str]
    """Account id -> impact factor, where it changed since the pass before."""


@dataclass
class TapedPosition:
    """A position that the replay closed. The keys by which replay and backtest are compared."""

    account: str
    symbol: str
    side: str
    opened_at: int
    closed_at: int
    reason: str
    pnl: str
    """USDC after fees, before the profit share."""
    quantity: str
    entry_price: str
    exit_price: str
    profit_share: str


@dataclass
class Tape:
    """The contents of one tape."""

    start: int
    end: int
    inputs: dict[str, str]
    """File name -> SHA-256 of what was replayed."""
    release: str
    """Fingerprint of the code and configuration that wrote it."""
    risk: dict[str, Any]
    """The risk policy in force."""
    generate: dict[str, Any]
    """The policy of the generate stage."""
    venues: dict[str, Any]
    instruments: dict[str, Any]
    max_age_seconds: int
    """Maximum age of a quote."""
    moments: list[int] = field(default_factory=list)
    """Every moment at which the replay ran its passes."""
    quotes: dict[str, list[list[Any]]] = field(default_factory=dict)
    """Symbol -> [place of the moment, price, time of the price, trusted for entries], where it changed."""
    figures: list[list[float]] = field(default_factory=list)
    """Indicators, in the order of the fields of `maxxit.market.bars.Snapshot`."""
    passes: list[TapedPass] = field(default_factory=list)
    calls: list[TapedCall] = field(default_factory=list)
    agents: list[TapedAgent] = field(default_factory=list)
    closed: list[TapedPosition] = field(default_factory=list)
    open: int = 0
    """Positions that were open at the end."""
    signals: int = 0
    unsupported: list[str] = field(default_factory=list)
    """What happened that the fast backtest does not represent, each as a phrase."""

    def to_bytes(self) -> bytes:
        """Return the tape as the bytes of its file."""
        values = {"version": VERSION, **asdict(self)}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return gzip.compress(text.encode(), compresslevel=6, mtime=0)

    @property
    def digest(self) -> str:
        """SHA-256 of the contents."""
        return hashlib.sha256(gzip.decompress(self.to_bytes())).hexdigest()


def write(tape: Tape, path: Path) -> None:
    """Write the tape to `path`."""
    path.write_bytes(tape.to_bytes())


def read(path: Path) -> Tape:
    """Return the tape in `path`. Raises `Misconfigured` naming the file where it is none of this version."""
    advice = "write one with `manage.py replay --tape FILE`"
    try:
        values = json.loads(gzip.decompress(path.read_bytes()))
        version = values.pop("version")
        if version != VERSION:
            raise Misconfigured(
                f"{path} is a tape of version {version}, this release reads {VERSION}: {advice}"
            )
        tape = Tape(**values)
        tape.passes = [TapedPass(**one) for one in values["passes"]]
        tape.calls = [TapedCall(**one) for one in values["calls"]]
        tape.closed = [TapedPosition(**one) for one in values["closed"]]
        tape.agents = [
            TapedAgent(**{**one, "deployments": [TapedDeployment(**each) for each in one["deployments"]]})
            for one in values["agents"]
        ]
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror or error}; {advice}") from None
    except (EOFError, zlib.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Misconfigured(f"{path} is no tape ({error}): {advice}") from None
    return tape
