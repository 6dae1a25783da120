"""How well a reader reads: its readings against labels. Pure, apart from reading the two files.

A label says of one post whether it is a call (`candidate`), and if so for which tokens and sides. The halves are
drawn by the SHA-256 of the post's id: rules are tuned on one and reported on the other.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured
from signals_app.reading.schema import Reading

SIDES = {"long": "bullish", "short": "bearish"}
HALVES = ("tuning", "reporting")
BINS = 10


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says of one post."""

    post_id: str
    username: str
    sides: Mapping[str, str]
    """Token -> bullish or bearish; empty: no call."""

    @property
    def candidate(self) -> bool:
        """Whether it is a call."""
        return bool(self.sides)


@dataclass(frozen=True, slots=True)
class Judged:
    """One post, its label and its reading."""

    label: Label
    text: str
    reading: Reading

    @property
    def called(self) -> dict[str, str]:
        """Token -> bullish or bearish, as read; empty: no call."""
        if not self.reading.candidate:
            return {}
        return {token: self.reading.sides.get(token, self.reading.sentiment) for token in self.reading.tokens}


@dataclass
class Counts:
    """The confusion matrix of one class and what follows from it."""

    found: int = 0
    false: int = 0
    missed: int = 0

    @property
    def precision(self) -> float | None:
        """Fraction of what was found that is right."""
        return _share(self.found, self.found + self.false)

    @property
    def recall(self) -> float | None:
        """Fraction of what there is that was found."""
        return _share(self.found, self.found + self.missed)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both."""
        return _share(2 * self.found, 2 * self.found + self.false + self.missed)

    def as_json(self) -> dict[str, Any]:
        """For people and machines."""
        named = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        counted = {"found": self.found, "false": self.false, "missed": self.missed}
        intervals = {
            "precision_95": interval(self.found, self.found + self.false),
            "recall_95": interval(self.found, self.found + self.missed),
        }
        rounded = {name: None if value is None else round(value, 4) for name, value in named.items()}
        return counted | rounded | intervals


@dataclass
class Figures:
    """Everything that one evaluation found out about quality."""

    posts: int = 0
    classes: dict[str, Counts] = field(default_factory=dict)
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    """Label -> reading -> posts; classes are none, long, short, mixed."""
    sides_right: int = 0
    sides_wrong: int = 0
    calibration: list[dict[str, float]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def side_accuracy(self) -> float | None:
        """Among tokens that both the label and the reading call."""
        return _share(self.sides_right, self.sides_right + self.sides_wrong)


def interval(part: int, whole: int) -> tuple[float, float] | None:
    """The 95 % interval of a share, after Wilson (1927): it holds for few and for extreme counts; None without any."""
    if not whole:
        return None
    z, share = 1.959964, part / whole
    middle = share + z * z / (2 * whole)
    reach = z * sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole))
    scale = 1 + z * z / whole
    return round((middle - reach) / scale, 4), round((middle + reach) / scale, 4)


def half(post_id: str) -> str:
    """`tuning` or `reporting`."""
    return HALVES[sha256(post_id.encode()).digest()[0] % 2]


def read_labels(path: Path) -> list[Label]:
    """The labels of a file `id,username,label,token,side`; a post with several tokens has several lines."""
    made: dict[str, tuple[str, dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                _, sides = made.setdefault(row["id"], (row["username"], {}))
                if row["label"] == "candidate":
                    sides[row["token"]] = SIDES[row["side"]]
                elif row["label"] != "none":
                    raise ValueError(f"label {row['label']!r}")
            except (KeyError, ValueError) as error:
                raise Misconfigured(
                    f"{path}, line {number}: {error!r}; want id,username,label,token,side"
                ) from None
    return [Label(post, username, sides) for post, (username, sides) in made.items()]


def read_texts(path: Path, wanted: Iterable[str]) -> dict[str, str]:
    """Post id -> text, of a JSON-lines file."""
    ids = set(wanted)
    with path.open(encoding="utf-8") as file:
        posts = (json.loads(line) for line in file if line.strip())
        return {post["id"]: post["text"] for post in posts if post["id"] in ids}


def judge(judged: Sequence[Judged]) -> Figures:
    """All figures over the posts."""
    figures = Figures(posts=len(judged), classes={name: Counts() for name in ("candidate", "long", "short")})
    for one in judged:
        said, read = one.label.sides, one.called
        _count(figures.classes["candidate"], bool(said), bool(read))
        for name, side in SIDES.items():
            _count(figures.classes[name], side in said.values(), side in read.values())
        row = figures.confusion.setdefault(_class(said), {})
        row[_class(read)] = row.get(_class(read), 0) + 1
        for token in said.keys() & read.keys():
            figures.sides_right += said[token] == read[token]
            figures.sides_wrong += said[token] != read[token]
        if bool(said) != bool(read) or any(said[token] != read[token] for token in said.keys() & read.keys()):
            figures.errors.append(_error(one))
    figures.errors.sort(key=lambda error: (-error["confidence"], error["post_id"]))
    figures.calibration = _calibration(judged)
    return figures


def _count(counts: Counts, said: bool, read: bool) -> None:
    counts.found += said and read
    counts.false += read and not said
    counts.missed += said and not read


def _class(sides: Mapping[str, str]) -> str:
    values = set(sides.values())
    if len(values) > 1:
        return "mixed"
    return {"bullish": "long", "bearish": "short"}.get(next(iter(values), ""), "none")


def _error(one: Judged) -> dict[str, Any]:
    kind = "false call" if not one.label.candidate else "missed" if not one.called else "wrong side"
    return {
        "kind": kind,
        "post_id": one.label.post_id,
        "username": one.label.username,
        "label": dict(one.label.sides),
        "read": one.called,
        "confidence": float(one.reading.confidence),
        "reasoning": one.reading.reasoning,
        "text": one.text,
    }


def _calibration(judged: Sequence[Judged]) -> list[dict[str, float]]:
    """For tenths of confidence: how many calls, how sure on average, and how many of them were right."""
    bins: dict[int, list[Judged]] = {}
    for one in judged:
        if one.called:
            bins.setdefault(min(int(one.reading.confidence * BINS), BINS - 1), []).append(one)
    return [
        {
            "from": place / BINS,
            "calls": len(calls),
            "confidence": round(sum(float(one.reading.confidence) for one in calls) / len(calls), 4),
            "right": round(sum(one.label.candidate for one in calls) / len(calls), 4),
        }
        for place, calls in sorted(bins.items())
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
