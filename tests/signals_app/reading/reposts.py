"""Posts by authors that no rule was tuned on: what the accounts of a posts file reposted, as its authors wrote it.

`python -m tests.signals_app.reading.reposts --posts POSTS --out FILE` strips `RT @name: ` from each repost that names a
token and writes it as a post of @name. `labels-2017-12-reposts.csv` labels what it writes for December 2017.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

from signals_app.reading.evaluation import HALVES, half

REPOST = re.compile(r"RT @(\w+): (.*)", re.DOTALL)
LINK = re.compile(r"https?:\S*")
TOKEN = re.compile(
    r"(?<![\w@])"
    r"(?:(?:btc|eth|ltc|xrp|neo|iota|eos)(?:usdt?)?|bitcoins?|ethereum|litecoins?|ripple)"
    r"(?!\w)",
    re.IGNORECASE,
)


class Post(TypedDict):
    """One line of a posts file."""

    id: str
    username: str
    created_at: str
    text: str


def unwrapped(posts: Iterable[Post]) -> Iterator[Post]:
    """The reposts among `posts` that name a token, in their order, each as a post of the one who wrote it.

    Leaves out those who post in `posts` themselves, and all but the first of texts that differ only in links, case
    and whitespace. The id and the time stay those of the repost.
    """
    posts = list(posts)
    accounts = {post["username"].casefold() for post in posts}
    seen: set[str] = set()
    for post in posts:
        repost = REPOST.fullmatch(post["text"])
        if repost is None or repost[1].casefold() in accounts:
            continue
        author, text = repost.groups()
        words = LINK.sub("", text)
        key = " ".join(words.casefold().split())
        if TOKEN.search(words) and key not in seen:
            seen.add(key)
            yield Post(id=post["id"], username=author, created_at=post["created_at"], text=text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.signals_app.reading.reposts", description=__doc__)
    parser.add_argument(
        "--posts", type=Path, required=True, help="JSON lines: id, username, created_at, text"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write, in the same form")
    parser.add_argument("--half", choices=HALVES, help="only this half of the split by id; default: both")
    options = parser.parse_args()
    with options.posts.open(encoding="utf-8") as lines:
        posts = unwrapped(map(json.loads, lines))
        chosen = [post for post in posts if options.half in (None, half(post["id"]))]
    options.out.write_text(
        "".join(json.dumps(post, ensure_ascii=False) + "\n" for post in chosen), encoding="utf-8"
    )
    print(f"{len(chosen)} posts by {len({post['username'] for post in chosen})} authors")


if __name__ == "__main__":
    main()
