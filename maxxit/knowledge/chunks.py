"""Split the text of a document into overlapping chunks. Pure functions."""

import re

_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\s*\n\s*\n\s*")
_SEPARATORS = ("\n\n", "\n", ". ", "! ", "? ", " ")
"""Where to split, in order of preference."""


def normalize_whitespace(text: str) -> str:
    """Return `text` with single spaces and at most one blank line in a row."""
    return _BLANK_LINES.sub("\n\n", _SPACES.sub(" ", text)).strip()


def split(text: str, chars: int, overlap: int) -> list[str]:
    """Return chunks of at most `chars` characters; each begins up to `overlap` characters before its predecessor ends.

    A chunk ends at a paragraph, line, sentence or word: the first of these that occurs in its second half.
    """
    chunks, start = [], 0
    while len(text) - start > chars:
        end = _end_of_chunk(text, start + chars // 2, start + chars)
        chunks.append(text[start:end].strip())
        space = text.find(" ", end - overlap, end) if overlap else -1
        start = space + 1 if space >= 0 else end - overlap
    chunks.append(text[start:].strip())
    return [chunk for chunk in chunks if chunk]


def _end_of_chunk(text: str, low: int, high: int) -> int:
    for separator in _SEPARATORS:
        index = text.rfind(separator, low, high)
        if index >= 0:
            return index + len(separator)
    return high
