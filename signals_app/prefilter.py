"""The prefilter: recognises posts that no model needs to see. Pure."""

import re
from functools import lru_cache

from signals_app.reading.rules.text import PAIR, WORD
from signals_app.reasons import PrefilterReason

MIN_LENGTH = 30
"""Characters below which a post without a token cannot be a call."""
_NOISE = re.compile(r"https?://\S+|@\w*|[^\w$#@]+", re.ASCII)
_CHATTER = re.compile(
    r"(gm|gn|good (morning|night|evening)|thanks?( you)?|thx|lol|lmao|haha+|happy (birthday|new year|holidays)|"
    r"merry (christmas|xmas)|congrats|congratulations|welcome|yes|no|ok|okay|agreed|exactly|true|this|same|wow|nice)"
    r"( (all|everyone|fam|ct|twitter|frens|guys|you|man|sir|bro))*"
)


def mentions(text: str, words: list[str]) -> bool:
    """Return whether `text` contains any of `words` (lower case) as a whole word: "op" is not in "stop".

    Chinese, Japanese and Korean letters end a word; the name of a pair, such as btcusdt, contains its token.
    """
    return _any_of(tuple(words)).search(text.lower()) is not None


@lru_cache(maxsize=1024)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of one of these whole words; of none where there are none."""
    return re.compile(rf"(?<!{WORD})(?:{'|'.join(map(re.escape, words)) or '(?!)'}){PAIR}(?!{WORD})")


def reason(text: str, words: list[str]) -> str:
    """Return why a post needs no model: `empty`, `chatter` or `too_short`; an empty string lets it pass.

    `words` are all words that mean a listed token.
    """
    bare = _NOISE.sub(" ", text).strip().lower()
    if not bare:
        return PrefilterReason.EMPTY
    if _CHATTER.fullmatch(bare):
        return PrefilterReason.CHATTER
    if len(text) < MIN_LENGTH and not mentions(text, words):
        return PrefilterReason.TOO_SHORT
    return ""
