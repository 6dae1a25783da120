"""Trains the readers that come with the code: `python -m tests.signals_app.reading.train --out FOLDER`.

The material is every labelled post that may be used (docs/reading.md): December 2017 of the 24 accounts, their reposts
without those of held-out accounts, the training part of the further posts, and the invented texts.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import django

from signals_app.reading.schema import Post

HERE = Path(__file__).parent
NAMES = ("reader-2", "reader-2-e5")
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.signals_app.reading.train", description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[2].parent / "shared" / "data")
    parser.add_argument("--name", choices=NAMES, action="append", help="default: both")
    parser.add_argument("--without-grammar", action="store_true", help="leave out what the grammar found")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the parameters to")
    options = parser.parse_args()
    django.setup()
    from signals_app.reading.trained import training

    material = sets(options.data)
    for name in options.name or NAMES:
        found = training.train(
            material, name=name, use_embeddings=name.endswith("e5"), grammar=not options.without_grammar
        )
        training.write(found, options.out / f"{name}.json")
        print(name, found.parameters["threshold"], found.metrics.model_dump())


if __name__ == "__main__":
    main()
