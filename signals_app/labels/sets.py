"""Fill labelled sets, store labels, decide disagreements, and read and write the files of `evaluate-classifier`.

A post is labelled by two people, neither of whom sees the other's label before. Where the two differ, a decision by a
person counts; until then the post is in no export.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Count, Prefetch, QuerySet

from maxxit.core import clock, csv_text
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.terms import Side
from maxxit.market.instruments import stablecoins, words_by_token
from signals_app.labels.agreement import Agreement, Sides, agreement
from signals_app.models import CtPost, LabelledPost, LabelledSet, PostLabel
from signals_app.prefilter import mentions
from signals_app.reading import evaluation
from signals_app.sources.jsonl import JsonlSource

LABELS = 2
"""Labels that a post needs, each by another person."""
IMPORTED = "import"
"""Who labelled, in a file that does not say it."""
MOST_AT_ONCE = 500
"""Posts that one request of the admin adds at most."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The labels of a set."""

    posts: int
    unlabelled: int
    once: int
    """Posts with one label."""
    twice: int
    disagreements: int
    """Posts whose labels differ and that nobody has decided."""
    calls: int
    """Posts that count as a call: by decision, or by labels that agree."""
    agreement: Agreement


def named(name: str) -> LabelledSet:
    """Return the set. Raises Rejected where there is none."""
    found = LabelledSet.objects.filter(name=name).first()
    if found is None:
        raise Rejected(f"no labelled set {name!r}: `manage.py labels list` shows them", code="no_set")
    return found


def create(name: str, *, by: str, note: str = "") -> LabelledSet:
    """Make an empty set. Raises Rejected for an empty or taken name."""
    name = name.strip()
    if not 0 < len(name) <= 60:
        raise Rejected(f"the name has {len(name)} characters: give 1 to 60", code="bad_name")
    made, new = LabelledSet.objects.get_or_create(
        name=name, defaults={"note": note[:300], "created_by": by[:150], "created_at": clock.now()}
    )
    if not new:
        raise Rejected(f"there is a labelled set {name!r} already", code="taken")
    return made


def add_posts(chosen: LabelledSet, posts: Iterable[CtPost], *, by: str) -> int:
    """Copy posts of production into a set, as they were read; return how many were not in it."""
    rows = [
        LabelledPost(
            labelled_set=chosen, post_id=post.post_id, username=post.account.x_username, text=post.text,
            posted_at=post.posted_at, added_by=by[:150], added_at=clock.now(),
        )
        for post in posts
    ]  # fmt: skip
    return _insert(chosen, rows)


def _insert(chosen: LabelledSet, rows: Sequence[LabelledPost]) -> int:
    before = chosen.posts.count()
    LabelledPost.objects.bulk_create(rows, ignore_conflicts=True)
    return chosen.posts.count() - before


def tokens_in(text: str) -> list[str]:
    """Return the listed tokens that a text names: those that a label can be about."""
    stable = stablecoins()
    return [
        token for token, words in words_by_token().items() if token not in stable and mentions(text, words)
    ]


def next_post(chosen: LabelledSet, by: str, after: int = 0) -> LabelledPost | None:
    """Return the next post that this person can label: none of theirs, and fewer than two of others.

    Args:
        after: id of the post that they skipped; from the end the search begins anew.
    """
    open_posts = (
        chosen.posts.annotate(count=Count("labels"))
        .filter(count__lt=LABELS, decided_at=None)
        .exclude(labels__by=by)
        .order_by("pk")
    )
    return open_posts.filter(pk__gt=after).first() or open_posts.first()


def label(post: LabelledPost, sides: Sides, *, by: str) -> PostLabel:
    """Store this person's label of a post; a second one by the same person replaces the first.

    Raises Rejected for a side that is none or a token that the text does not name, where two others have labelled the
    post, and where it is decided.
    """
    known = tokens_in(post.text)
    for token, side in sides.items():
        if side not in (Side.LONG, Side.SHORT):
            raise Rejected(f"{token}: the side is long or short, not {side!r}", code="bad_side")
        if token not in known:
            raise Rejected(
                f"the post does not name {token}: {', '.join(known) or 'no listed token'}", code="bad_token"
            )
    with transaction.atomic():
        locked = LabelledPost.objects.select_for_update().get(pk=post.pk)
        if locked.decided_at is not None:
            raise Rejected(f"the post was decided by {locked.decided_by}", code="decided")
        if locked.labels.exclude(by=by).count() >= LABELS:
            raise Rejected("two others have labelled the post", code="labelled")
        stored, _ = PostLabel.objects.update_or_create(
            post=locked, by=by, defaults={"sides": dict(sides), "at": clock.now()}
        )
    return stored


def disagreements(chosen: LabelledSet) -> QuerySet[LabelledPost]:
    """Select the posts whose labels differ and that nobody has decided, oldest first."""
    differing = (
        PostLabel.objects.values("post").annotate(kinds=Count("sides", distinct=True)).filter(kinds__gt=1)
    )
    rows = chosen.posts.filter(pk__in=differing.values("post"), decided_at=None)
    return rows.prefetch_related("labels").order_by("pk")


def decide(post: LabelledPost, sides: Sides, *, by: str) -> None:
    """Store which of the differing labels counts. Raises Rejected where it is none of them, or was decided before."""
    given = [one.sides for one in post.labels.all()]
    if dict(sides) not in given:
        raise Rejected("choose one of the labels that were given", code="bad_label")
    done = LabelledPost.objects.filter(pk=post.pk, decided_at=None).update(
        decision=dict(sides), decided_by=by[:150], decided_at=clock.now()
    )
    if not done:
        raise Rejected("the post was decided before", code="decided")


def resolved(post: LabelledPost) -> Sides | None:
    """Return the label that counts: the decision, else what all labels say; None without one, or where they differ."""
    if post.decided_at is not None:
        return dict(post.decision or {})
    labels = [one.sides for one in post.labels.all()]
    return labels[0] if labels and all(one == labels[0] for one in labels) else None


def standings() -> list[tuple[LabelledSet, Standing]]:
    """Return every set with its standing, in three queries."""
    posts = LabelledPost.objects.defer("text").prefetch_related("labels")
    rows = LabelledSet.objects.prefetch_related(Prefetch("posts", posts))
    return [(one, standing(one.posts.all())) for one in rows]


def standing(posts: Iterable[LabelledPost]) -> Standing:
    """Count the labels of posts whose labels are prefetched, and how far they agree."""
    posts = list(posts)
    counts = [len(post.labels.all()) for post in posts]
    pairs = [(one[0].sides, one[1].sides) for post in posts if len(one := _in_order(post)) >= LABELS]
    open_ones = sum(
        post.decided_at is None and count > 0 and resolved(post) is None
        for post, count in zip(posts, counts, strict=True)
    )
    return Standing(
        posts=len(posts),
        unlabelled=counts.count(0),
        once=counts.count(1),
        twice=sum(count >= LABELS for count in counts),
        disagreements=open_ones,
        calls=sum(bool(resolved(post)) for post in posts),
        agreement=agreement(pairs),
    )


def _in_order(post: LabelledPost) -> list[PostLabel]:
    return sorted(post.labels.all(), key=lambda one: one.pk)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    posts: int
    calls: int
    left_out: int
    """Posts without a label that counts."""


def export(chosen: LabelledSet, labels: Path, posts: Path, *, twice: bool = False) -> Exported:
    """Write the files that `evaluate-classifier` takes as `--labelled` and `--posts`.

    Args:
        twice: leave out posts that only one person has labelled.
    """
    lines, texts, calls, left_out = [], [], 0, 0
    for post in chosen.posts.prefetch_related("labels").order_by("pk"):
        sides = resolved(post)
        if sides is None or (twice and post.decided_at is None and len(post.labels.all()) < LABELS):
            left_out += 1
            continue
        calls += bool(sides)
        called = [("candidate", token, side) for token, side in sorted(sides.items())]
        for kind, token, side in called or [("none", "", "")]:
            lines.append((post.post_id, post.username, kind, token, side))
        texts.append(_line(post))
    labels.write_text(csv_text.lines([evaluation.LABEL_COLUMNS, *lines]), encoding="utf-8")
    posts.write_text("".join(texts), encoding="utf-8")
    return Exported(len(texts), calls, left_out)


def _line(post: LabelledPost) -> str:
    values: dict[str, Any] = {"id": post.post_id, "username": post.username, "text": post.text}
    if post.posted_at is not None:
        values["created_at"] = iso_utc(post.posted_at)
    return json.dumps(values, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import stored."""

    posts: int
    """That were not in the set."""
    labels: int
    kept: int
    """Labels that this person had given before, and that stay."""


def import_files(chosen: LabelledSet, labels: Path, posts: Path, *, labelled_by: str, by: str) -> Imported:
    """Add the labels of a file of `evaluate-classifier --labelled`, and the posts that they are about.

    Raises Misconfigured for a line that is no label, and where the posts lack one that is labelled.
    """
    given = {one.post_id: one for one in evaluation.read_labels(labels)}
    texts: dict[str, LabelledPost] = {}
    for post in JsonlSource([str(posts)]).everything()[0]:
        if post.post_id in given and not post.deleted:
            row = LabelledPost(
                labelled_set=chosen, post_id=post.post_id, username=post.username, text=post.text,
                posted_at=post.posted_at, added_by=by[:150], added_at=clock.now(),
            )  # fmt: skip
            texts.setdefault(post.post_id, row)
    if missing := sorted(given.keys() - texts.keys()):
        raise Misconfigured(
            f"{posts} lacks {len(missing)} of {len(given)} labelled posts: {', '.join(missing[:3])}"
        )
    with transaction.atomic():
        added = _insert(chosen, list(texts.values()))
        ids = dict(chosen.posts.filter(post_id__in=given).values_list("post_id", "pk"))
        rows = [
            PostLabel(post_id=ids[post_id], by=labelled_by[:150], sides=_sides(one.sides), at=clock.now())
            for post_id, one in given.items()
        ]
        known = PostLabel.objects.filter(post__labelled_set=chosen, by=labelled_by[:150])
        before = known.count()
        PostLabel.objects.bulk_create(rows, ignore_conflicts=True)
        stored = known.count() - before
    return Imported(added, stored, len(rows) - stored)


def _sides(read: Mapping[str, str]) -> dict[str, str]:
    """Return sides as labels store them."""
    names = {sentiment: side for side, sentiment in evaluation.SIDES.items()}
    return {token: names[sentiment] for token, sentiment in read.items()}
