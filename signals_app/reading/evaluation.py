"""Evaluates a reader against labelled posts: precision, recall, confusion, calibration. Pure, except two file readers.

A label says whether a post is a call (`candidate`), and on which tokens and sides. The halves are drawn by the SHA-256
of the post's id: the lexical reader is tuned on one and reported on the other.
"""

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from maxxit.core import untrusted
from maxxit.core.errors import Misconfigured
from maxxit.core.files import lines, raw_lines
from maxxit.core.intervals import wilson
from maxxit.learning.metrics import ReadingMetrics
from signals_app.reading.schema import Reading

SIDES = {"long": "bullish", "short": "bearish"}
LABEL_COLUMNS = ("id", "username", "label", "token", "side")
HALVES = ("tuning", "reporting")
BINS = 10
RESAMPLES, SEED = 1000, 1
"""Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Label:
    """A person's label of one post."""

    post_id: str
    username: str
    sides: Mapping[str, str]
    """Token -> bullish or bearish; empty: no call."""

    @property
    def candidate(self) -> bool:
        """Whether the post is a call."""
        return bool(self.sides)


@dataclass(frozen=True, slots=True)
class Judged:
    """A post with its label and its reading."""

    label: Label
    text: str
    reading: Reading

    @property
    def called(self) -> dict[str, str]:
        """The reading's calls: token -> bullish or bearish; empty: no call."""
        if not self.reading.candidate:
            return {}
        return {token: self.reading.sides.get(token, self.reading.sentiment) for token in self.reading.tokens}


@dataclass
class Counts:
    """True positives, false positives and false negatives of one class, with the derived rates."""

    found: int = 0
    false: int = 0
    missed: int = 0

    @property
    def precision(self) -> float | None:
        """Fraction of the found that is correct."""
        return _share(self.found, self.found + self.false)

    @property
    def recall(self) -> float | None:
        """Fraction of the existing that was found."""
        return _share(self.found, self.found + self.missed)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        return _share(2 * self.found, 2 * self.found + self.false + self.missed)

    def as_json(self) -> dict[str, Any]:
        """Counts, rates and 95 % intervals."""
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
    """The figures of one evaluation."""

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
        """Fraction of correct sides among tokens that both the label and the reading call."""
        return _share(self.sides_right, self.sides_right + self.sides_wrong)


def interval(part: int, whole: int) -> tuple[float, float] | None:
    """Return the 95 % Wilson interval of a share, rounded to four decimals; None without any."""
    ends = wilson(part, whole)
    return (round(float(ends[0]), 4), round(float(ends[1]), 4)) if ends else None


def half(post_id: str) -> str:
    """Return the half a post belongs to: `tuning` or `reporting`."""
    return HALVES[sha256(post_id.encode()).digest()[0] % 2]


def read_labels(path: Path) -> list[Label]:
    """Read the labels of a file `id,username,label,token,side`; a post with several tokens has several lines.

    Raises `Misconfigured` with file and line for a line that is no label, and for a file without one.
    """
    made: dict[str, tuple[str, dict[str, str]]] = {}
    rows = csv.DictReader(text for _, text in lines(path))
    try:
        if missing := [name for name in LABEL_COLUMNS if name not in (rows.fieldnames or ())]:
            raise Misconfigured(
                f"{path}:1: the header lacks {', '.join(missing)}: it must be {','.join(LABEL_COLUMNS)}"
            )
        for row in rows:
            _, sides = made.setdefault(row["id"], (row["username"], {}))
            if row["label"] == "candidate" and row["side"] in SIDES:
                sides[row["token"]] = SIDES[row["side"]]
            elif row["label"] != "none":
                raise Misconfigured(
                    f"{path}:{rows.line_num}: the label must be candidate, with side long or short, or none; it is "
                    f"{row['label']}, with side {row['side'] or 'empty'}"
                )
    except csv.Error as error:
        raise Misconfigured(f"{path}:{rows.line_num + 1}: not CSV: {error}") from None
    if not made:
        raise Misconfigured(f"{path} has no label after its header")
    return [Label(post, username, sides) for post, (username, sides) in made.items()]


def read_texts(path: Path, wanted: Iterable[str]) -> dict[str, str]:
    """Read a JSON-lines file: post id -> text. A line that is no post is skipped."""
    ids, texts = set(wanted), {}
    for _, line in raw_lines(path):
        try:
            post = untrusted.loads(line) if line.strip() else {}
        except ValueError:
            continue
        if isinstance(post, dict) and post.get("id") in ids and isinstance(post.get("text"), str):
            texts[post["id"]] = post["text"]
    return texts


def judge(judged: Sequence[Judged]) -> Figures:
    """Compute all figures over the judged posts."""
    figures = Figures(posts=len(judged), classes={name: Counts() for name in ("candidate", "long", "short")})
    for post in judged:
        label, read = post.label.sides, post.called
        both = label.keys() & read.keys()
        _count(figures.classes["candidate"], bool(label), bool(read))
        for name, side in SIDES.items():
            _count(figures.classes[name], side in label.values(), side in read.values())
        row = figures.confusion.setdefault(_class(label), {})
        row[_class(read)] = row.get(_class(read), 0) + 1
        for token in both:
            figures.sides_right += label[token] == read[token]
            figures.sides_wrong += label[token] != read[token]
        if bool(label) != bool(read) or any(label[token] != read[token] for token in both):
            figures.errors.append(_error(post))
    figures.errors.sort(key=lambda error: (-error["confidence"], error["post_id"]))
    figures.calibration = _calibration(judged)
    return figures


def metrics(judged: Sequence[Judged]) -> ReadingMetrics:
    """Return the typed figures that the gate of a reader reads. Raises ValueError without any post."""
    figures = judge(judged)
    counts, sides = figures.classes["candidate"], figures.sides_right + figures.sides_wrong
    calls = [(float(post.reading.confidence), post.label.candidate) for post in judged if post.called]
    posts = [(float(post.reading.confidence), post.label.candidate) for post in judged]
    return ReadingMetrics(
        posts=len(judged),
        found=counts.found,
        false=counts.false,
        missed=counts.missed,
        precision=counts.precision or 0.0,
        precision_95=interval(counts.found, counts.found + counts.false) or (0.0, 1.0),
        recall=counts.recall or 0.0,
        recall_95=interval(counts.found, counts.found + counts.missed) or (0.0, 1.0),
        side_accuracy=figures.side_accuracy or 0.0,
        side_accuracy_95=interval(figures.sides_right, sides) or (0.0, 1.0),
        calibration_error=round(calibration_error(calls), 4) if calls else 1.0,
        calibration_error_95=_bootstrapped(calls),
        calibration_error_of_posts=round(calibration_error(posts), 4),
    )


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Return the expected calibration error of (confidence, correct) in tenths of confidence (Guo et al. 2017)."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in pairs:
        bins.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    gaps = (abs(sum(confidence - right for confidence, right in one)) for one in bins.values())
    return sum(gaps) / max(len(pairs), 1)


def _bootstrapped(pairs: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the calibration error."""
    if not pairs:
        return (0.0, 1.0)
    draw = random.Random(SEED)  # noqa: S311
    drawn = sorted(calibration_error(draw.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return (round(drawn[int(0.025 * RESAMPLES)], 4), round(drawn[int(0.975 * RESAMPLES)], 4))


@dataclass(frozen=True, slots=True)
class Difference:
    """The paired difference of two readers on the same posts, the second minus the first."""

    f1: float
    f1_95: tuple[float, float]
    """By bootstrap over the posts, both readers drawn together."""
    only_first: int
    """Posts that the first reads correctly (call or not) and the second does not."""
    only_second: int

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the interval excludes 0, else `no difference`."""
        low, high = self.f1_95
        return "better" if low > 0 else "worse" if high < 0 else "no difference"


def compare(first: Sequence[Judged], second: Sequence[Judged]) -> Difference:
    """Compare two readers of the same labelled posts, in the same order. Raises ValueError for different posts."""
    if [post.label.post_id for post in first] != [post.label.post_id for post in second]:
        raise ValueError("the two readers did not read the same posts")
    rows = [
        (one.label.candidate, bool(one.called), bool(other.called))
        for one, other in zip(first, second, strict=True)
    ]
    draw = random.Random(SEED)  # noqa: S311
    drawn = sorted(_f1_difference(draw.choices(rows, k=len(rows))) for _ in range(RESAMPLES))
    return Difference(
        round(_f1_difference(rows), 4),
        (round(drawn[int(0.025 * RESAMPLES)], 4), round(drawn[int(0.975 * RESAMPLES)], 4)),
        sum(a == label != b for label, a, b in rows),
        sum(b == label != a for label, a, b in rows),
    )


def _f1_difference(rows: Sequence[tuple[bool, bool, bool]]) -> float:
    def f1(called: Sequence[bool]) -> float:
        both = sum(label and call for (label, _, _), call in zip(rows, called, strict=True))
        total = sum(label for label, _, _ in rows) + sum(called)
        return 2 * both / total if total else 0.0

    return f1([second for _, _, second in rows]) - f1([first for _, first, _ in rows])


def _count(counts: Counts, label: bool, read: bool) -> None:
    counts.found += label and read
    counts.false += read and not label
    counts.missed += label and not read


def _class(sides: Mapping[str, str]) -> str:
    values = set(sides.values())
    if len(values) > 1:
        return "mixed"
    return {"bullish": "long", "bearish": "short"}.get(next(iter(values), ""), "none")


def _error(post: Judged) -> dict[str, Any]:
    kind = "false call" if not post.label.candidate else "missed" if not post.called else "wrong side"
    return {
        "kind": kind,
        "post_id": post.label.post_id,
        "username": post.label.username,
        "label": dict(post.label.sides),
        "read": post.called,
        "confidence": float(post.reading.confidence),
        "reasoning": post.reading.reasoning,
        "text": post.text,
    }


def _calibration(judged: Sequence[Judged]) -> list[dict[str, float]]:
    """Return for each tenth of confidence the calls, their mean confidence and the fraction correct."""
    bins: dict[int, list[Judged]] = {}
    for post in judged:
        if post.called:
            bins.setdefault(min(int(post.reading.confidence * BINS), BINS - 1), []).append(post)
    return [
        {
            "from": place / BINS,
            "calls": len(calls),
            "confidence": round(sum(float(post.reading.confidence) for post in calls) / len(calls), 4),
            "right": round(sum(post.label.candidate for post in calls) / len(calls), 4),
        }
        for place, calls in sorted(bins.items())
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
