"""The held-out posts: the rule of held-out.json gives the same posts, and no training post is among them."""

from collections import Counter
from hashlib import sha256

import pytest

from tests.signals_app.reading.held_out import DATA, PARTS, REPOSTS, RULE, placed, placed_reposts, text_key


def test_the_held_out_accounts_follow_from_their_names() -> None:
    names = RULE["authors"]["held_out"]
    assert names == sorted(names, key=str.lower)
    assert all(sha256(name.lower().encode()).digest()[0] % 4 < 2 for name in names)


def test_posts_of_one_template_have_one_key() -> None:
    first, second = "#BTC at $21,792 @you https://t.co/a now!", "#btc at $9.5 now"
    assert text_key(first) == text_key(second) == "btcatnow"


@pytest.mark.realdata
def test_no_training_post_shares_account_day_or_template_with_the_held_out_ones() -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: recorded posts lie beside the repository")
    found = list(placed())
    assert Counter(one.part for one in found) == {
        "authors": 714,
        "period": 176,
        "posts": 381,
        "training": 1629,
    }
    training = [one.post for one in found if one.part == "training"]
    of_month = [post for post in training if post["created_at"] < "2018"]
    assert not {post["username"] for post in of_month} & set(RULE["authors"]["held_out"])
    assert max(post["created_at"] for post in of_month) < RULE["period"]["from"]
    templates = {text_key(one.post["text"]) for one in found if one.part == "posts"}
    later = [post for post in training if post["created_at"] >= "2018"]
    assert not templates & {text_key(post["text"]) for post in later}
    assert {one.part for one in found} == {*PARTS, "training"}


@pytest.mark.realdata
def test_no_reposted_text_for_training_shares_author_or_template_with_a_held_out_one() -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: recorded posts lie beside the repository")
    found = list(placed_reposts())
    assert Counter(one.part for one in found) == {"reposts": 312, "reposts-training": 367}
    held = [one.post for one in found if one.part == REPOSTS]
    training = [one.post for one in found if one.part != REPOSTS]
    authors = {post["username"].casefold() for post in held}
    assert not authors & {post["username"].casefold() for post in training}
    first = [one.post for one in placed()]
    assert not authors & {post["username"].casefold() for post in first}
    keys = {text_key(post["text"]) for post in held}
    assert not keys & {text_key(post["text"]) for post in (*training, *first)}
