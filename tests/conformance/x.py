"""X API v2: tweepy, the client that most people use, and xdk, X's own, generated from its OpenAPI document."""

from typing import Any

import pydantic
import pytest
import tweepy
import xdk
from xdk import schemas

from tests.conformance.conftest import KEY, Fakes
from tests.conformance.loopback import redirect

FIELDS = ["created_at", "note_tweet", "public_metrics", "author_id"]
LIMITED = {"title": "Too Many Requests", "detail": "Too Many Requests", "type": "about:blank", "status": 429}


@pytest.fixture
def popular(fakes: Fakes) -> tweepy.Client:
    client = tweepy.Client(KEY)
    redirect(client.session, fakes.urls["x"])
    return client


@pytest.fixture
def official(fakes: Fakes) -> xdk.Client:
    client = xdk.Client(base_url=fakes.urls["x"], bearer_token=KEY)
    client.session.trust_env = False
    return client


def test_tweepy_reads_an_account_from_its_name_to_its_oldest_post(
    fakes: Fakes, popular: tweepy.Client
) -> None:
    fakes.x_says(posts=35)
    user = popular.get_user(username="author").data
    assert (user.username, user.name) == ("author", "Author")

    pages = list(tweepy.Paginator(popular.get_users_tweets, user.id, max_results=10, tweet_fields=FIELDS))
    posts = [post for page in pages for post in page.data]
    assert [page.meta["result_count"] for page in pages] == [10, 10, 10, 5]
    assert all(int(page.meta["newest_id"]) == page.data[0].id for page in pages)
    assert len({post.id for post in posts}) == 35
    assert [post.id for post in posts] == sorted((post.id for post in posts), reverse=True)
    assert all(post.created_at.tzinfo for post in posts)
    assert posts[0].note_tweet["text"].startswith(posts[0].text[:-1])
    assert len(posts[0].note_tweet["text"]) > 280


def test_what_is_not_asked_for_does_not_come(fakes: Fakes, popular: tweepy.Client) -> None:
    fakes.x_says(posts=1)
    (post,) = popular.get_users_tweets(popular.get_user(username="author").data.id).data
    assert set(post.data) == {"id", "text", "edit_history_tweet_ids"}


def test_ids_bound_the_posts_on_both_sides(fakes: Fakes, popular: tweepy.Client) -> None:
    fakes.x_says(posts=9)
    user = popular.get_user(username="author").data.id
    ids = [post.id for post in popular.get_users_tweets(user).data]
    between = popular.get_users_tweets(user, since_id=ids[5], until_id=ids[1]).data
    assert [post.id for post in between] == ids[2:5]
    assert popular.get_users_tweets(user, since_id=ids[0]).data is None


def test_errors_are_read_by_tweepy(fakes: Fakes, popular: tweepy.Client) -> None:
    fakes.x_says(posts=1)
    nobody = popular.get_user(username="nobody")
    assert nobody.data is None
    assert nobody.errors[0]["detail"] == "Could not find user with username: [nobody]."

    with pytest.raises(tweepy.BadRequest, match="not between 5 and 100"):
        popular.get_users_tweets(1000, max_results=3)

    fakes.x_answers(status=429, headers={"x-rate-limit-reset": "1777637700"}, body=LIMITED)
    with pytest.raises(tweepy.TooManyRequests, match="Too Many Requests") as limited:
        popular.get_users_tweets(1000)
    assert limited.value.response.headers["x-rate-limit-reset"] == "1777637700"


def test_xs_own_client_reads_the_same_under_its_newer_names(fakes: Fakes, official: xdk.Client) -> None:
    fakes.x_says(posts=25)
    user = official.users.get_by_username("author").data
    assert user.username == "author"
    pages = list(official.users.get_posts(user.id, max_results=10, post_fields=["created_at", "note_post"]))
    posts: list[Any] = [post for page in pages for post in page.data]
    assert len({post.id for post in posts}) == 25
    assert pages[0].meta.newest_id == posts[0].id
    assert len(posts[0].note_post.text) > 280
    assert all(post.created_at and post.edit_history_post_ids == [post.id] for post in posts)


def test_a_refusal_is_one_of_the_problems_of_xs_document(fakes: Fakes, official: xdk.Client) -> None:
    fakes.x_says(posts=1)
    (problem,) = official.users.get_by_username("nobody").model_dump()["errors"]
    known = pydantic.TypeAdapter(schemas.ResourceNotFoundProblem).validate_python(problem)
    assert (known.title, known.value) == ("Not Found Error", "nobody")


def test_our_own_source_asks_as_tweepy_asks_and_reads_what_it_reads(
    fakes: Fakes, popular: tweepy.Client
) -> None:
    fakes.x_says(posts=20)
    user = popular.get_user(username="author").data.id
    first = popular.get_users_tweets(user, max_results=20).data[-1].id
    fakes.x_says(posts=20)
    popular.get_user(username="author")
    theirs = [
        post
        for page in tweepy.Paginator(
            popular.get_users_tweets, user, max_results=15, since_id=first, tweet_fields=FIELDS
        )
        for post in page.data
    ]
    asked = fakes.x_asked()
    fakes.x_says(posts=20)
    ours = fakes.x_ours(since_id=str(first))

    assert [one["id"] for one in reversed(ours)] == [str(post.id) for post in theirs]
    assert ours[-1]["text"] == theirs[0].note_tweet["text"]
    pages = [one for one in fakes.x_asked() if one["path"].endswith("/tweets")]
    assert [one["query"] for one in pages] == [one["query"] for one in asked[1:]]
    assert {one["headers"]["Authorization"] for one in asked} == {
        {name.lower(): value for name, value in one["headers"].items()}["authorization"] for one in pages
    }


def test_tweepy_searches_and_reads_reactions_as_our_source_does(fakes: Fakes, popular: tweepy.Client) -> None:
    fakes.x_says(posts=25)
    pages = list(
        tweepy.Paginator(popular.search_recent_tweets, "buying", max_results=15, tweet_fields=FIELDS)
    )
    theirs = [post for page in pages for post in page.data or []]
    asked = [one["query"] for one in fakes.x_asked()]
    fakes.x_says(posts=25)
    ours = fakes.x_found(wanted="buying")

    assert [one["id"] for one in reversed(ours)] == [str(post.id) for post in theirs][: len(ours)]
    assert {one["likes"] for one in ours} == {
        post.public_metrics["like_count"] for post in theirs[: len(ours)]
    }
    assert len(ours) == 15
    assert fakes.x_asked()[0]["query"] == asked[0]
    assert "next_token" in asked[1]
