"""From a text to a reading: cues of a sentence, less its doubts, added up for each token; less the doubts of the post.

Precision first. A post is a call only when some token collects enough weight on one side; questions, reposts,
quotations, jokes, news, history and far horizons take weight away or end the matter. Closing or reducing a position
opens nothing. The text decides, and for a target the token's price when it was written: who wrote it and what others
wrote does not enter. Deterministic, and linear in the length of the text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from signals_app.reading.rules import marks, positions, targets
from signals_app.reading.rules.grammar import CLASSES
from signals_app.reading.rules.lexicon import CUES
from signals_app.reading.rules.text import MASK, Mention, Sentence, Words, fold, sentences

VERSION = "rules-3"
THRESHOLD = 8
"""Weight from which a token counts as called."""
MAX_TEXT = 4000
"""Characters that are read; the longest posts of any source are shorter."""
MAX_MENTIONS = 5
"""More tokens than this in one post is a list, not a call."""
TARGET = "target"
"""A price tells no direction by itself: it is held against the price at that moment, and what else is said."""
POSITION = 10
"""Weight of a position that an author opens, adds to or keeps."""
VERBAL = ("expects up", "expects down")
"""Cues that are verbs: they need a subject."""
NEAR = 12
"""Characters between a negation and the words that it turns round."""
SURE = 30
"""Weight at which confidence reaches its highest."""
LOWEST, HIGHEST = 0.55, 0.9
"""Confidence at the threshold and at `SURE`."""
COMPOUND = re.compile(rf" {CLASSES['THING']}")
"""After a token: it only says what kind of thing is meant."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules read in one text."""

    candidate: bool
    tokens: tuple[str, ...]
    sentiment: str
    confidence: float
    reasoning: str
    sides: Mapping[str, str] = field(default_factory=dict)

    def as_json(self, post_id: str) -> dict[str, Any]:
        """As `signals_app.reading.schema.Reading` wants it."""
        return {
            "post_id": post_id,
            "candidate": self.candidate,
            "tokens": list(self.tokens),
            "sentiment": self.sentiment,
            "confidence": self.confidence,
            "reasoning": self.reasoning,
            "sides": dict(self.sides),
        }


@dataclass(frozen=True, slots=True)
class _Said:
    """One cue as it stands in a sentence."""

    name: str
    side: int
    """1 up, -1 down, 0 neither: a target without a known price, the end of a position."""
    weight: int
    start: int
    end: int


@dataclass(slots=True)
class _Tally:
    """What speaks for and against one token."""

    weight: int = 0
    """Positive: up."""
    cues: list[str] = field(default_factory=list)
    doubts: dict[str, int] = field(default_factory=dict)
    """What the sentences of its cues leave in doubt; already taken from the weight."""
    contradicted: bool = False
    """A target lies on the other side of the price than what else is said, or both sides are named."""

    def add(self, cues: Sequence[_Said], doubts: Sequence[tuple[str, int]]) -> None:
        """The cues of one sentence; its doubts take no more than it gave."""
        said = sum(cue.side * cue.weight for cue in cues)
        targets_apart = {cue.side for cue in cues if cue.name == TARGET} - {0}
        if len(targets_apart | ({1 if said > 0 else -1} if said else set())) > 1:
            self.contradicted = True
        if said and all(cue.side == 0 for cue in cues if cue.name == TARGET):
            said += sum((1 if said > 0 else -1) * cue.weight for cue in cues if cue.name == TARGET)
        left = max(abs(said) - sum(weight for _, weight in doubts), 0)
        self.weight += left if said > 0 else -left
        self.cues += [cue.name for cue in cues]
        self.doubts |= dict(doubts)


@dataclass(frozen=True)
class Reader:
    """Reads texts about a fixed list of tokens."""

    words: Words

    @classmethod
    def of(cls, tokens: Mapping[str, Sequence[str]]) -> "Reader":
        """A reader for symbol -> words that mean it."""
        return _reader(tuple((symbol, tuple(words)) for symbol, words in sorted(tokens.items())))

    def read(self, text: str, prices: Mapping[str, Decimal] | None = None) -> Found:
        """The reading of one text; `prices` are USD by symbol when it was written, as far as they are known.

        Without a price a target supports what else is said and is no call by itself.
        """
        if marks.REPOST.match(text):
            return _none("a repost is not the author's own word")
        text = text[:MAX_TEXT]
        if not self.words.pattern.search(text):
            return _none("names no listed token")
        parts = sentences(fold(text), self.words)
        mentioned = list(dict.fromkeys(mention.symbol for part in parts for mention in part.mentions))
        if not mentioned:
            return _none("names no listed token in the author's own words")
        if len(mentioned) > MAX_MENTIONS:
            return _none("names too many tokens to be a call")
        tallies = _tally(parts, mentioned, prices or {})
        if not tallies:
            return _none("says nothing of a rise or a fall, a purchase or a sale")
        return _judge(tallies, _doubts(parts))

    def priced(self, text: str) -> set[str]:
        """The tokens whose prices the reading of a text may need: those it names, and bitcoin for targets in it."""
        named = self.words.named(text)
        return named | ({targets.BITCOIN} & set(self.words.symbols.values())) if named else named

    def positions(self, text: str) -> dict[str, set[int]]:
        """Symbol -> the sides of the positions that the author states: 1 long, -1 short, 0 for one that ends."""
        found: dict[str, set[int]] = {}
        for part in sentences(fold(text[:MAX_TEXT]), self.words):
            held = [] if part.question else positions.statements(part.text)
            firm = [one for one in held if one.direction or one.ends]
            for said, at in _positions(part.text, firm):
                for symbol in _about(part, at, []):
                    found.setdefault(symbol, set()).add(said.side)
        return found


@lru_cache(maxsize=8)
def _reader(tokens: tuple[tuple[str, tuple[str, ...]], ...]) -> Reader:
    return Reader(Words.of(dict(tokens)))


def _none(why: str) -> Found:
    return Found(False, (), "neutral", 0.1, f"No call: {why}.")


def _tally(
    parts: Sequence[Sentence], mentioned: Sequence[str], prices: Mapping[str, Decimal]
) -> dict[str, _Tally]:
    """The cues of every sentence that is no question, less its doubts, added up for the tokens they speak of."""
    tallies: dict[str, _Tally] = {}
    trader = _trades(parts)
    focus = list(mentioned) if len(mentioned) == 1 else []
    for part in parts:
        focus = _focus(part, focus)
        if part.question or not (part.mentions or focus):
            continue
        told: dict[str, list[_Said]] = {}
        held = positions.statements(part.text)
        for one, at in (*_positions(part.text, held), *_cues(part, positions.without(part.text, held))):
            for symbol in _about(part, at, focus):
                told.setdefault(symbol, []).append(_aimed(one, part.text, symbol, prices))
        if not told:
            continue
        doubts = _sentence_doubts(part, trader)
        every = [cue for cues in told.values() for cue in cues]
        for symbol, cues in told.items():
            tally = tallies.setdefault(symbol, _Tally())
            tally.add([cue for cue in cues if cue.name not in tally.cues], doubts)
            tally.contradicted |= _names_other_side(part.text, cues, every)
    return tallies


def _positions(text: str, held: Sequence[positions.Statement]) -> list[tuple[_Said, int]]:
    """(cue, where) of what is said of positions; the end of one has no side."""
    found = []
    for one in held:
        inside = text.find(MASK, one.start, one.end)
        where = one.end if inside < 0 else inside
        found.append((_Said(one.name, one.direction, POSITION, one.start, one.end), where))
    return found


def _cues(part: Sentence, text: str) -> list[tuple[_Said, int]]:
    """(cue, where) in one sentence. A negated expectation speaks for the other side, a negated deed for none."""
    found = []
    for cue in CUES:
        match = cue.pattern.search(text)
        if match is None:
            continue
        side = cue.side
        clause = marks.CLAUSE.split(text[: match.start()])[-1]
        if marks.NOT_CLAIMED.search(clause):
            continue
        if cue.name in VERBAL and not marks.SUBJECT.search(clause):
            continue
        negated = marks.NEGATION.search(clause)
        if negated and not marks.EXTREME.match(text, match.start() - len(clause) + negated.start()):
            if not cue.name.startswith(("expects", "foresees")) or len(clause) - negated.end() > NEAR:
                continue
            side = -side
        inside = match[0].find(MASK)
        found.append((_Said(cue.name, side, cue.weight, *match.span()), match.start() + max(inside, 0)))
    return found


def _aimed(said: _Said, text: str, symbol: str, prices: Mapping[str, Decimal]) -> _Said:
    """A target with the side on which it lies of the price."""
    if said.name != TARGET:
        return said
    words = targets.words_of(text, said.start, said.end)
    bitcoin = prices.get(targets.BITCOIN) if symbol != targets.BITCOIN else None
    return replace(said, side=targets.side(words, prices.get(symbol), bitcoin))


def _names_other_side(text: str, cues: Sequence[_Said], every: Sequence[_Said]) -> bool:
    """Whether the sentence has words of the side that `cues` do not speak for and none of `every` holds."""
    total = sum(cue.side * cue.weight for cue in cues)
    if not total:
        return False
    other = marks.SHORT_WORDS if total > 0 else marks.LONG_WORDS
    return any(not any(cue.start <= word.start() < cue.end for cue in every) for word in other.finditer(text))


def _focus(part: Sentence, focus: list[str]) -> list[str]:
    """The tokens that a sentence without a token speaks of: what was named last."""
    named = list(dict.fromkeys(mention.symbol for mention in part.mentions))
    if named:
        return named if len(named) == 1 else []
    return [] if marks.OTHER_COIN.search(part.text) else focus


def _about(part: Sentence, at: int, focus: list[str]) -> list[str]:
    """The tokens that a cue at `at` speaks of: its nearest in the sentence with those listed beside it."""
    if not part.mentions:
        return focus
    nearest = min(part.mentions, key=lambda mention: (abs(mention.at - at), mention.at))
    clause = marks.CLAUSE.split(part.text[:at])[-1]
    start = at - len(clause)
    if start <= nearest.at and COMPOUND.match(part.text, nearest.at + 1):
        return []
    if marks.OTHER_SUBJECT.search(part.text, max(start, nearest.at) if nearest.at < at else start, at):
        return []
    return list(dict.fromkeys(mention.symbol for mention in _beside(part, nearest)))


def _beside(part: Sentence, nearest: Mention) -> list[Mention]:
    """`nearest` and the tokens that stand in one list with it ("$ETH $LTC", "ETH, LTC and XRP")."""
    group = [nearest]
    place = part.mentions.index(nearest)
    for steps in (part.mentions[place + 1 :], part.mentions[:place][::-1]):
        last = nearest
        for mention in steps:
            left, right = sorted((last.at, mention.at))
            between = part.text[left + 1 : right].strip(" ,&+/").removesuffix("and").strip(" ,")
            if between:
                break
            group.append(mention)
            last = mention
    return group


def _trades(parts: Sequence[Sentence]) -> bool:
    """Whether the post has a trader's marks: a cashtag, or a word of the charts."""
    return any(mention.cashtag for part in parts for mention in part.mentions) or any(
        marks.CHART.search(part.text) for part in parts
    )


def _sentence_doubts(part: Sentence, trader: bool) -> list[tuple[str, int]]:
    """(reason, weight) of everything that makes one sentence less of a call."""
    weighed = (
        ("speaks of what others say", 3 if trader else 5, marks.OTHERS),
        ("speaks of what others do", 2, marks.PEOPLE),
        ("speaks of the past", 2 if trader else 3, marks.PAST),
        ("looks too far ahead", 5, marks.FAR),
        ("only supposes", 5, marks.SUPPOSED),
        ("is unsure", 3, marks.UNSURE),
    )
    return [(reason, weight) for reason, weight, pattern in weighed if pattern.search(part.text)]


def _doubts(parts: Sequence[Sentence]) -> list[tuple[str, int]]:
    """(reason, weight) of everything that makes the whole post less of a call."""
    text = "\n".join(part.text for part in parts)
    weighed = (
        ("speaks to a machine", 100, marks.MACHINE.search(text)),
        ("advertises", 5, marks.ADVERT.search(text)),
        ("sounds like a joke", 7, marks.JOKE.search(text)),
        ("lists many prices", 5, len(marks.PRICE.findall(text)) >= marks.MANY_PRICES),
        ("asks", 3, any(part.question for part in parts)),
        ("has no trader's marks", 2, not _trades(parts)),
    )
    return [(reason, weight) for reason, weight, found in weighed if found]


def _judge(tallies: Mapping[str, _Tally], doubts: Sequence[tuple[str, int]]) -> Found:
    """Every token whose weight outlasts the doubts is called."""
    doubt = sum(weight for _, weight in doubts)
    left = {symbol: abs(tally.weight) - doubt for symbol, tally in tallies.items()}
    called = [
        symbol for symbol, tally in tallies.items() if left[symbol] >= THRESHOLD and not tally.contradicted
    ]
    told = "; ".join(
        f"{symbol}: {', '.join(tally.cues)} ({tally.weight:+d})" for symbol, tally in tallies.items()
    )
    local = {reason: weight for tally in tallies.values() for reason, weight in tally.doubts.items()}
    less = ", ".join(
        [f"{reason} (-{weight})" for reason, weight in (*local.items(), *doubts)]
        + [f"names both sides of {symbol}" for symbol, tally in tallies.items() if tally.contradicted]
    )
    reasoning = f"{told}{'. But it ' + less if less else ''}."[:900]
    if not called:
        return Found(False, (), "neutral", 0.2, f"No call: too little is left. {reasoning}")
    sides = {symbol: "bullish" if tallies[symbol].weight > 0 else "bearish" for symbol in called}
    strongest = max(called, key=lambda symbol: left[symbol])
    share = min((left[strongest] - THRESHOLD) / (SURE - THRESHOLD), 1.0)
    main = sides[strongest]
    return Found(
        True,
        tuple(called),
        main,
        round(LOWEST + (HIGHEST - LOWEST) * share, 3),
        f"Call. {reasoning}",
        {symbol: side for symbol, side in sides.items() if side != main},
    )
