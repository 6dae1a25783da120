"""Fits the trained reader: L2-regularised logistic regression, cross-validated by author, calibrated. Pure numpy."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signals_app.reading.trained.features import is_of_grammar

Array = NDArray[np.float64]
FOLDS = 6
LEAST_ROWS = 3
"""Rows that must have a feature before it counts."""
PENALTY = 20.0
"""Of the squared weights, divided by two: the C of other libraries is its reciprocal."""
EMBEDDING_SCALE = 6.0
"""Multiplies the embedding, whose numbers are small, before the same penalty applies."""
SMALLEST = 0.004
"""Weights below this are left out of the stored parameters."""
STEPS = 200
MEMORY = 8
LEAST_PRECISION = 0.70
"""Out-of-fold precision that the threshold must reach: that of the gate."""


@dataclass(frozen=True)
class Row:
    """One token of one labelled post."""

    post_id: str
    symbol: str
    group: str
    """Author, or template of a text: never in two folds."""
    period: str
    features: dict[str, float]
    side: int
    """1 long, -1 short, 0 no call."""
    weight: float = 1.0
    trains_only: bool = False
    """Invented for training: never judged on."""


@dataclass(frozen=True)
class Matrix:
    """A sparse matrix by rows, with dense columns for the embedding."""

    start: NDArray[np.int64]
    column: NDArray[np.int64]
    value: Array
    columns: int
    dense: Array

    def times(self, weights: Array) -> Array:
        """Return the product with a vector of weights."""
        terms = self.value * weights[self.column]
        sums = np.concatenate([[0.0], np.cumsum(terms)])
        sparse: Array = sums[self.start[1:]] - sums[self.start[:-1]]
        return sparse + self.dense @ weights[self.columns :]

    def transposed_times(self, rows: Array) -> Array:
        """Return the product of the transpose with one number for each row."""
        repeated = np.repeat(rows, np.diff(self.start))
        sparse = np.bincount(self.column, weights=self.value * repeated, minlength=self.columns)
        return np.concatenate([sparse, self.dense.T @ rows])


def vocabulary(rows: Sequence[Row], *, grammar: bool) -> list[str]:
    """Return the features that enough rows have, sorted."""
    counted: Counter[str] = Counter()
    for row in rows:
        counted.update(row.features)
    return sorted(
        name for name, n in counted.items() if n >= LEAST_ROWS and (grammar or not is_of_grammar(name))
    )


def matrix(rows: Sequence[Row], names: Sequence[str], dense: Array) -> Matrix:
    """Build the matrix of rows; unknown features are left out."""
    place = {name: number for number, name in enumerate(names)}
    start, column, value = [0], [], []
    for row in rows:
        for name, number in row.features.items():
            if name in place:
                column.append(place[name])
                value.append(number)
        start.append(len(column))
    return Matrix(
        np.array(start), np.array(column, dtype=np.int64), np.array(value, dtype=float), len(names), dense
    )


def logistic(of: Matrix, target: Array, weight: Array, penalty: float = PENALTY) -> tuple[Array, float]:
    """Return weights and bias that minimise the weighted log loss plus the penalty (the bias is free)."""

    def loss(point: Array) -> tuple[float, Array]:
        odds = of.times(point[:-1]) + point[-1]
        chance = 1 / (1 + np.exp(-np.clip(odds, -40, 40)))
        error = weight * (chance - target)
        value = float(
            np.sum(weight * (np.logaddexp(0, odds) - target * odds)) + penalty / 2 * point[:-1] @ point[:-1]
        )
        return value, np.append(of.transposed_times(error) + penalty * point[:-1], error.sum())

    point = minimise(loss, np.zeros(of.columns + of.dense.shape[1] + 1))
    return point[:-1], float(point[-1])


def minimise(loss: Callable[[Array], tuple[float, Array]], start: Array) -> Array:
    """Return the minimum of a convex function by L-BFGS with backtracking (Nocedal and Wright, algorithm 7.5)."""
    point, (value, slope) = start, loss(start)
    pairs: list[tuple[Array, Array, float]] = []
    for _ in range(STEPS):
        if np.max(np.abs(slope)) < 1e-3:
            break
        step, kept = -slope, []
        for moved, bent, scale in reversed(pairs):
            kept.append(scale * (moved @ step))
            step = step - kept[-1] * bent
        if pairs:
            moved, bent, _scale = pairs[-1]
            step = step * (moved @ bent) / (bent @ bent)
        for (moved, bent, scale), alpha in zip(pairs, reversed(kept), strict=True):
            step = step + (alpha - scale * (bent @ step)) * moved
        size = 1.0 if pairs else 1.0 / max(float(np.linalg.norm(slope)), 1.0)
        for _try in range(30):
            following = point + size * step
            after, steepness = loss(following)
            if after <= value + 1e-4 * size * (slope @ step):
                break
            size /= 2
        else:
            break
        moved, bent = following - point, steepness - slope
        if moved @ bent > 1e-10:
            pairs = [*pairs[-MEMORY + 1 :], (moved, bent, 1 / float(moved @ bent))]
        done = abs(value - after) <= 1e-9 * max(abs(value), 1.0)
        point, value, slope = following, after, steepness
        if done:
            break
    return point


@dataclass(frozen=True)
class Fitted:
    """Weights of both models over one vocabulary."""

    names: list[str]
    mean: Array
    call: tuple[Array, float]
    long: tuple[Array, float]

    def scores(self, rows: Sequence[Row], vectors: Array) -> tuple[Array, Array]:
        """Return the log odds of a call and of a long."""
        of = matrix(rows, self.names, scaled(vectors, self.mean))
        return of.times(self.call[0]) + self.call[1], of.times(self.long[0]) + self.long[1]


def scaled(vectors: Array, mean: Array) -> Array:
    """Return the embeddings less their mean, at length `EMBEDDING_SCALE`."""
    if not vectors.shape[1]:
        return vectors
    moved = vectors - mean
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.where(length > 0, length, 1.0) * EMBEDDING_SCALE)


def fit(rows: Sequence[Row], vectors: Array, *, grammar: bool = True) -> Fitted:
    """Fit to labelled rows; `vectors` has one embedding a row, or no columns."""
    names = vocabulary(rows, grammar=grammar)
    mean = vectors.mean(axis=0) if vectors.shape[1] else np.zeros(0)
    dense = scaled(vectors, mean)
    side = np.array([row.side for row in rows])
    weight = np.array([row.weight for row in rows])
    called = np.flatnonzero(side)
    of_calls = matrix([rows[number] for number in called.tolist()], names, dense[called])
    return Fitted(
        names,
        mean,
        logistic(matrix(rows, names, dense), (side != 0).astype(float), weight),
        logistic(of_calls, (side[called] > 0).astype(float), np.ones(len(called)), PENALTY / 4),
    )


def fold_of(group: str) -> int:
    """Return the fold of an author, by hash."""
    return sha256(group.casefold().encode()).digest()[1] % FOLDS


def out_of_fold(
    rows: Sequence[Row], vectors: Array, fold: Callable[[Row], Any], *, grammar: bool = True
) -> tuple[Array, Array]:
    """Return for each row the log odds of a call and of a long, by a model fitted to the other folds."""
    folds = np.array([fold(row) for row in rows])
    judged = np.array([not row.trains_only for row in rows])
    call, long = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for one in sorted(set(folds[judged])):
        inside = np.flatnonzero((folds == one) & judged)
        outside = np.flatnonzero((folds != one) | ~judged)
        fitted = fit([rows[number] for number in outside.tolist()], vectors[outside], grammar=grammar)
        call[inside], long[inside] = fitted.scores(
            [rows[number] for number in inside.tolist()], vectors[inside]
        )
    return call, long


def platt(odds: Array, target: Array) -> tuple[float, float]:
    """Return slope and offset of the calibrated log odds (Platt 1999, with his targets)."""
    positive, negative = float(target.sum()), float((1 - target).sum())
    soft = np.where(target > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    of = Matrix(
        np.zeros(len(odds) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0), 0, odds[:, None]
    )
    weights, offset = logistic(of, soft, np.ones(len(odds)), 1e-6)
    return float(weights[0]), offset


def threshold(chance: Array, target: Array) -> float:
    """Return the probability with the best F1 among those whose precision is at least `LEAST_PRECISION`."""
    best, found = 0.0, 0.5
    for limit in np.arange(0.2, 0.9, 0.01):
        called = chance >= limit
        right = float((called & (target > 0)).sum())
        if not right or right / called.sum() < LEAST_PRECISION:
            continue
        score = 2 * right / (called.sum() + target.sum())
        if score > best:
            best, found = score, float(limit)
    return round(found, 2)


def stored(fitted: Fitted, which: str) -> dict[str, Any]:
    """Return one of the two models as JSON; the embedding's scale is folded into its weights."""
    weights, bias = fitted.call if which == "call" else fitted.long
    words = dict(zip(fitted.names, weights[: len(fitted.names)], strict=True))
    return {
        "bias": round(bias, 5),
        "weights": {name: round(float(w), 4) for name, w in words.items() if abs(w) >= SMALLEST},
        "embedding": [round(float(w) * EMBEDDING_SCALE, 4) for w in weights[len(fitted.names) :]],
    }
