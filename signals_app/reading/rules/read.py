"""The lexical reader: adds up the cues of each sentence per token, less deductions for doubts, and decides on a call.

Precision comes before recall. A post is a call only when a token has enough weight on one side; questions, reposts,
quotations, jokes, news, history and far horizons deduct weight or exclude the call. Closing or reducing a position
opens nothing. Only the text counts, and for a target the token's price at the time of writing, not the author or other
posts. Deterministic, and linear in the length of the text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from maxxit.core.errors import Misconfigured
from signals_app.reading.rules import marks, positions, targets
from signals_app.reading.rules.further_lexicon import FURTHER_CUES, FURTHER_DOUBTS
from signals_app.reading.rules.grammar import CLASSES, Cue
from signals_app.reading.rules.lexicon import CUES
from signals_app.reading.rules.text import MASK, Mention, Sentence, Words, fold, sentences


@dataclass(frozen=True, slots=True)
class Grammar:
    """A version of the reader's rules. A published version never changes: recorded runs name theirs."""

    version: str
    cues: tuple[Cue, ...] = CUES
    doubts: tuple[tuple[str, int, re.Pattern[str]], ...] = ()
    """Deductions of a sentence beside those of every version: (reason, weight, pattern)."""
    loose_tags: bool = False
    """Whether a tag may follow any sign ("...#BTC") and touch letters of languages without spaces."""


GRAMMARS: Mapping[str, Grammar] = {
    grammar.version: grammar
    for grammar in (
        Grammar("rules-3"),
        Grammar("rules-4", (*CUES, *FURTHER_CUES), FURTHER_DOUBTS, loose_tags=True),
    )
}
VERSION = "rules-4"
"""The newest; `model` of a provider with the adapter `rules` names another."""
CHECKED_VERSION = "rules-3"
"""The version of `signals_app.verify`, of the published author records, and of the prices in a question.

It stays while `VERSION` moves on, so that verdicts, records and the requests of recordings, which are looked up by
their bytes, stay the same. The price: a tag that `rules-4` alone sees ("...#BTC") gets no price, whichever reader is
asked, so that a target of that token supports other cues and is no call by itself. A lost call of such a post does less
harm than recordings that no longer answer; `reader-1` was fitted to prices of this version, too.
"""
THRESHOLD = 8
"""Minimum weight of a called token."""
MAX_TEXT = 4000
"""Characters that are read."""
MAX_MENTIONS = 5
"""More tokens than this in one post is a list, not a call."""
TARGET = "target"
"""A target has no side of its own: it is compared with the price at the time of writing and with the other cues."""
POSITION = 10
"""Weight of a position that an author opens, adds to or keeps."""
VERBAL = ("expects up", "expects down")
"""Cues that are verbs: they need a subject."""
NEAR = 12
"""Maximum characters between a negation and the cue that it reverses."""
SURE = 30
"""Weight at which confidence reaches its highest."""
LOWEST, HIGHEST = 0.55, 0.9
"""Confidence at the threshold and at `SURE`."""
COMPOUND = re.compile(rf" {CLASSES['THING']}")
"""A noun after a token that makes the token its modifier ("bitcoin futures")."""


@dataclass(frozen=True, slots=True)
class LexicalReading:
    """The result of reading one text."""

    candidate: bool
    tokens: tuple[str, ...]
    sentiment: str
    confidence: float
    reasoning: str
    sides: Mapping[str, str] = field(default_factory=dict)

    def as_json(self, post_id: str) -> dict[str, Any]:
        """Convert to the fields of `signals_app.reading.schema.Reading`."""
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
class _Match:
    """A cue found in a sentence."""

    name: str
    side: int
    """1 up, -1 down, 0 none: a target without a known price, or the end of a position."""
    weight: int
    start: int
    end: int


@dataclass(slots=True)
class _Tally:
    """The weights of one token's cues and deductions."""

    weight: int = 0
    """Positive: up."""
    cues: list[str] = field(default_factory=list)
    doubts: dict[str, int] = field(default_factory=dict)
    """Deductions of the sentences; already subtracted from the weight."""
    contradicted: bool = False
    """A target contradicts the other cues, or both sides are named."""

    def add(self, cues: Sequence[_Match], doubts: Sequence[tuple[str, int]]) -> None:
        """Add the cues of one sentence; its deductions are at most its weight."""
        total = sum(cue.side * cue.weight for cue in cues)
        target_sides = {cue.side for cue in cues if cue.name == TARGET} - {0}
        if len(target_sides | ({1 if total > 0 else -1} if total else set())) > 1:
            self.contradicted = True
        if total and all(cue.side == 0 for cue in cues if cue.name == TARGET):
            total += sum((1 if total > 0 else -1) * cue.weight for cue in cues if cue.name == TARGET)
        net = max(abs(total) - sum(weight for _, weight in doubts), 0)
        self.weight += net if total > 0 else -net
        self.cues += [cue.name for cue in cues]
        self.doubts |= dict(doubts)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against a call of one token."""

    weight: int
    """Positive: up; less the deductions of the sentences."""
    cues: tuple[str, ...]
    doubts: tuple[str, ...]
    """Deductions of the sentences and of the post."""
    contradicted: bool
    called: bool


@dataclass(frozen=True)
class Reader:
    """Reads texts about a fixed list of tokens."""

    words: Words
    grammar: Grammar = GRAMMARS[VERSION]

    @classmethod
    def of(cls, tokens: Mapping[str, Sequence[str]], version: str = VERSION) -> "Reader":
        """Return the (cached) reader for symbol -> words that mean it.

        Raises `Misconfigured` for an unknown version.
        """
        if version not in GRAMMARS:
            raise Misconfigured(
                f"the lexical reader has no version {version!r}: set `model` of the provider `rules` in "
                f"config/llm.yaml to one of {', '.join(GRAMMARS)}"
            )
        return _reader(tuple((symbol, tuple(words)) for symbol, words in sorted(tokens.items())), version)

    def read(self, text: str, prices: Mapping[str, Decimal] | None = None) -> LexicalReading:
        """Read one text; `prices` are the known USD prices by symbol at the time of writing.

        Without a price a target supports the other cues and is no call by itself.
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
        tallies = _tally(parts, mentioned, prices or {}, self.grammar)
        if not tallies:
            return _none("says nothing of a rise or a fall, a purchase or a sale")
        return _judge(tallies, _doubts(parts))

    def evidence(self, text: str, prices: Mapping[str, Decimal] | None = None) -> dict[str, Evidence]:
        """Return symbol -> evidence for each token that the text says something of."""
        text = text[:MAX_TEXT]
        parts = sentences(fold(text), self.words)
        mentioned = list(dict.fromkeys(mention.symbol for part in parts for mention in part.mentions))
        tallies = _tally(parts, mentioned, prices or {}, self.grammar)
        doubts = _doubts(parts)
        called = set(self.read(text, prices).tokens)
        return {
            symbol: Evidence(
                tally.weight,
                tuple(tally.cues),
                (*tally.doubts, *(reason for reason, _ in doubts)),
                tally.contradicted,
                symbol in called,
            )
            for symbol, tally in tallies.items()
        }

    def priced(self, text: str) -> set[str]:
        """Return the tokens whose prices a reading may need: those named, and bitcoin for targets in bitcoin."""
        named = self.words.named(text)
        return named | ({targets.BITCOIN} & set(self.words.symbols.values())) if named else named

    def positions(self, text: str) -> dict[str, set[int]]:
        """Return the sides of the author's positions: symbol -> {1 long, -1 short, 0 reduced or closed}."""
        sides: dict[str, set[int]] = {}
        for part in sentences(fold(text[:MAX_TEXT]), self.words):
            held = [] if part.question else positions.statements(part.text)
            firm = [statement for statement in held if statement.direction or statement.ends]
            for match, at in _positions(part.text, firm):
                for symbol in _about(part, at, []):
                    sides.setdefault(symbol, set()).add(match.side)
        return sides


@lru_cache(maxsize=8)
def _reader(tokens: tuple[tuple[str, tuple[str, ...]], ...], version: str) -> Reader:
    grammar = GRAMMARS[version]
    return Reader(Words.of(dict(tokens), loose=grammar.loose_tags), grammar)


def _none(why: str) -> LexicalReading:
    return LexicalReading(False, (), "neutral", 0.1, f"No call: {why}.")


def _tally(
    parts: Sequence[Sentence], mentioned: Sequence[str], prices: Mapping[str, Decimal], grammar: Grammar
) -> dict[str, _Tally]:
    """Add up the cues of every sentence that is not a question, less its deductions, per token."""
    tallies: dict[str, _Tally] = {}
    trader = _trades(parts)
    focus = list(mentioned) if len(mentioned) == 1 else []
    for part in parts:
        focus = _focus(part, focus)
        if part.question or not (part.mentions or focus):
            continue
        by_symbol: dict[str, list[_Match]] = {}
        held = positions.statements(part.text)
        for match, at in (
            *_positions(part.text, held),
            *_cues(part, positions.without(part.text, held), grammar.cues),
        ):
            for symbol in _about(part, at, focus):
                by_symbol.setdefault(symbol, []).append(_with_side(match, part.text, symbol, prices))
        if not by_symbol:
            continue
        doubts = _sentence_doubts(part, trader, grammar.doubts)
        every = [cue for cues in by_symbol.values() for cue in cues]
        for symbol, cues in by_symbol.items():
            tally = tallies.setdefault(symbol, _Tally())
            tally.add([cue for cue in cues if cue.name not in tally.cues], doubts)
            tally.contradicted |= _names_other_side(part.text, cues, every)
    return tallies


def _positions(text: str, held: Sequence[positions.Statement]) -> list[tuple[_Match, int]]:
    """Convert statements on positions to (match, offset); the end of a position has no side."""
    matches = []
    for statement in held:
        inside = text.find(MASK, statement.start, statement.end)
        where = statement.end if inside < 0 else inside
        match = _Match(statement.name, statement.direction, POSITION, statement.start, statement.end)
        matches.append((match, where))
    return matches


def _cues(part: Sentence, text: str, cues: Sequence[Cue]) -> list[tuple[_Match, int]]:
    """Find the cues of a sentence as (match, offset).

    A negated expectation supports the other side; other negated cues support none.
    """
    matches: list[tuple[_Match, int]] = []
    for cue in cues:
        match = cue.pattern.search(text)
        if match is None or (cue.name == TARGET and any(one.name == TARGET for one, _ in matches)):
            continue  # a target counts once, whichever phrase finds it
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
        matches.append((_Match(cue.name, side, cue.weight, *match.span()), match.start() + max(inside, 0)))
    return matches


def _with_side(match: _Match, text: str, symbol: str, prices: Mapping[str, Decimal]) -> _Match:
    """Give a target its side, above or below the price."""
    if match.name != TARGET:
        return match
    words = targets.words_of(text, match.start, match.end)
    bitcoin = prices.get(targets.BITCOIN) if symbol != targets.BITCOIN else None
    return replace(match, side=targets.side(words, prices.get(symbol), bitcoin))


def _names_other_side(text: str, cues: Sequence[_Match], every: Sequence[_Match]) -> bool:
    """Return whether the sentence has words of the opposite side outside all matches."""
    total = sum(cue.side * cue.weight for cue in cues)
    if not total:
        return False
    other = marks.SHORT_WORDS if total > 0 else marks.LONG_WORDS
    return any(not any(cue.start <= word.start() < cue.end for cue in every) for word in other.finditer(text))


def _focus(part: Sentence, focus: list[str]) -> list[str]:
    """Return the tokens that a sentence without a token refers to: the one named last."""
    named = list(dict.fromkeys(mention.symbol for mention in part.mentions))
    if named:
        return named if len(named) == 1 else []
    return [] if marks.OTHER_COIN.search(part.text) else focus


def _about(part: Sentence, at: int, focus: list[str]) -> list[str]:
    """Return the tokens that a cue at offset `at` refers to: the nearest one, with those in the same list."""
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
    """Return `nearest` and the tokens in one list with it ("$ETH $LTC", "ETH, LTC and XRP")."""
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
    """Return whether the post has a cashtag or a chart term."""
    return any(mention.cashtag for part in parts for mention in part.mentions) or any(
        marks.CHART.search(part.text) for part in parts
    )


def _sentence_doubts(
    part: Sentence, trader: bool, further: Sequence[tuple[str, int, re.Pattern[str]]]
) -> list[tuple[str, int]]:
    """Return the deductions of one sentence as (reason, weight)."""
    weighed = (
        ("speaks of what others say", 3 if trader else 5, marks.OTHERS),
        ("speaks of what others do", 2, marks.PEOPLE),
        ("speaks of the past", 2 if trader else 3, marks.PAST),
        ("looks too far ahead", 5, marks.FAR),
        ("only supposes", 5, marks.SUPPOSED),
        ("is unsure", 3, marks.UNSURE),
        *further,
    )
    return [(reason, weight) for reason, weight, pattern in weighed if pattern.search(part.text)]


def _doubts(parts: Sequence[Sentence]) -> list[tuple[str, int]]:
    """Return the deductions of the whole post as (reason, weight)."""
    text = "\n".join(part.text for part in parts)
    weighed = (
        ("speaks to a machine", 100, marks.MACHINE.search(text)),
        ("advertises", 5, marks.ADVERT.search(text)),
        ("sounds like a joke", 7, marks.JOKE.search(text)),
        ("lists many prices", 5, len(marks.PRICE.findall(text)) >= marks.MANY_PRICES),
        ("asks", 3, any(part.question for part in parts)),
        ("has no trader's marks", 2, not _trades(parts)),
    )
    return [(reason, weight) for reason, weight, applies in weighed if applies]


def _judge(tallies: Mapping[str, _Tally], doubts: Sequence[tuple[str, int]]) -> LexicalReading:
    """Call every token whose weight reaches the threshold after the post's deductions."""
    doubt = sum(weight for _, weight in doubts)
    net = {symbol: abs(tally.weight) - doubt for symbol, tally in tallies.items()}
    called = [
        symbol for symbol, tally in tallies.items() if net[symbol] >= THRESHOLD and not tally.contradicted
    ]
    cues = "; ".join(
        f"{symbol}: {', '.join(tally.cues)} ({tally.weight:+d})" for symbol, tally in tallies.items()
    )
    local = {reason: weight for tally in tallies.values() for reason, weight in tally.doubts.items()}
    less = ", ".join(
        [f"{reason} (-{weight})" for reason, weight in (*local.items(), *doubts)]
        + [f"names both sides of {symbol}" for symbol, tally in tallies.items() if tally.contradicted]
    )
    reasoning = f"{cues}{'. But it ' + less if less else ''}."[:900]
    if not called:
        return LexicalReading(
            False, (), "neutral", 0.2, f"No call: weight below {THRESHOLD}, or contradictory. {reasoning}"
        )
    sides = {symbol: "bullish" if tallies[symbol].weight > 0 else "bearish" for symbol in called}
    strongest = max(called, key=lambda symbol: net[symbol])
    share = min((net[strongest] - THRESHOLD) / (SURE - THRESHOLD), 1.0)
    main = sides[strongest]
    return LexicalReading(
        True,
        tuple(called),
        main,
        round(LOWEST + (HIGHEST - LOWEST) * share, 3),
        f"Call. {reasoning}",
        {symbol: side for symbol, side in sides.items() if side != main},
    )
