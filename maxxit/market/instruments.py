"""Tradable instruments: symbols, their names in posts, tick and lot sizes (`config/markets.yaml`)."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import cache

from maxxit.core.config import Policy, load
from maxxit.core.errors import Misconfigured
from maxxit.core.terms import OrderSide


class _Stanza(Policy):
    name: str
    aliases: tuple[str, ...]
    tick: Decimal
    lot: Decimal
    venues: tuple[str, ...]
    feed_symbol: str = ""
    illiquid: bool = False


class _Markets(Policy):
    instruments: dict[str, _Stanza]
    stablecoins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable token against USD."""

    symbol: str
    name: str
    aliases: tuple[str, ...]
    """Other whole words that mean the token in a post, lower case."""
    tick: Decimal
    """Smallest step of a price, USD."""
    lot: Decimal
    """Smallest step of a quantity, tokens."""
    venues: tuple[str, ...]
    feed_symbol: str
    """The symbol in price feeds and files."""
    illiquid: bool
    """Needs corroboration by a second author before it is traded."""

    def round_price(self, price: Decimal) -> Decimal:
        """Return `price` (USD) rounded to the nearest tick."""
        return (price / self.tick).quantize(Decimal(1), rounding=ROUND_HALF_EVEN) * self.tick

    def round_price_against(self, price: Decimal, side: str) -> Decimal:
        """Return `price` (USD) rounded to a tick against the trader: up for a buy, down for a sell (0 below a tick)."""
        rounding = ROUND_CEILING if side == OrderSide.BUY else ROUND_FLOOR
        return (price / self.tick).quantize(Decimal(1), rounding=rounding) * self.tick

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """Return `quantity` (tokens) rounded down to whole lots."""
        return (quantity / self.lot).quantize(Decimal(1), rounding=ROUND_DOWN) * self.lot


@cache
def _markets() -> _Markets:
    return load("markets", _Markets)


@cache
def all_instruments() -> dict[str, Instrument]:
    """Return every instrument by symbol. Raises `Misconfigured` if a symbol or alias is ambiguous."""
    found: dict[str, Instrument] = {}
    words: dict[str, str] = {}
    for symbol, stanza in _markets().instruments.items():
        aliases = tuple(alias.lower() for alias in stanza.aliases)
        for word in (symbol.lower(), *aliases):
            if words.setdefault(word, symbol) != symbol:
                raise Misconfigured(f"config/markets.yaml: {word!r} means both {words[word]} and {symbol}")
        found[symbol] = Instrument(
            symbol=symbol,
            name=stanza.name,
            aliases=aliases,
            tick=stanza.tick,
            lot=stanza.lot,
            venues=stanza.venues,
            feed_symbol=stanza.feed_symbol or symbol,
            illiquid=stanza.illiquid,
        )
    return found


def instrument(symbol: str) -> Instrument:
    """Return the instrument of `symbol`. Raises `Misconfigured` with the known symbols."""
    try:
        return all_instruments()[symbol]
    except KeyError:
        known = ", ".join(sorted(all_instruments()))
        raise Misconfigured(f"{symbol!r} is not in config/markets.yaml; known: {known}") from None


def listed_on(venue: str) -> list[str]:
    """Return the symbols listed on `venue`, in the order of the file."""
    return [symbol for symbol, one in all_instruments().items() if venue in one.venues]


def stablecoins() -> frozenset[str]:
    """Return the symbols that are never traded by signals."""
    return frozenset(_markets().stablecoins)


def words_by_token() -> dict[str, list[str]]:
    """Return symbol -> its lower-case words in posts, the symbol first."""
    return {symbol: [symbol.lower(), *one.aliases] for symbol, one in all_instruments().items()}
