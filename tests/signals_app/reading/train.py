"""Trains the readers that come with the code: `python -m tests.signals_app.reading.train --out FOLDER`.

The material is every labelled post that may be used (docs/reading.md): December 2017 of the 24 accounts, their reposts
without those of held-out accounts, the training part of the further posts, and the invented texts.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import django
import numpy as np

from signals_app.reading.rules.text import fold, sentences
from signals_app.reading.schema import Post

HERE = Path(__file__).parent
NAMES = ("reader-2", "reader-2-e5")
LATER = "2021"
"""The year from which posts are the period left out."""
OF_CALL, OF_LONG = 0.5, 0.7
"""Weights of the encoder's log odds beside the linear model's, chosen on the period left out."""
LEAST_RECALL = 0.50
"""That of the gate."""
EASY = -3.0
"""Log odds up to which a post is easily seen to be no call; the encoder is fitted to some of these only."""
CHECKED = (
    "just longed bitcoin , target 9k |",
    "we accept bitcoin |",
    "sell your ethereum and buy a whole bitcoin !  rocket ",
    "ça monte: bitcoin 上がる |",
)
"""Views whose scores `train_encoder.py` prints, for the test that numpy gives the same."""
NOT_DEVELOPED_ON = "rules-3"
"""The version of the grammar whose findings are features of real posts: `rules-4` was developed on them."""


def sets(data: Path) -> Any:
    """Return the labelled sets, with the prices of December 2017."""
    from signals_app.reading.evaluation import read_labels
    from signals_app.reading.trained.training import LabelledSet, labelled_set
    from tests.signals_app.reading.held_out import REPOSTS_TRAINING, RULE, placed_reposts
    from tests.signals_app.reading.reposts import unwrapped

    held_out = {name.casefold() for name in RULE["authors"]["held_out"]}

    def read(name: str) -> list[Any]:
        return [json.loads(line) for line in (data / name).read_text(encoding="utf-8").splitlines()]

    month, others, later = (
        read("posts-2017-12.jsonl"),
        read("posts-2017-12-others.jsonl"),
        read("posts-2021-22.jsonl"),
    )
    reposted = [one.post for one in placed_reposts(data) if one.part == REPOSTS_TRAINING]
    # The first two are those that rules-3 was developed on.
    sources: list[tuple[list[Path], Iterable[Any]]] = [
        ([HERE / "labels-2017-12.csv", HERE / "labels-2017-12-untouched.csv"], month),
        ([HERE / "labels-2017-12-reposts.csv"], unwrapped(month)),
        ([HERE / "labels-training.csv", HERE / "labels-training-2.csv"], [*others, *reposted]),
        (
            [HERE / "labels-training.csv", HERE / "labels-training-2.csv", data / "labels-2021-22.csv"],
            later,
        ),
    ]
    made = []
    for number, (files, posts) in enumerate(sources):
        allowed = {post["id"]: post for post in posts if post["username"].casefold() not in held_out}
        labels = [label for file in files for label in read_labels(file) if label.post_id in allowed]
        made.append(
            LabelledSet(
                labels,
                _priced([allowed[label.post_id] for label in labels], data),
                grammar=NOT_DEVELOPED_ON,
                developed_on=number < 2,
            )
        )
    invented = {
        post["id"]: Post(post["id"], "invented", post["text"], post["created_at"])
        for post in map(json.loads, (HERE / "invented.jsonl").read_text(encoding="utf-8").splitlines())
    }
    return [*made, labelled_set(HERE / "labels-invented.csv", invented, invented=True)]


def _priced(posts: list[Mapping[str, str]], data: Path) -> dict[str, Post]:
    from maxxit.market.instruments import words_by_token
    from signals_app.authors import record as records
    from signals_app.reading.rules.read import Reader

    series, reader = records.series_of(data), Reader.of(words_by_token(), "rules-3")
    made = {}
    for post in posts:
        at = datetime.fromisoformat(post["created_at"]).timestamp()
        closes = {
            symbol: series[symbol].close_at(at)
            for symbol in sorted(reader.priced(post["text"]) & series.keys())
        }
        prices = {symbol: records.price_of(close) for symbol, close in closes.items() if close is not None}
        made[post["id"]] = Post(post["id"], post["username"], post["text"], post["created_at"], prices)
    return made


def rows_for_encoder(material: Any, data: Path) -> dict[str, Any]:
    """Return what `train_encoder.py` reads: a row for each token of each post, and texts for the vocabulary."""
    from maxxit.market.instruments import words_by_token
    from signals_app.reading.rules.read import Reader
    from signals_app.reading.trained import encoder, fit, training
    from tests.signals_app.reading.held_out import RULE

    words = Reader.of(words_by_token()).words
    posts = {
        post.post_id: (number, post) for number, one in enumerate(material) for post in one.posts.values()
    }
    rows = training.rows_of(material)
    # Easy posts are those that a linear model without grammar, fitted to other authors, finds no call in.
    unlike = [replace(row, trains_only=material[posts[row.post_id][0]].invented) for row in rows]
    odds, _ = fit.out_of_fold(
        unlike, np.zeros((len(rows), 0)), lambda row: fit.fold_of(row.group) % 3, grammar=False
    )
    made = [
        {
            "post_id": row.post_id,
            "symbol": row.symbol,
            "text": encoder.views(posts[row.post_id][1].text, words)[row.symbol],
            "side": row.side,
            "weight": round(row.weight, 4),
            "hard": bool(row.side or other.trains_only or odd > EASY),
            "fold": fit.fold_of(row.group),
            "later": row.period >= "2021" and not other.trains_only,
            "measured": not row.trains_only,
            "invented": other.trains_only,
        }
        for row, other, odd in zip(rows, unlike, odds, strict=True)
    ]
    held_out = {name.casefold() for name in RULE["authors"]["held_out"]}
    texts = [
        post["text"]
        for name in ("posts-2017-12.jsonl", "posts-2017-12-others.jsonl")
        for post in map(json.loads, (data / name).read_text(encoding="utf-8").splitlines())
        if post["username"].casefold() not in held_out and post["created_at"] < RULE["period"]["from"]
    ]
    plain = [" ".join(part.text for part in sentences(fold(text), words)) for text in texts]
    return {"rows": made, "texts": plain, "check": CHECKED}


def widest_margin(chance: Any, target: Any) -> float:
    """Return the probability at which the lesser of precision and recall, as multiples of the gate's, is greatest."""
    from signals_app.reading.trained.fit import LEAST_PRECISION

    def margin(limit: float) -> float:
        called = chance >= limit
        right = float((called & (target > 0)).sum())
        precision, recall = right / max(called.sum(), 1), right / max(target.sum(), 1)
        return float(min(precision / LEAST_PRECISION, recall / LEAST_RECALL))

    return round(float(max(np.arange(0.2, 0.9, 0.01), key=margin)), 2)


def with_encoder(material: Any, scores: Sequence[Sequence[float] | None], name: str) -> Any:
    """Return the linear reader with the encoder's scores added, calibrated on the period that neither was fitted to.

    Args:
        scores: log odds of a call and of a long for each row, by an encoder fitted without 2021-22; None elsewhere.
    """
    from signals_app.reading.rules.read import VERSION
    from signals_app.reading.trained import encoder, fit, training

    rows = [
        replace(row, trains_only=row.trains_only or row.period < LATER) for row in training.rows_of(material)
    ]
    none = np.zeros((len(rows), 0))
    odds, long = fit.out_of_fold(rows, none, lambda row: row.period >= LATER)
    judged = np.array([not row.trains_only for row in rows])
    encoded = np.array([score or (np.nan, np.nan) for score in scores])
    odds, long = odds + OF_CALL * encoded[:, 0], long + OF_LONG * encoded[:, 1]
    target = np.array([float(row.side != 0) for row in rows])
    decided = judged & (odds > training.DOUBTFUL)
    slope, offset = fit.platt(odds[decided], target[decided])
    limit = widest_margin(training.chances(odds[judged], slope, offset), target[judged])
    fitted = fit.fit(rows, none)
    call, of_long = fit.stored(fitted, "call"), fit.stored(fitted, "long")
    call["weights"][encoder.CALL] = OF_CALL * encoder.SCALE
    of_long["weights"][encoder.LONG] = OF_LONG * encoder.SCALE
    last = [one for one in material if one.measured and any(p.posted_at >= LATER for p in one.posts.values())]
    metrics = training.figures(last, rows, odds, long, (slope, offset, limit))
    parameters = {
        "kind": "reader",
        "name": name,
        "grammar": VERSION,
        "call": call,
        "long": of_long,
        "slope": round(slope, 5),
        "offset": round(offset, 5),
        "threshold": limit,
        "encoder": encoder.SHIPPED[-1],
    }
    times = sorted(post.posted_at for one in material if not one.invented for post in one.posts.values())
    return training.Training(
        parameters,
        metrics,
        metrics.model_dump(mode="json"),
        training.digest(material),
        times[0],
        times[-1],
        "the training posts of 2021-22, by readers fitted without this period",
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.signals_app.reading.train", description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[2].parent / "shared" / "data")
    parser.add_argument(
        "--name", choices=(*NAMES, "reader-3"), action="append", help="default: the first two"
    )
    parser.add_argument("--scores", type=Path, help="of train_encoder.py, for reader-3")
    parser.add_argument("--without-grammar", action="store_true", help="leave out what the grammar found")
    parser.add_argument("--rows", type=Path, help="write the rows of train_encoder.py to this file and stop")
    parser.add_argument("--out", type=Path, help="folder to write the parameters to")
    options = parser.parse_args()
    django.setup()
    from signals_app.reading.trained import training

    material = sets(options.data)
    if options.rows:
        options.rows.write_text(json.dumps(rows_for_encoder(material, options.data), ensure_ascii=False))
        return
    if options.scores and options.name != ["reader-3"]:
        parser.error("--scores are for --name reader-3")
    for name in options.name or NAMES:
        if name == "reader-3":
            if not options.scores:
                parser.error("reader-3 needs --scores, which train_encoder.py writes")
            scores = json.loads(options.scores.read_text(encoding="utf-8"))["period"]
            found = with_encoder(material, scores, name)
        else:
            found = training.train(
                material, name=name, use_embeddings=name.endswith("e5"), grammar=not options.without_grammar
            )
        training.write(found, options.out / f"{name}.json")
        print(name, found.parameters["threshold"], found.metrics.model_dump())


if __name__ == "__main__":
    main()
