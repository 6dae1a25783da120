"""Features of a post about one of its tokens, for the trained reader: words, letters, and what the grammar found. Pure.

Every feature has a name that a person can read, so that a reading can be explained by its heaviest features.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import combinations, pairwise

from signals_app.reading.rules import marks, positions, targets
from signals_app.reading.rules.read import MAX_TEXT, Evidence, Reader
from signals_app.reading.rules.text import MASK, Sentence, fold, sentences
from signals_app.reading.trained.word_classes import classes

OTHER = "¤"
"""The sign for another listed token than the one in question."""
COIN = "¢"
"""The sign for a cashtag that is not listed."""
NEAR = 4
"""Words on each side of the token that count as near it."""
BESIDE = 20
"""Characters between the token and a word that count as beside it."""
MOST_CLASSES = 16
"""Classes of a sentence that are paired."""
MOST_TOKENS = 8
"""More tokens than this are not told apart in the features."""
_PIECE = re.compile(
    rf"[{MASK}{OTHER}{COIN}@]|\d[\d.,]*\s?[km%](?!\w)|\d[\d.,]*x(?!\w)|\$?\d[\d.,]*|[#$]?[^\W\d_][\w'-]*|[^\w\s]"
)
_TAG = rf"(?:[{MASK}{OTHER}{COIN}]|[#$][^\W\d_]\w*)"
_TAGS_AFTER = re.compile(
    rf"(?:[\s|/,()]+{_TAG}){{2,}}[\s|/,()]*$|(?<=[.!?…]) *{_TAG}(?:[\s|/,()]+{_TAG})*\s*$"
)
_TAGS_BEFORE = re.compile(rf"^(?:(?:{MASK}|#[^\W\d_]\w*)[\s|/,()]+){{2,}}")
_REPEATED = re.compile(rf"{MASK}(?:[\s/,(]*{MASK}\)?)+")
_CASHTAG = re.compile(r"\$[a-z]{2,7}\b")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_MARKS = {
    "joke": marks.JOKE,
    "advert": marks.ADVERT,
    "machine": marks.MACHINE,
    "others": marks.OTHERS,
    "people": marks.PEOPLE,
    "past": marks.PAST,
    "far": marks.FAR,
    "supposed": marks.SUPPOSED,
    "chart": marks.CHART,
    "negation": marks.NEGATION,
    "unsure": marks.UNSURE,
    "other coin": marks.OTHER_COIN,
    "long words": marks.LONG_WORDS,
    "short words": marks.SHORT_WORDS,
}


def by_token(reader: Reader, text: str, prices: Mapping[str, Decimal]) -> dict[str, dict[str, float]]:
    """Return symbol -> feature -> value for each listed token that the author's own words name."""
    text = text[:MAX_TEXT]
    parts = sentences(fold(text), reader.words)
    symbols = list(dict.fromkeys(mention.symbol for part in parts for mention in part.mentions))
    evidence = reader.evidence(text, prices)
    of_post = dict(_of_post(symbols, parts, text))
    return {
        symbol: dict(_features(symbol, symbols, parts, of_post, evidence, prices))
        for symbol in symbols[:MOST_TOKENS]
    }


def is_of_grammar(name: str) -> bool:
    """Return whether a feature is what the grammar concluded, rather than what the text has."""
    return name.startswith(("grammar", "cue ", "doubt "))


def _features(
    symbol: str,
    symbols: Sequence[str],
    parts: Sequence[Sentence],
    of_post: Mapping[str, float],
    evidence: Mapping[str, Evidence],
    prices: Mapping[str, Decimal],
) -> Iterator[tuple[str, float]]:
    """Yield the features of the post about one token; all lie between 0 and 1 or near it."""
    yield from _of_grammar(evidence.get(symbol), evidence, symbol)
    yield from of_post.items()
    about = list(_about(symbol, parts, len(symbols) == 1))
    counted: Counter[str] = Counter()
    for part, named in about:
        masked = _told_apart(part, symbol)
        counted.update(_of_words(masked, named))
        counted.update(_of_classes(without_tags(masked)))
        counted.update(_of_marks(part.text))
        counted.update(_of_numbers(part.text, prices.get(symbol)))
    yield "sentences about it", min(len(about), 4) / 4
    for name in counted:
        yield name, 1.0


def _about(symbol: str, parts: Sequence[Sentence], alone: bool) -> Iterator[tuple[Sentence, bool]]:
    """Yield (sentence, names the token) for each sentence about the token: those without another, if it was named."""
    focus = alone
    for part in parts:
        named = {mention.symbol for mention in part.mentions}
        if named:
            focus = symbol in named
        if focus:
            yield part, bool(named)


def _told_apart(part: Sentence, symbol: str) -> str:
    """Mask other listed tokens and cashtags by signs of their own."""
    letters = list(part.text)
    for mention in part.mentions:
        letters[mention.at] = MASK if mention.symbol == symbol else OTHER
    return _CASHTAG.sub(COIN, "".join(letters))


def _shape(piece: str) -> str:
    """Replace digits, so that all prices, percentages and multiples look alike."""
    if not re.search(r"\d", piece):
        return piece.lstrip("#").removesuffix("'s") or piece
    return "0" + re.sub(r"[\d.,\s$]", "", piece)


def _of_words(text: str, named: bool) -> Iterator[str]:
    """Yield single words, pairs, triples around the token, words near it, letters of languages without spaces."""
    pieces = ["^", *(_shape(piece) for piece in _PIECE.findall(text)), "$"]
    for place, piece in enumerate(pieces):
        if piece not in "^$.,":
            yield f"w {piece}"
        if place + 1 < len(pieces):
            yield f"w {piece} {pieces[place + 1]}"
        if piece == MASK:
            for near in pieces[max(place - NEAR, 0) : place]:
                yield f"before {near}"
            for near in pieces[place + 1 : place + 1 + NEAR]:
                yield f"after {near}"
    if not named:
        yield "a sentence without it"
    for run in _CJK.findall(text):
        yield f"w {run}"


def without_tags(text: str) -> str:
    """Return a masked sentence without runs of tags around it and with one sign for each run of the token."""
    text = _TAGS_AFTER.sub(lambda run: f" {MASK}" if MASK in run[0] else "", text)
    text = _TAGS_BEFORE.sub(lambda run: f"{MASK} " if MASK in run[0] else "", text)
    return _REPEATED.sub(MASK, text).strip()


def _of_classes(text: str) -> Iterator[str]:
    """Yield the classes of words, pairs of them in a row and in the sentence, and those beside the token."""
    found = [("^", -1), *((name, at) for at, name in classes(text))]
    tokens = [at for at, sign in enumerate(text) if sign == MASK]
    for (name, at), (following, _) in pairwise([*found, ("$", len(text))]):
        yield f"c {name} {following}"
        if at < 0:
            continue
        yield f"c {name}"
        if any(0 < token - at <= BESIDE for token in tokens):
            yield f"c {name} > {MASK}"
        if any(0 < at - token <= BESIDE for token in tokens):
            yield f"c {MASK} > {name}"
    names = sorted({name for name, at in found if at >= 0})
    yield from (f"c {one} & {other}" for one, other in combinations(names[:MOST_CLASSES], 2))


def _of_marks(text: str) -> Iterator[str]:
    for name, pattern in _MARKS.items():
        if pattern.search(text):
            yield f"mark {name}"
    for statement in positions.statements(text):
        yield f"position {statement.deed.name.lower()} {statement.side} {statement.form.name.lower()}"


def _of_numbers(text: str, price: Decimal | None) -> Iterator[str]:
    """Yield whether prices in the sentence lie above or below the price at the time."""
    for match in marks.PRICE.finditer(text):
        side = targets.side(match[0], price) if price else 0
        yield f"price {'above' if side > 0 else 'below' if side < 0 else 'near or unknown'}"


def _of_post(symbols: Sequence[str], parts: Sequence[Sentence], text: str) -> Iterator[tuple[str, float]]:
    """Yield the features that are the same for every token of the post."""
    yield "tokens", min(len(symbols), 5) / 5
    yield "sentences", min(len(parts), 6) / 6
    yield "length", min(len(text), 280) / 280
    if marks.REPOST.match(text):
        yield "repost", 1.0
    if any(part.question for part in parts):
        yield "asks", 1.0
    if parts and all(part.question for part in parts):
        yield "only asks", 1.0
    if "http" in text:
        yield "link", 1.0
    if text.lstrip().startswith("@"):
        yield "reply", 1.0
    if "“" in "".join(part.text for part in parts):
        yield "quotation", 1.0
    if _is_truncated(text):
        yield "truncated", 1.0
    hashtags = len(re.findall(r"(?<!\w)#\w", text))
    yield "hashtags", min(hashtags, 6) / 6
    yield "numbers", min(len(re.findall(r"\d[\d.,]*", text)), 8) / 8


def _is_truncated(text: str) -> bool:
    """Return whether a text ends with an ellipsis, or with one and a link after it."""
    *before, last = text.rsplit(maxsplit=1) or [""]
    if last.endswith("…") or "…http" in last:
        return True
    return bool(before) and before[0].endswith("…") and last.startswith("http")


def _of_grammar(
    found: Evidence | None, every: Mapping[str, Evidence], symbol: str
) -> Iterator[tuple[str, float]]:
    if any(one.called for name, one in every.items() if name != symbol):
        yield "grammar calls another token", 1.0
    if found is None:
        return
    if found.called:
        yield f"grammar calls {'long' if found.weight > 0 else 'short'}", 1.0
        yield "grammar calls", 1.0
    yield "grammar weight", min(abs(found.weight), 30) / 15
    yield f"grammar leans {'long' if found.weight > 0 else 'short'}", float(found.weight != 0)
    if found.contradicted:
        yield "grammar: both sides", 1.0
    for cue in dict.fromkeys(found.cues):
        yield f"cue {cue}", 1.0
    for reason in found.doubts:
        yield f"doubt {reason}", 1.0
