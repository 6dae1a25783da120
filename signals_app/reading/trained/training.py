"""Trains a reader on labelled posts and measures it by cross-validation; the result is a file or a candidate row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from maxxit.core.errors import Misconfigured
from maxxit.learning.metrics import ReadingMetrics
from maxxit.market.instruments import words_by_token
from signals_app.reading import evaluation
from signals_app.reading.evaluation import Judged, Label
from signals_app.reading.rules.read import VERSION, Reader
from signals_app.reading.schema import Post, Reading
from signals_app.reading.trained import embeddings, fit
from signals_app.reading.trained.features import by_token
from signals_app.reading.trained.fit import Array, Row

TEMPLATE = 24
"""Letters by which texts of one template are recognised, where a file names one account only."""
INVENTED_WEIGHT = 0.3
DOUBTFUL = -3.0
"""Log odds below which a post is no call by any calibration; the calibration is fitted to the others."""
SIGN = {"bullish": 1, "bearish": -1}


@dataclass(frozen=True)
class LabelledSet:
    """Labelled posts of one source."""

    labels: Sequence[Label]
    posts: Mapping[str, Post]
    invented: bool = False
    """Written for training: trained on, never measured on."""
    grammar: str = VERSION
    """Version of the lexical reader whose findings are features of these posts: one that was not developed on them."""
    developed_on: bool = False
    """That version was developed on these posts as well: trained on, never measured on."""

    @property
    def measured(self) -> bool:
        """Whether figures, threshold and calibration may be taken from these posts."""
        return not (self.invented or self.developed_on)


@dataclass(frozen=True)
class Training:
    """A trained reader with what cross-validation measured."""

    parameters: dict[str, Any]
    metrics: ReadingMetrics
    by_period: dict[str, Any]
    """The same figures with whole periods left out instead of authors; empty with one period."""
    data_sha256: str
    first: str
    last: str
    """Times of the first and last post; empty where unknown."""
    measured_on: str = "the training posts, by readers fitted without the author"


def write(found: Training, path: Path) -> dict[str, Any]:
    """Write the parameters and figures to a file; return what was written."""
    written = {
        "parameters": found.parameters,
        "metrics": found.metrics.model_dump(mode="json"),
        "measured_on": found.measured_on,
        "by_period": found.by_period,
        "data_sha256": found.data_sha256,
        "first": found.first,
        "last": found.last,
    }
    path.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    return written


def rows_of(sets: Sequence[LabelledSet]) -> list[Row]:
    """Return a row for each token of each labelled post that the grammar finds in the author's own words."""
    sizes = [len(one.labels) for one in sets if not one.invented]
    mean = sum(sizes) / max(len(sizes), 1)
    rows = []
    for one in sets:
        reader = Reader.of(words_by_token(), one.grammar)
        names = {label.username for label in one.labels}
        weight = INVENTED_WEIGHT if one.invented else (mean / len(one.labels)) ** 0.5
        for label in one.labels:
            post = one.posts[label.post_id]
            group = label.username.casefold() if len(names) > 1 else f"text {template(post.text)}"
            for symbol, features in by_token(reader, post.text, post.prices).items():
                side = SIGN.get(label.sides.get(symbol, ""), 0)
                period = post.posted_at[:4]
                rows.append(
                    Row(label.post_id, symbol, group, period, features, side, weight, not one.measured)
                )
    return rows


def template(text: str) -> str:
    """Return the first letters of a text, which posts of one template share."""
    words = [word for word in text.casefold().split() if not word.startswith(("http", "@"))]
    return "".join(sign for sign in "".join(words) if sign.isalpha())[:TEMPLATE]


def train(
    sets: Sequence[LabelledSet],
    *,
    name: str,
    embedded: Mapping[str, Sequence[float]] | None = None,
    use_embeddings: bool = False,
    grammar: bool = True,
) -> Training:
    """Fit a reader, with the threshold and calibration of cross-validation by author.

    Args:
        embedded: known embeddings by post id; others are computed.

    Raises Misconfigured where the sets have too few calls.
    """
    rows = rows_of(sets)
    calls = sum(row.side != 0 for row in rows if not row.trains_only)
    if calls < 30:
        raise Misconfigured(f"{calls} labelled calls do not suffice to train a reader: label at least 30")
    vectors = _vectors(rows, sets, embedded or {}) if use_embeddings else np.zeros((len(rows), 0))
    odds, _ = fit.out_of_fold(rows, vectors, lambda row: fit.fold_of(row.group), grammar=grammar)
    judged = np.array([not row.trains_only for row in rows])
    target = np.array([float(row.side != 0) for row in rows])
    decided = judged & (odds > DOUBTFUL)
    slope, offset = fit.platt(odds[decided], target[decided])
    limit = fit.threshold(chances(odds[judged], slope, offset), target[judged])
    fitted = fit.fit(rows, vectors, grammar=grammar)
    parameters = {
        "kind": "reader",
        "name": name,
        "grammar": VERSION if grammar else "",
        "call": fit.stored(fitted, "call"),
        "long": fit.stored(fitted, "long"),
        "slope": round(slope, 5),
        "offset": round(offset, 5),
        "threshold": limit,
        "mean": [round(float(x), 5) for x in fitted.mean],
    }
    periods = sorted({row.period for row in rows if not row.trains_only})
    times = sorted(post.posted_at for one in sets if not one.invented for post in one.posts.values())
    folds = {"authors": lambda row: fit.fold_of(row.group)}
    if len(periods) > 1:
        folds["periods"] = lambda row: periods.index(row.period) if row.period in periods else -1
    measured = {
        by: _measure(sets, rows, vectors, fold, (slope, offset, limit), grammar=grammar)
        for by, fold in folds.items()
    }
    return Training(
        parameters,
        measured["authors"],
        measured["periods"].model_dump(mode="json") if "periods" in measured else {},
        digest(sets),
        times[0],
        times[-1],
    )


def _measure(
    sets: Sequence[LabelledSet],
    rows: Sequence[Row],
    vectors: Array,
    fold: Any,
    scale: tuple[float, float, float],
    *,
    grammar: bool,
) -> ReadingMetrics:
    """Return the figures of readers that were fitted without the fold they read."""
    call, long = fit.out_of_fold(rows, vectors, fold, grammar=grammar)
    return figures(sets, rows, call, long, scale)


def figures(
    sets: Sequence[LabelledSet],
    rows: Sequence[Row],
    call: Array,
    long: Array,
    scale: tuple[float, float, float],
) -> ReadingMetrics:
    """Return the figures of log odds of a call and of a long, one for each row, on the measured sets.

    Args:
        scale: slope and offset of the calibrated log odds, and the probability from which a post is a call.
    """
    slope, offset, limit = scale
    by_post: dict[str, list[tuple[float, int, str]]] = {}
    posts = {
        label.post_id: (label, one.posts[label.post_id])
        for one in sets
        if one.measured
        for label in one.labels
    }
    for row, odds, side in zip(rows, call, long, strict=True):
        if row.trains_only or row.post_id not in posts:
            continue
        chance = float(chances(np.array([odds]), slope, offset)[0])
        by_post.setdefault(row.post_id, []).append((chance, 1 if side >= 0 else -1, row.symbol))
    judged = []
    for post_id, (label, post) in posts.items():
        found = by_post.get(post_id, [])
        called = [one for one in found if one[0] >= limit]
        best = max(found, default=(0.0, 1, ""))
        sides = {symbol: "bullish" if side > 0 else "bearish" for _, side, symbol in called}
        reading = Reading(
            post_id=post_id,
            candidate=bool(called),
            tokens=tuple(sides),
            sentiment=sides[best[2]] if called else "neutral",
            confidence=best[0],
            reasoning="",
            sides=sides,
        )
        judged.append(Judged(label, post.text, reading))
    return evaluation.metrics(judged)


def chances(odds: Array, slope: float, offset: float) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(slope * odds + offset, -30, 30))))


def _vectors(rows: Sequence[Row], sets: Sequence[LabelledSet], known: Mapping[str, Sequence[float]]) -> Array:
    texts = {post.post_id: post.text for one in sets for post in one.posts.values()}
    wanted = [post_id for post_id in dict.fromkeys(row.post_id for row in rows) if post_id not in known]
    made = (
        dict(zip(wanted, embeddings.embed([texts[post_id] for post_id in wanted]), strict=True))
        if wanted
        else {}
    )
    return np.array(
        [known[row.post_id] if row.post_id in known else made[row.post_id] for row in rows], dtype=float
    )


def digest(sets: Sequence[LabelledSet]) -> str:
    """Return the hash of what was trained on."""
    hashed = sha256()
    for one in sets:
        for label in sorted(one.labels, key=lambda label: label.post_id):
            hashed.update(
                f"{label.post_id}|{sorted(label.sides.items())}|{one.posts[label.post_id].text}\n".encode()
            )
    return hashed.hexdigest()


def labelled_set(labelled: Path, posts: Mapping[str, Post], *, invented: bool = False) -> LabelledSet:
    """Return the labels of a file with their posts. Raises `Misconfigured` where posts are missing."""
    labels = evaluation.read_labels(labelled)
    if missing := [label.post_id for label in labels if label.post_id not in posts]:
        raise Misconfigured(
            f"{labelled}: {len(missing)} labelled posts are in no posts file: {', '.join(missing[:3])}"
        )
    return LabelledSet(labels, posts, invented)
