"""Posts that no reader is developed or trained on, and the posts for training beside them, by held-out.json.

`python -m tests.signals_app.reading.held_out --part held-out --out FILE` writes the held-out posts of the first
statement, `--part reposts` those of the second, `--part training` and `--part reposts-training` the posts of the same
files that may be read, labelled and trained on. The rule is in held-out.json; docs/reading.md says what it was stated
for and when.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from signals_app.reading.evaluation import read_labels
from tests.signals_app.reading.reposts import LINK, REPOST, TOKEN, Post, unwrapped

HERE = Path(__file__).parent
RULE: Mapping[str, Any] = json.loads((HERE / "held-out.json").read_text())
DATA = HERE.parents[2].parent / "shared" / "data"
PARTS = ("authors", "period", "posts")
"""By what a held-out post of the first statement is left out."""
REPOSTS, REPOSTS_TRAINING = "reposts", "reposts-training"
"""Texts that the further accounts reposted: held out by the second statement, and for training."""
_NAMES = re.compile(r"https?:\S*|@\w+")
_SIGNS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Placed:
    """A post with its part: authors, period or posts where it is held out, else training."""

    part: str
    post: Post


def text_key(text: str) -> str:
    """Return the first letters of a text without links, names, digits and signs: equal for posts of one template."""
    return _SIGNS.sub("", _NAMES.sub(" ", text.casefold()))[: RULE["posts"]["letters"]]


def _byte(text: str) -> int:
    return sha256(text.encode()).digest()[0]


def _read(path: Path) -> Iterator[Post]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def placed(data: Path = DATA) -> Iterator[Placed]:
    """Place every original post that names a token of the two files of the rule.

    A post whose text a labelled repost quotes is left out of both parts: the grammar was developed on it.
    """
    by_author, by_text = RULE["authors"], RULE["posts"]
    labelled = {label.post_id for label in read_labels(HERE / "labels-2017-12-reposts.csv")}
    quoted = set()
    for post in _read(data / "posts-2017-12.jsonl"):
        if post["id"] in labelled and (repost := REPOST.fullmatch(post["text"])):
            quoted.add(text_key(repost[2]))
    for post in _read(data / by_author["file"]):
        if REPOST.match(post["text"]) or not TOKEN.search(LINK.sub("", post["text"])):
            continue
        if text_key(post["text"]) in quoted:
            continue
        if post["username"] in by_author["held_out"]:
            yield Placed("authors", post)
        else:
            yield Placed("period" if post["created_at"] >= RULE["period"]["from"] else "training", post)
    posts = list(_read(data / by_text["file"]))
    known = {label.post_id for label in read_labels(data / by_text["training_labels"])}
    templates = {text_key(post["text"]) for post in posts if post["id"] in known}
    for post in posts:
        key = text_key(post["text"])
        held = key not in templates and _byte(key) % by_text["modulus"] < by_text["remainder_below"]
        yield Placed("posts" if held else "training", post)


def placed_reposts(data: Path = DATA) -> Iterator[Placed]:
    """Place every text that the further accounts reposted, by authors of whom no other text is used."""
    rule = RULE["reposts"]
    month, others = list(_read(data / "posts-2017-12.jsonl")), list(_read(data / rule["file"]))
    labelled = {label.post_id for label in read_labels(HERE / "labels-2017-12-reposts.csv")}
    before = [post for post in unwrapped(month) if post["id"] in labelled]
    known = {post["username"].casefold() for post in (*month, *others, *before)}
    used = [one.post for one in placed(data)]
    seen = {text_key(post["text"]) for post in (*month, *used, *before)}
    for post in unwrapped(others):
        author, key = post["username"].casefold(), text_key(post["text"])
        if author in known or key in seen:
            continue
        seen.add(key)
        held = _byte(author) % rule["modulus"] < rule["remainder_below"]
        yield Placed(REPOSTS if held else REPOSTS_TRAINING, post)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.signals_app.reading.held_out", description=__doc__)
    parser.add_argument(
        "--part", choices=("held-out", "training", *PARTS, REPOSTS, REPOSTS_TRAINING), required=True
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of the posts (default ../shared/data)"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write, as JSON lines")
    options = parser.parse_args()
    wanted = PARTS if options.part == "held-out" else (options.part,)
    every = placed_reposts if options.part in (REPOSTS, REPOSTS_TRAINING) else placed
    chosen = [found.post for found in every(options.data) if found.part in wanted]
    options.out.write_text(
        "".join(json.dumps(post, ensure_ascii=False) + "\n" for post in chosen), encoding="utf-8"
    )
    print(f"{len(chosen)} posts by {len({post['username'] for post in chosen})} accounts")


if __name__ == "__main__":
    main()
