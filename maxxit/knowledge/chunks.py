"""A document's text -> overlapping passages. Pure."""

import re

_BLANKS = re.compile(r"[^\S\n]+")
_GAPS = re.compile(r"\s*\n\s*\n\s*")
_ENDS = ("\n\n", "\n", ". ", "! ", "? ", " ")
"""Where to cut, the best first."""


def tidied(text: str) -> str:
    """The text with single blanks and at most one empty line in a row."""
    return _GAPS.sub("\n\n", _BLANKS.sub(" ", text)).strip()


def cut(text: str, chars: int, overlap: int) -> list[str]:
    """Passages of at most `chars` characters; each begins up to `overlap` before the end of the one before.

    Cut at a paragraph, a line, a sentence or a word, the first of these that there is in its second half.
    """
    found, start = [], 0
    while len(text) - start > chars:
        end = _end(text, start + chars // 2, start + chars)
        found.append(text[start:end].strip())
        blank = text.find(" ", end - overlap, end) if overlap else -1
        start = blank + 1 if blank >= 0 else end - overlap
    found.append(text[start:].strip())
    return [one for one in found if one]


def _end(text: str, low: int, high: int) -> int:
    for mark in _ENDS:
        place = text.rfind(mark, low, high)
        if place >= 0:
            return place + len(mark)
    return high
