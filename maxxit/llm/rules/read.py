"""From a text to a reading: cues per sentence, minus what makes it no call, for each token apart.

Precision first. A post is a call only when some token collects enough weight on one side; questions, reposts,
quotations, jokes, news, history and far horizons take weight away or end the matter. The text alone decides: who
wrote it, when, and what others wrote does not enter. Deterministic, and linear in the length of the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from maxxit.llm.rules import marks
from maxxit.llm.rules.cue import Cue
from maxxit.llm.rules.lexicon import CUES
from maxxit.llm.rules.text import MASK, Mention, Sentence, Words, fold, sentences

VERSION = "rules-1"
THRESHOLD = 8
"""Weight from which a token counts as called."""
MAX_TEXT = 4000
"""Characters that are read; the longest posts of any source are shorter."""
MAX_MENTIONS = 5
"""More tokens than this in one post is a list, not a call."""
SURE = 30
"""Weight at which confidence reaches its highest."""
LOWEST, HIGHEST = 0.55, 0.9
"""Confidence at the threshold and at `SURE`."""


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
        """As `maxxit.llm.reading.Reading` wants it."""
        return {
            "post_id": post_id,
            "candidate": self.candidate,
            "tokens": list(self.tokens),
            "sentiment": self.sentiment,
            "confidence": self.confidence,
            "reasoning": self.reasoning,
            "sides": dict(self.sides),
        }


@dataclass(slots=True)
class _Tally:
    """What speaks for and against one token."""

    weight: int = 0
    """Positive: up."""
    against: int = 0
    """Weight of the side that lost."""
    cues: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """Reads texts about a fixed list of tokens."""

    words: Words

    @classmethod
    def of(cls, tokens: Mapping[str, Sequence[str]]) -> "Reader":
        """A reader for symbol -> words that mean it."""
        return _reader(tuple((symbol, tuple(words)) for symbol, words in sorted(tokens.items())))

    def read(self, text: str) -> Found:
        """The reading of one text."""
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
        tallies = _tally(parts, mentioned)
        if not tallies:
            return _none("says nothing of a rise or a fall, a purchase or a sale")
        return _judge(tallies, _doubts(parts))


@lru_cache(maxsize=8)
def _reader(tokens: tuple[tuple[str, tuple[str, ...]], ...]) -> Reader:
    return Reader(Words.of(dict(tokens)))


def _none(why: str) -> Found:
    return Found(False, (), "neutral", 0.1, f"No call: {why}.")


def _tally(parts: Sequence[Sentence], mentioned: Sequence[str]) -> dict[str, _Tally]:
    """The cues of every sentence that is no question, added up for the tokens that they speak of."""
    tallies: dict[str, _Tally] = {}
    for part in parts:
        if part.question:
            continue
        for cue, start, side in _cues(part):
            for symbol in _about(part, start, mentioned):
                tally = tallies.setdefault(symbol, _Tally())
                if cue.name in tally.cues:
                    continue
                tally.cues.append(cue.name)
                tally.weight += side * cue.weight
    return tallies


def _cues(part: Sentence) -> list[tuple[Cue, int, int]]:
    """(cue, where, side) in one sentence. A negated cue speaks for the other side when it is about direction."""
    found = []
    for cue in CUES:
        match = cue.pattern.search(part.text)
        if match is None:
            continue
        side = cue.side
        if cue.name != "never short" and marks.NEGATION.search(
            part.text[max(0, match.start() - 30) : match.start()]
        ):
            if not cue.name.startswith("expects"):
                continue
            side = -side
        inside = match[0].find(MASK)
        found.append((cue, match.start() + max(inside, 0), side))
    return found


def _about(part: Sentence, at: int, mentioned: Sequence[str]) -> list[str]:
    """The tokens that a cue at `at` speaks of: its nearest in the sentence with those listed beside it."""
    if not part.mentions:
        return list(mentioned) if len(mentioned) == 1 else []
    nearest = min(part.mentions, key=lambda mention: (abs(mention.at - at), mention.at))
    distance = abs(nearest.at - at)
    if any(0 < at - other.end() < distance for other in marks.OTHER_SUBJECT.finditer(part.text)):
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


def _doubts(parts: Sequence[Sentence]) -> list[tuple[str, int]]:
    """(reason, weight) of everything that makes the whole post less of a call."""
    text = "\n".join(part.text for part in parts)
    cashtag = any(mention.cashtag for part in parts for mention in part.mentions)
    trader = cashtag or bool(marks.CHART.search(text))
    weighed = (
        ("speaks to a machine", 100, marks.MACHINE.search(text)),
        ("sounds like a joke", 7, marks.JOKE.search(text)),
        ("speaks of what others say", 3 if trader else 5, marks.OTHERS.search(text)),
        ("speaks of what others do", 2, marks.PEOPLE.search(text)),
        ("speaks of the past", 2 if trader else 3, marks.PAST.search(text)),
        ("looks too far ahead", 5, marks.FAR.search(text)),
        ("only supposes", 5, marks.SUPPOSED.search(text)),
        ("lists many prices", 5, len(marks.PRICE.findall(text)) >= marks.MANY_PRICES),
        ("asks", 3, any(part.question for part in parts)),
        ("is unsure", 3, marks.UNSURE.search(text)),
        ("has no trader's marks", 2, not trader),
    )
    return [(reason, weight) for reason, weight, found in weighed if found]


def _judge(tallies: Mapping[str, _Tally], doubts: Sequence[tuple[str, int]]) -> Found:
    """Every token whose weight outlasts the doubts is called."""
    doubt = sum(weight for _, weight in doubts)
    left = {symbol: abs(tally.weight) - doubt for symbol, tally in tallies.items()}
    called = [symbol for symbol in tallies if left[symbol] >= THRESHOLD]
    told = "; ".join(
        f"{symbol}: {', '.join(tally.cues)} ({tally.weight:+d})" for symbol, tally in tallies.items()
    )
    less = ", ".join(f"{reason} (-{weight})" for reason, weight in doubts)
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
