"""The published figures of docs/reading.md, measured again."""

import json
import time
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from maxxit.market.instruments import all_instruments, words_by_token
from signals_app.reading.evaluation import HALVES, half, read_labels, read_texts
from signals_app.reading.rules.read import Reader
from tests.signals_app.reading.leave_out import by_author, by_post, left_out
from tests.signals_app.reading.reposts import unwrapped

LABELS = Path(__file__).parent / "labels-2017-12.csv"
SECOND = Path(__file__).parent / "labels-2017-12-second.csv"
"""The reporting half again, by someone who knew neither its labels nor the reader."""
UNTOUCHED = Path(__file__).parent / "labels-2017-12-untouched.csv"
"""978 posts that no half holds, labelled by someone else before the reader saw them, and never tuned on."""
REPOSTS = Path(__file__).parent / "labels-2017-12-reposts.csv"
"""What other authors wrote, labelled blind; its reporting half was read once, after the last change of the reader."""
POSTS = Path(__file__).parents[3].parent / "shared" / "data" / "posts-2017-12.jsonl"


def evaluated(*words: str) -> dict[str, Any]:
    """What `evaluate-classifier --json` says of rules-3, whose figures are published, with the month's prices."""
    out = StringIO()
    call_command(
        "evaluate-classifier",
        "--provider",
        "rules-3",
        *words,
        "--candles",
        str(POSTS.parent),
        "--json",
        stdout=out,
    )
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


@pytest.fixture
def posts() -> Path:
    """The recorded month, which lies beside the repository."""
    if not POSTS.exists():
        pytest.skip(f"{POSTS} is not there: recorded posts lie beside the repository")
    return POSTS


def test_the_labels_are_ids_and_labels_only() -> None:
    assert LABELS.read_text().splitlines()[0] == "id,username,label,token,side"
    labels = read_labels(LABELS)
    assert len(labels) >= 400
    assert sum(label.candidate for label in labels) >= 120
    assert all(label.post_id.isdigit() and set(label.sides) <= set(all_instruments()) for label in labels)
    counts = Counter(half(label.post_id) for label in labels if label.candidate)
    assert min(counts[name] for name in HALVES) >= 50


def test_the_untouched_set_shares_no_post_with_the_halves() -> None:
    untouched = read_labels(UNTOUCHED)
    assert len(untouched) == 978
    assert not {one.post_id for one in untouched} & {one.post_id for one in read_labels(LABELS)}


@pytest.mark.realdata
def test_the_untouched_set_is_read_as_published(posts: Path) -> None:
    told = evaluated("--labelled", str(UNTOUCHED), "--posts", str(posts))
    assert told["posts"] == 978
    assert told["confusion"] == {"none": {"none": 976}, "long": {"long": 1, "none": 1}}


@pytest.mark.realdata
def test_authors_whom_no_rule_was_tuned_on_are_read_as_published(posts: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in posts.read_text().splitlines()]
    written = tmp_path / "reposts.jsonl"
    written.write_text("".join(json.dumps(post) + "\n" for post in unwrapped(lines)))
    files = ["--labelled", str(REPOSTS), "--posts", str(written)]
    told = evaluated(*files, "--half", "reporting")
    counted = told["classes"]["candidate"]
    assert (told["posts"], counted["found"], counted["false"], counted["missed"]) == (592, 5, 3, 19)


def test_two_readers_agree_as_published() -> None:
    first = {one.post_id: one for one in read_labels(LABELS) if half(one.post_id) == "reporting"}
    second = {one.post_id: one for one in read_labels(SECOND)}
    assert first.keys() == second.keys()
    seen = Counter((first[one].candidate, second[one].candidate) for one in first)
    assert seen == {(False, False): 959, (True, True): 56, (True, False): 8, (False, True): 5}
    assert all(
        first[one].sides == second[one].sides for one in first if first[one].sides and second[one].sides
    )


@pytest.mark.realdata
@pytest.mark.parametrize("labels", [LABELS, SECOND], ids=["first labels", "second labels"])
def test_the_reporting_half_holds_its_floors(posts: Path, labels: Path) -> None:
    floors = ["--min-precision", "0.8", "--min-recall", "0.65", "--min-side-accuracy", "1"]
    files = ["--labelled", str(labels), "--posts", str(posts)]
    told = evaluated(*files, "--half", "reporting", *floors)
    print({name: told[name] for name in ("classes", "side_accuracy", "seconds")})


@pytest.mark.realdata
def test_phrases_are_not_fitted_to_single_authors_or_posts(posts: Path) -> None:
    labels, second = read_labels(LABELS), read_labels(SECOND)
    texts = read_texts(posts, (one.post_id for one in labels))
    reporting = [one for one in labels if half(one.post_id) == "reporting"]
    authors = left_out(reporting, [*labels, *second], texts, by_author)
    post = left_out(reporting, [*labels, *second], texts, by_post)
    for counts, recall in ((authors, 0.3), (post, 0.45)):
        assert (counts.precision or 0) >= 0.75
        assert (counts.recall or 0) >= recall


@pytest.mark.realdata
def test_the_rules_read_five_thousand_posts_a_second(posts: Path) -> None:
    texts = [json.loads(line)["text"] for line in posts.read_text().splitlines()]
    reader = Reader.of(words_by_token(), "rules-3")
    started = time.process_time()
    called = sum(reader.read(text).candidate for text in texts)
    speed = len(texts) / (time.process_time() - started)
    print(f"{speed:.0f} posts a second, {called} of {len(texts)} are calls")
    assert speed > 5000
    assert called < len(texts) / 50
