"""Normalises a post for the lexical reader: folded, split into sentences, listed tokens masked by one sign."""

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MASK = "§"
"""The sign for a listed token in masked text, so that the lexicon needs no symbols."""
WORD = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A sign of a word in a language with spaces: Chinese, Japanese and Korean text may touch a token."""
PAIR = r"(?:usdt|busd|perp)?"
"""What may follow a token in the name of a pair, such as BTCUSDT."""
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
"""Symbols that are also English words: they count with `$` or in capitals only."""
_ONLY_CASHTAG = frozenset({"iot"})
"""Symbols that mean something else even in capitals (the Internet of Things)."""
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
"""The beginning of a question, with or without a question mark."""
_SPACE = re.compile(r"\s+")
_LONG_SPACE = re.compile(r"\s{8}")
_BLANKS, _LINES, _BLANK_LINES = re.compile(r"[^\S\n]+"), re.compile(r"\n+"), re.compile(r"(?: \n){2,}")
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")


@dataclass(frozen=True, slots=True)
class Mention:
    """A listed token and its offset in the masked sentence."""

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
        """Whether the sentence is a question."""
        return self.text.rstrip(" \"')!.…").endswith("?") or bool(_ASKS.match(self.text))


@dataclass(frozen=True)
class Words:
    """The words that mean each listed token."""

    symbols: Mapping[str, str]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, tokens: Mapping[str, Sequence[str]], *, loose: bool = False) -> "Words":
        """Build from symbol -> words; the symbol itself always counts.

        With `loose` a tag ($ or #) counts after any sign, and letters of languages without spaces end a word.
        """
        symbols = {
            word.lower(): symbol
            for symbol, words in tokens.items()
            if symbol.upper() not in STABLECOINS
            for word in (symbol, *words)
            if word.upper() not in STABLECOINS
        }
        longest_first = sorted(symbols, key=lambda word: (-len(word), word))
        any_word = "|".join(re.escape(word) for word in longest_first) or r"(?!)"
        before, after = r"(?<![\w/@$#-])(?<!\.(?!\$))([$#]?)", r"(?![\w@]|\.\w)"
        if loose:
            before = rf"(?:(?<!{WORD})(?<![/@$#-])(?<!\.)|(?<!{WORD})(?<![@$#])(?=[$#]))([$#]?)"
            after = rf"{PAIR}(?!{WORD}|@|\.\w)"
        return cls(symbols, re.compile(rf"{before}({any_word}){after}{_FAMILY}", re.IGNORECASE))

    def named(self, text: str) -> set[str]:
        """Return the symbols of the listed tokens in a text."""
        return {symbol for match in self.pattern.finditer(text) if (symbol := self.symbol(match))}

    def symbol(self, match: re.Match[str]) -> str | None:
        """Return the token of a match, or None where the word is plain English."""
        mark, word = match[1], match[2]
        lower = word.lower()
        if mark != "$" and (lower in _ONLY_CASHTAG or (lower in _ENGLISH and not word.isupper())):
            return None
        return self.symbols[lower]


def fold(text: str) -> str:
    """Remove HTML escapes, invisible characters, links and quotations, and unify apostrophes."""
    plain = (
        _INVISIBLE.sub("", unicodedata.normalize("NFKC", html.unescape(text)))
        .replace("’", "'")
        .replace("\u2018", "'")
    )
    plain = _SUBREDDIT.sub(" ", _URL.sub(" ", plain))
    return _QUOTE.sub(" “” ", plain)


def sentences(folded: str, words: Words) -> list[Sentence]:
    """Split a folded text into masked sentences."""
    if _LONG_SPACE.search(
        folded
    ):  # _SENTENCE takes the square of its length; shortened, it splits at the same places
        folded = _BLANK_LINES.sub(" \n", _LINES.sub("\n", _BLANKS.sub(" ", folded)))
    masked = []
    for part in _SENTENCE.split(folded):
        bare = _SPACE.sub(" ", _HANDLE.sub("@", part)).strip().lstrip("@. ")
        if bare:
            masked.append(_masked(bare, words))
    return masked


def _masked(part: str, words: Words) -> Sentence:
    pieces: list[str] = []
    mentions: list[Mention] = []
    length = start = 0
    for match in words.pattern.finditer(part):
        symbol = words.symbol(match)
        if symbol is None:
            continue
        before = part[start : match.start()].lower()
        mentions.append(Mention(symbol, length + len(before), match[1] == "$"))
        pieces += [before, MASK]
        length += len(before) + 1
        start = match.end()
    pieces.append(part[start:].lower())
    return Sentence("".join(pieces), tuple(mentions))
