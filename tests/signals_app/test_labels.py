"""Labelled sets: two blind labels, disagreements and their decision, and the files of `evaluate-classifier`."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.core.errors import Rejected
from signals_app.labels import sets
from signals_app.labels.agreement import agreement
from signals_app.models import LabelledPost, LabelledSet, PostLabel
from signals_app.reading.evaluation import read_labels
from tests import builders

LONG, SHORT, NONE = {"BTC": "long"}, {"BTC": "short"}, dict[str, str]()


def filled(*texts: str) -> LabelledSet:
    chosen = sets.create("may", by="root")
    account = builders.account()
    posts = [builders.post(account, text=text) for text in texts or ("Long BTC here",)]
    sets.add_posts(chosen, posts, by="root")
    return chosen


def label(post: LabelledPost, *sides: dict[str, str]) -> None:
    for by, one in zip(("ann", "bob"), sides, strict=False):
        sets.label(post, one, by=by)


def test_kappa_of_the_textbook_example() -> None:
    """Cohen's kappa of 45, 15, 25, 15 (yes-yes, yes-no, no-yes, no-no) is 0.13 with a standard error of 0.10."""
    pairs = [(LONG, LONG)] * 45 + [(LONG, NONE)] * 15 + [(NONE, LONG)] * 25 + [(NONE, NONE)] * 15
    found = agreement(pairs)
    assert (found.pairs, found.same) == (100, 60)
    assert found.kappa == pytest.approx(0.1304, abs=1e-4)
    assert found.kappa_95 == pytest.approx((-0.0783, 0.3392), abs=1e-3)


@pytest.mark.parametrize("pairs", [[], [(NONE, NONE)] * 5])
def test_kappa_needs_two_classes(pairs: list[Any]) -> None:
    assert agreement(pairs).kappa is None


def test_kappa_is_one_where_all_agree_and_negative_where_none_does() -> None:
    assert agreement([(LONG, LONG), (SHORT, SHORT)]).kappa == 1
    few = agreement([(LONG, SHORT), (SHORT, LONG)])
    assert (few.kappa, few.kappa_95) == (-1, None)


@pytest.mark.django_db
def test_each_person_gets_the_posts_that_they_have_not_labelled() -> None:
    chosen = filled("Long BTC here", "Short BTC now", "Good morning")
    first, second, third = chosen.posts.all()
    assert sets.next_post(chosen, "ann") == first
    assert sets.next_post(chosen, "ann", after=first.pk) == second
    label(first, LONG)
    assert sets.next_post(chosen, "ann") == second
    assert sets.next_post(chosen, "bob") == first
    label(second, NONE, SHORT)
    label(third, NONE, NONE)
    assert sets.next_post(chosen, "ann", after=third.pk) is None
    assert sets.next_post(chosen, "carl") == first  # the others have two labels


@pytest.mark.django_db
def test_a_label_is_corrected_by_its_author_and_not_given_a_third_time() -> None:
    chosen = filled()
    post = chosen.posts.get()
    label(post, LONG, NONE)
    sets.label(post, SHORT, by="ann")
    assert [one.sides for one in post.labels.all()] == [SHORT, NONE]
    with pytest.raises(Rejected, match="two others"):
        sets.label(post, LONG, by="carl")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sides", "why"),
    [({"ETH": "long"}, "does not name ETH"), ({"BTC": "up"}, "long or short"), ({"X": "long"}, "X")],
)
def test_a_label_is_about_listed_tokens_of_the_text(sides: dict[str, str], why: str) -> None:
    post = filled().posts.get()
    with pytest.raises(Rejected, match=why):
        sets.label(post, sides, by="ann")
    assert not PostLabel.objects.exists()


@pytest.mark.django_db
def test_a_disagreement_waits_for_a_decision_once() -> None:
    chosen = filled("Long BTC here", "Long BTC again")
    first, second = chosen.posts.all()
    label(first, LONG, NONE)
    label(second, LONG, LONG)
    assert list(sets.disagreements(chosen)) == [first]
    assert sets.resolved(first) is None
    with pytest.raises(Rejected, match="choose one"):
        sets.decide(first, SHORT, by="root")
    sets.decide(first, NONE, by="root")
    first.refresh_from_db()
    assert (sets.resolved(first), first.decided_by) == (NONE, "root")
    assert not sets.disagreements(chosen)
    with pytest.raises(Rejected, match="decided before"):
        sets.decide(first, LONG, by="carl")
    with pytest.raises(Rejected, match="decided by root"):
        sets.label(first, LONG, by="carl")
    found = sets.standing(chosen.posts.prefetch_related("labels"))
    assert (found.posts, found.twice, found.disagreements, found.calls) == (2, 2, 0, 1)
    assert (found.agreement.pairs, found.agreement.same) == (2, 1)


@pytest.mark.django_db
def test_a_set_keeps_the_text_as_it_was_read_and_each_post_once() -> None:
    chosen = filled()
    post = builders.post(builders.account(username="other"), text="Long ETH")
    assert sets.add_posts(chosen, [post], by="root") == 1
    post.text = "deleted"
    post.save()
    assert sets.add_posts(chosen, [post], by="root") == 0
    assert LabelledPost.objects.filter(text="Long ETH").count() == 1


def run(*words: str) -> Any:
    out = StringIO()
    call_command(*words, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.mark.django_db
def test_what_is_exported_is_evaluated_and_imported(tmp_path: Path) -> None:
    chosen = filled("Long BTC here, buying", "Guten Morgen, ich bin noch da", "Selling BTC and ETH", "BTC?")
    one, two, three, four = chosen.posts.all()
    label(one, LONG, LONG)
    label(two, NONE)
    label(three, {"BTC": "short", "ETH": "short"})
    label(four, LONG, NONE)
    done = run("labels", "export", "may", "--out", str(tmp_path))
    assert (done["posts"], done["calls"], done["left_out"]) == (3, 2, 1)
    labels = {one.post_id: dict(one.sides) for one in read_labels(tmp_path / "may.csv")}
    assert labels[three.post_id] == {"BTC": "bearish", "ETH": "bearish"}
    assert run("labels", "export", "may", "--out", str(tmp_path / "b"), "--twice")["posts"] == 1

    by_files = run(
        "evaluate-classifier", "--labelled", str(tmp_path / "may.csv"), "--posts", str(tmp_path / "may.jsonl")
    )
    by_set = run("evaluate-classifier", "--set", "may")
    assert by_set["classes"] == by_files["classes"]
    assert by_set["posts"] == 3
    by_language = by_set["languages"]
    assert {name: one["posts"] for name, one in by_language.items()} == {"en": 2, "de": 1}
    assert run("evaluate-classifier", "--set", "may", "--language", "en")["posts"] == 2
    with pytest.raises(CommandError, match="no labelled post is in the language 'tr'"):
        call_command("evaluate-classifier", "--set", "may", "--language", "tr")
    with pytest.raises(CommandError, match="--labelled and --posts, or --set"):
        call_command("evaluate-classifier")

    run("labels", "create", "again", "--note", "a copy")
    files = ("--labelled", str(tmp_path / "may.csv"), "--posts", str(tmp_path / "may.jsonl"))
    assert run("labels", "import", "again", *files, "--labelled-by", "ann") == {
        "posts": 3,
        "labels": 3,
        "kept": 0,
    }
    assert run("labels", "import", "again", *files, "--labelled-by", "ann") == {
        "posts": 0,
        "labels": 0,
        "kept": 3,
    }
    copied = {post.post_id: sets.resolved(post) for post in sets.named("again").posts.all()}
    assert copied == {post.post_id: sets.resolved(post) for post in (one, two, three)}


@pytest.mark.django_db
def test_the_commands(tmp_path: Path) -> None:
    chosen = filled()
    post = builders.post(builders.account(username="other"), text="ETH to the moon", outcome="not_candidate")
    assert run("labels", "add", "may", "--outcome", "not_candidate")["added"] == 1
    assert run("labels", "add", "may", "--post", post.post_id)["added"] == 0
    assert [(row["name"], row["posts"], row["once"]) for row in run("labels", "list")] == [("may", 2, 0)]
    label(chosen.posts.first(), LONG, SHORT)  # type: ignore[arg-type]
    [waiting] = run("labels", "disagreements", "may")
    assert waiting["labels"] == {"ann": LONG, "bob": SHORT}
    assert run("labels", "show", "may")["disagreements"] == 1
    with pytest.raises(CommandError, match="no labelled set"):
        call_command("labels", "show", "june")
    with pytest.raises(CommandError, match="already"):
        call_command("labels", "create", "may")
