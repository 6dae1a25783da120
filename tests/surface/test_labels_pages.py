"""The pages of labelled sets: blind labels, disagreements, posts of production."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from maxxit.access import groups
from signals_app.labels import sets
from signals_app.models import LabelledSet, PostLabel
from tests import builders
from tests.surface.conftest import World


def staff(world: World, name: str, group: str = groups.OPERATORS) -> Client:
    person = User.objects.create_user(name, is_staff=True)
    person.groups.add(Group.objects.get(name=group))
    return world.logged_in(person)


@pytest.fixture
def may(world: World) -> LabelledSet:
    chosen = sets.create("may", by="root")
    account = world.of_alice.post.account
    posts = [
        builders.post(account, text=text) for text in ("Long BTC here", "BTC up, ETH down", "Good morning")
    ]
    sets.add_posts(chosen, posts, by="root")
    return chosen


def page(browser: Client, name: str, **query: Any) -> str:
    answer = browser.get(reverse(name), query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_posts_of_production_are_added_from_their_list(world: World) -> None:
    ann, post = staff(world, "ann"), world.of_alice.post
    ann.post(reverse("operator-labels"), {"do": "create", "name": "may", "note": "by hand"})
    chosen = {"action": "add_to_set", "_selected_action": [str(post.pk)], "index": 0}
    answer = ann.post(reverse("admin:signals_app_ctpost_changelist"), chosen)
    assert answer.headers["Location"] == f"{reverse('operator-labels')}?add={post.pk}"
    assert "Add 1 post to a set" in ann.get(answer.headers["Location"]).content.decode()
    answer = ann.post(
        reverse("operator-labels"), {"do": "add", "name": "may", "add": str(post.pk)}, follow=True
    )
    assert "1 of 1 posts added to may" in answer.content.decode()
    assert LabelledSet.objects.get(name="may").posts.get().text == post.text


def test_a_second_person_labels_blind_and_a_third_decides(world: World, may: LabelledSet) -> None:
    ann, ben = staff(world, "ann"), staff(world, "ben")
    first = may.posts.all()[0]
    assert "Long BTC here" in page(ann, "operator-label", set=may.pk)
    answer = ann.post(
        reverse("operator-label"),
        {"set": may.pk, "post": first.pk, "do": "sides", "side-BTC": "long"},
        follow=True,
    )
    assert "BTC up, ETH down" in answer.content.decode()
    seen = page(ben, "operator-label", set=may.pk)
    assert "Long BTC here" in seen
    assert 'value="long" checked' not in seen
    assert "ann" not in seen.partition("<h2>may")[2].partition("</section>")[0]
    ben.post(reverse("operator-label"), {"set": may.pk, "post": first.pk, "do": "none", "side-BTC": "long"})
    assert [(one.by, one.sides) for one in PostLabel.objects.filter(post=first)] == [
        ("ann", {"BTC": "long"}),
        ("ben", {}),
    ]
    assert "1 disagreement" in page(ann, "operator-labels")
    shown = page(ann, "operator-disagreements", set=may.pk)
    assert "long BTC by ann" in shown
    assert "no call by ben" in shown
    chosen = first.labels.get(by="ann")
    ann.post(reverse("operator-disagreements"), {"set": may.pk, "post": first.pk, "label": chosen.pk})
    first.refresh_from_db()
    assert (first.decision, first.decided_by) == ({"BTC": "long"}, "ann")
    assert "without a decision" in page(ann, "operator-disagreements", set=may.pk)


def test_a_label_can_be_changed_by_its_author(world: World, may: LabelledSet) -> None:
    ann, second = staff(world, "ann"), may.posts.all()[1]
    sent = {"set": may.pk, "post": second.pk, "do": "sides", "side-BTC": "long", "side-ETH": "short"}
    answer = ann.post(reverse("operator-label"), sent)
    assert f"last={second.pk}" in answer.headers["Location"]
    shown = page(ann, "operator-label", set=may.pk, post=second.pk)
    assert shown.count("checked") == 2
    ann.post(reverse("operator-label"), sent | {"side-ETH": ""})
    assert second.labels.get().sides == {"BTC": "long"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"do": "sides"}, "choose a side, or No call"),
        ({"do": "sides", "side-ETH": "long"}, "does not name ETH"),
        ({"do": "none", "post": "999999"}, "no such post"),
        ({"do": "none", "post": "x"}, "no such post"),
    ],
)
def test_what_is_no_label_is_refused(
    world: World, may: LabelledSet, changes: dict[str, str], why: str
) -> None:
    first = may.posts.all()[0]
    sent = {"set": str(may.pk), "post": str(first.pk)} | changes
    answer = staff(world, "ann").post(reverse("operator-label"), sent)
    assert answer.status_code == 422
    assert why.lower() in answer.content.decode().lower()
    assert not PostLabel.objects.filter(post__labelled_set=may).exists()


def test_support_looks_and_labels_nothing(world: World, may: LabelledSet) -> None:
    sam, first = staff(world, "sam", groups.SUPPORT), may.posts.all()[0]
    assert "Save the sides" not in page(sam, "operator-label", set=may.pk)
    for name, sent in (
        ("operator-label", {"set": may.pk, "post": first.pk, "do": "none"}),
        ("operator-disagreements", {"set": may.pk, "post": first.pk, "label": "1"}),
        ("operator-labels", {"do": "create", "name": "june"}),
    ):
        assert sam.post(reverse(name), sent).status_code == 403
    assert not PostLabel.objects.filter(post__labelled_set=may).exists()


@pytest.mark.parametrize("name", ["operator-label", "operator-disagreements"])
def test_a_set_that_does_not_exist_is_named(world: World, name: str) -> None:
    assert "There is no such set" in page(staff(world, "ann"), name, set="999999")
    LabelledSet.objects.all().delete()
    assert "There is no such set" in page(world.logged_in(world.staff), name)


def test_the_pages_ask_as_many_queries_whatever_there_is(world: World, may: LabelledSet) -> None:
    ann = staff(world, "ann")
    names = ("operator-labels", "operator-label", "operator-disagreements")

    def queries() -> list[int]:
        counts = []
        for name in names:
            with CaptureQueriesContext(connection) as asked:
                page(ann, name, set=may.pk)
            counts.append(len(asked))
        return counts

    for post in may.posts.all()[:1]:
        sets.label(post, {"BTC": "long"}, by="bob")
        sets.label(post, {}, by="carl")
    queries()
    few = queries()
    account = world.of_alice.post.account
    sets.add_posts(may, [builders.post(account, text=f"Long BTC {number}") for number in range(5)], by="root")
    for post in may.posts.all()[3:]:
        sets.label(post, {"BTC": "long"}, by="bob")
        sets.label(post, {}, by="carl")
    assert queries() == few
