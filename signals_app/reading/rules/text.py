"""A post as the rules see it: folded, cut into sentences, with every listed token replaced by one sign."""

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MASK = "§"
"""Stands for a listed token in the masked text, so that the lexicon needs no symbols."""
STABLECOINS = frozenset({"USDC", "USDT", "DAI", "USDC.E", "BUSD", "FRAX", "TUSD", "USDP", "FDUSD", "PYUSD"})
"""Never read as a token, whatever the list of tokens says."""

_ENGLISH = frozenset(
    {
        *(
            "op",
            "sol",
            "one",
            "link",
            "near",
            "dot",
            "atom",
            "gas",
            "ape",
            "sand",
            "flow",
            "rose",
            "mask",
            "ray",
        ),
        *(
            "iot",
            "ens",
            "sui",
            "ton",
            "sei",
            "imx",
            "bat",
            "cake",
            "people",
            "just",
            "key",
            "time",
            "win",
            "hot",
        ),
    }
)
"""Symbols that are also words: they count with `$` or in capitals only."""
_ONLY_CASHTAG = frozenset({"iot"})
"""Even in capitals it means something else (the Internet of Things)."""
_FAMILY = (
    r"(?![\s-]+(?:cash|gold|diamond|platinum|private|ruby|classic|core|abc|sv|uranium|unlimited|effects?|"
    r"pairs?|terms|denominated|dominance|maximalis\w+|(?:price )?predictions?)\b)"
)
_URL = re.compile(r"(?:https?://|www\.)\S+|\S+…$")
_SUBREDDIT = re.compile(r"(?<![\w/])/?r/\w+", re.IGNORECASE)
_HANDLE = re.compile(r"(?<!\w)@\w+")
_QUOTE = re.compile(
    r":\s*[\"“][^\"“”]*$|[\"“”][^\"“”]{12,}?[\"“”]|(?<!\w)'(?=\w)[^']{12,}?'(?!\w)|^\s*>.*$",
    re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|\n+|\s+(?:->|--|—|–|•)\s+")
_ASKS = re.compile(
    rf"(?:will|is|are|can|could|should|does|do|did|has|have|would) (?:the|this|these|it|we|you|i|they|"
    rf"{MASK})(?!\w)"
)
"""How a sentence begins that asks, with or without its question mark."""
_SPACE = re.compile(r"\s+")
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")


@dataclass(frozen=True, slots=True)
class Mention:
    """A listed token where it stands in the masked sentence."""

    symbol: str
    at: int
    cashtag: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, lower case, tokens masked."""

    text: str
    mentions: tuple[Mention, ...]

    @property
    def question(self) -> bool:
        """Whether it asks."""
        return self.text.rstrip(" \"')!.…").endswith("?") or bool(_ASKS.match(self.text))


@dataclass(frozen=True)
class Words:
    """Which words mean which token."""

    symbols: Mapping[str, str]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, tokens: Mapping[str, Sequence[str]]) -> "Words":
        """From symbol -> words. The symbol itself always counts."""
        symbols = {
            word.lower(): symbol
            for symbol, words in tokens.items()
            if symbol.upper() not in STABLECOINS
            for word in (symbol, *words)
            if word.upper() not in STABLECOINS
        }
        longest_first = sorted(symbols, key=lambda word: (-len(word), word))
        any_word = "|".join(re.escape(word) for word in longest_first) or r"(?!)"
        return cls(
            symbols,
            re.compile(
                rf"(?<![\w/@$#-])(?<!\.(?!\$))([$#]?)({any_word})(?![\w@]|\.\w){_FAMILY}", re.IGNORECASE
            ),
        )

    def named(self, text: str) -> set[str]:
        """The symbols of the listed tokens that stand in a text."""
        return {symbol for found in self.pattern.finditer(text) if (symbol := self.symbol(found))}

    def symbol(self, found: re.Match[str]) -> str | None:
        """The token of a match, or None where the word is plain English here."""
        mark, word = found[1], found[2]
        lower = word.lower()
        if mark != "$" and (lower in _ONLY_CASHTAG or (lower in _ENGLISH and not word.isupper())):
            return None
        return self.symbols[lower]


def fold(text: str) -> str:
    """Without HTML escapes, invisible signs, links and the words of others; one kind of apostrophe."""
    plain = (
        _INVISIBLE.sub("", unicodedata.normalize("NFKC", html.unescape(text)))
        .replace("’", "'")
        .replace("\u2018", "'")
    )
    plain = _SUBREDDIT.sub(" ", _URL.sub(" ", plain))
    return _QUOTE.sub(" “” ", plain)


def sentences(folded: str, words: Words) -> list[Sentence]:
    """The sentences of a folded text."""
    made = []
    for part in _SENTENCE.split(folded):
        bare = _SPACE.sub(" ", _HANDLE.sub("@", part)).strip().lstrip("@. ")
        if bare:
            made.append(_masked(bare, words))
    return made


def _masked(part: str, words: Words) -> Sentence:
    pieces: list[str] = []
    mentions: list[Mention] = []
    length = start = 0
    for found in words.pattern.finditer(part):
        symbol = words.symbol(found)
        if symbol is None:
            continue
        before = part[start : found.start()].lower()
        mentions.append(Mention(symbol, length + len(before), found[1] == "$"))
        pieces += [before, MASK]
        length += len(before) + 1
        start = found.end()
    pieces.append(part[start:].lower())
    return Sentence("".join(pieces), tuple(mentions))
