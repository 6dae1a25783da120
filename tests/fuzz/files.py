"""Targets: candle and post files of every format that is read."""

import gzip
import json
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from maxxit.core.files import raw_lines
from maxxit.market.feeds.file import HEADER, read_bars
from maxxit.market.importers import IMPORTERS as CANDLES
from maxxit.market.importers.base import Row, bars
from signals_app.importers import IMPORTERS as POSTS
from signals_app.importers.base import read as read_posts
from signals_app.sources.base import RawPost
from signals_app.sources.jsonl import JsonlSource
from tests.fuzz.door import Outcome, Target
from tests.market.test_importers import SAMPLES as CANDLE_SAMPLES
from tests.market.test_importers import candles
from tests.signals_app.test_importers import POSTS as SOME
from tests.signals_app.test_importers import SAMPLES as POST_SAMPLES
from tests.signals_app.test_post_import import FIRST, LATER, chat, page

MEMORY = Path("/dev/shm")
FOLDER = Path(tempfile.mkdtemp(prefix="maxxit-fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
PLAIN_LINES = {"json lines", "twscrape", "snscrape"}


def written(data: bytes) -> Path:
    path = FOLDER / "input"
    path.write_bytes(data)
    return path


def lines_of(path: Path) -> int:
    return sum(bool(line.strip()) for _, line in raw_lines(path))


def own_candles() -> bytes:
    rows = [f"{at * 1000},{o},{h},{low},{c},{v}" for at, o, h, low, c, v in candles()]
    return "\n".join([",".join(HEADER), *rows]).encode()


def recorded(data: bytes) -> Outcome:
    """Our own candle file is read whole or refused whole; a line that repeats another counts with it."""
    path = written(data)
    found = list(read_bars(path))
    rows = [line for _, line in raw_lines(path) if line.strip()][1:]
    whole = found if len({int(row.split(b",")[0]) for row in rows}) == len(found) else None
    assert whole is not None or not rows
    return Outcome(len(found))


def candle_file(form: str) -> Callable[[bytes], Outcome]:
    """Its rows in file order, and five-minute bars of them: whole or refused."""
    importer = CANDLES.open(form)

    def read(data: bytes) -> Outcome:
        path = written(data)
        importer.sniff(path.read_bytes()[:500].decode(errors="replace"))
        found = list(importer.rows(path))
        rows = [one for one in found if isinstance(one, Row)]
        made = bars(path, found)
        assert all(bar.whole for bar in made)
        volumes = {row.opened: Decimal(row.volume) for row in rows}
        assert sum(volumes.values()) == sum(bar.volume for bar in made)
        return Outcome(len(rows))

    return read


def post_file(name: str, form: str) -> Callable[[bytes], Outcome]:
    """Each entry is a post, is refused, or is none by design (a repost)."""
    importer = POSTS.open(form)

    def read(data: bytes) -> Outcome:
        path = written(data)
        found = list(read_posts(importer, path, "alice"))
        posts = sum(isinstance(one, RawPost) for one in found)
        entries = len(list(importer.records(path)))
        by_design = form in {"twscrape", "snscrape", "apify", "x-api", "telegram"} and entries > len(found)
        assert name not in PLAIN_LINES or entries == lines_of(path)
        return Outcome(posts, len(found) - posts, None if by_design else entries)

    return read


def post_lines(data: bytes) -> Outcome:
    """Our own post files: a line is a post or is refused."""
    path = written(data)
    posts, refused = JsonlSource([str(path)]).everything()
    return Outcome(len(posts), len(refused), lines_of(path))


TARGETS: dict[str, Target] = {
    "candles: ours": Target([own_candles(), gzip.compress(own_candles())], recorded),
    **{
        f"candles: {name}": Target([make().encode()], candle_file(form))
        for name, (form, make) in CANDLE_SAMPLES.items()
    },
    **{
        f"posts: {name}": Target([make(SOME).encode()], post_file(name, form))
        for name, (form, make) in POST_SAMPLES.items()
    },
    "posts: x-api": Target(
        [json.dumps(page({"id": FIRST, "text": "Buying $BTC"}, {"id": LATER, "text": "out"})).encode()],
        post_file("x-api", "x-api"),
    ),
    "posts: telegram": Target(
        [json.dumps(chat({"text": "Buying $BTC"}, {"text": ["a", {"text": "b"}]})).encode()],
        post_file("telegram", "telegram"),
    ),
    "posts: ours": Target([POST_SAMPLES["json lines"][1](SOME).encode()], post_lines),
}
