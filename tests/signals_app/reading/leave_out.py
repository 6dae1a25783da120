"""How much of the reader's quality rests on phrases that only the judged posts support.

`python -m tests.signals_app.reading.leave_out --labelled LABELS.csv --posts POSTS.jsonl`
(`[--half HALF] [--also MORE.csv ...]`)

Takes away each phrase of the lexicon that matches true calls of the judged authors (or of the judged post) and of
nobody else, reads these authors (this post) with what is left, and adds up. A phrase that matches no true call at all
stays. The words inside a class of the grammar stay, too, so the figures are kinder than a reader made without these
posts would be.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

from maxxit.market.instruments import words_by_token
from signals_app.reading.evaluation import HALVES, Counts, Judged, Label, half, judge, read_labels, read_texts
from signals_app.reading.rules import read
from signals_app.reading.rules.grammar import Cue, cue
from signals_app.reading.rules.text import fold, sentences
from signals_app.reading.schema import Reading

FOLDS = 5

Phrase = tuple[str, str]
"""Name of the cue, and the phrase."""
Group = Callable[[Label], str]


def by_author(label: Label) -> str:
    """The fifth of the authors that a post belongs to."""
    return str(sha256(label.username.encode()).digest()[0] % FOLDS)


def by_post(label: Label) -> str:
    """The post itself."""
    return label.post_id


def supporters(
    labels: Iterable[Label], texts: dict[str, str], reader: read.Reader, group: Group
) -> dict[Phrase, set[str]]:
    """Phrase -> the groups with a true call that it matches."""
    single = [
        (one.name, phrase, cue("", 1 if one.side > 0 else -1, 0, phrase))
        for one in read.CUES
        for phrase in one.phrases
    ]
    found: dict[Phrase, set[str]] = defaultdict(set)
    for label in labels:
        if label.candidate:
            for part in sentences(fold(texts[label.post_id]), reader.words):
                for name, phrase, alone in single:
                    if alone.pattern.search(part.text):
                        found[name, phrase].add(group(label))
    return found


def without(phrases: set[Phrase]) -> tuple[Cue, ...]:
    """The lexicon without these phrases."""
    kept = []
    for one in read.CUES:
        left = [phrase for phrase in one.phrases if (one.name, phrase) not in phrases]
        if left:
            kept.append(one if len(left) == len(one.phrases) else cue(one.name, one.side, one.weight, *left))
    return tuple(kept)


def left_out(judged: Sequence[Label], also: Sequence[Label], texts: dict[str, str], group: Group) -> Counts:
    """`candidate` over `judged`, each group of them read without the phrases that it alone supports."""
    reader = read.Reader.of(words_by_token())
    known = supporters([*judged, *also], texts, reader, group)
    members: dict[str, list[Label]] = defaultdict(list)
    for label in judged:
        members[group(label)].append(label)
    read_so: list[Judged] = []
    for name, labels in members.items():
        own = {phrase for phrase, groups in known.items() if groups == {name}}
        with patch.object(read, "CUES", without(own) if own else read.CUES):
            read_so += [
                Judged(
                    one,
                    texts[one.post_id],
                    Reading.model_validate(reader.read(texts[one.post_id]).as_json(one.post_id)),
                )
                for one in labels
            ]
    return judge(read_so).classes["candidate"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.signals_app.reading.leave_out", description=__doc__
    )
    parser.add_argument("--labelled", type=Path, required=True, help="the labels that judge")
    parser.add_argument(
        "--posts", type=Path, required=True, help="JSON lines: id, username, created_at, text"
    )
    parser.add_argument(
        "--half", choices=HALVES, help="judge by this half only; the other still supports phrases"
    )
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="labels that support phrases, too")
    options = parser.parse_args()
    labels = read_labels(options.labelled)
    more = [label for path in options.also for label in read_labels(path)]
    texts = read_texts(options.posts, (label.post_id for label in [*labels, *more]))
    judged = [label for label in labels if options.half in (None, half(label.post_id))]
    for name, group in (("authors", by_author), ("post", by_post)):
        print(f"{name} left out: {left_out(judged, [*labels, *more], texts, group).as_json()}")


if __name__ == "__main__":
    main()
