"""What both sources of X share: the format of X API v2, how an item becomes a post, and what a query may be."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, ValidationError

from maxxit.core import clock, redact
from maxxit.core.errors import Misconfigured
from signals_app.sources.base import Engagement, RawPost, Refused, check_names, count, unfit

FIELDS = "created_at,note_tweet,public_metrics,author_id"
"""What is asked for besides id and text."""
CUT = re.compile(r"…(?:\s*https://t\.co/\w+)?\s*$")
REPOST = re.compile(r"^RT @\w+:")
LONGEST_WITHOUT_CUT = 270
"""Characters: a shorter text that ends in "…" was not truncated by the provider."""
MAX_QUERY = 512
"""Characters of a query on X's lower plans."""
SHOWN = 2000
"""Characters that are kept of a refused item."""


class _Note(BaseModel):
    text: str = Field(min_length=1)


class _Metrics(BaseModel):
    """Reactions to a post; those who ask for posts instead of tweets get `repost_count`."""

    like_count: int | None = None
    retweet_count: int | None = Field(
        default=None, validation_alias=AliasChoices("retweet_count", "repost_count")
    )
    reply_count: int | None = None
    quote_count: int | None = None


class Item(BaseModel):
    """A post of an answer."""

    id: str = Field(pattern="^[0-9]+$")
    text: str = Field(min_length=1)
    created_at: Annotated[datetime, AfterValidator(clock.utc)]
    note_tweet: _Note | None = Field(default=None, validation_alias=AliasChoices("note_tweet", "note_post"))
    """The full text of a long post. X calls it `note_post` where the request names posts instead of tweets."""

    public_metrics: _Metrics = Field(default_factory=_Metrics)
    author_id: str = ""

    @property
    def full_text(self) -> str:
        """The full text of a long post, else the text."""
        return self.note_tweet.text if self.note_tweet else self.text

    @property
    def truncated(self) -> bool:
        """Whether the provider truncated the text. Reposts always are, and never count as posts."""
        text = self.full_text
        return len(text) >= LONGEST_WITHOUT_CUT and bool(CUT.search(text)) and not REPOST.match(text)

    @property
    def engagement(self) -> Engagement:
        """Its reactions at the time of the answer."""
        counts = self.public_metrics
        return Engagement(
            count(counts.like_count),
            count(counts.retweet_count),
            count(counts.reply_count),
            count(counts.quote_count),
        )


def post_of(raw: Any, username: str, author_of: Callable[[Item], str], *, provider: str) -> RawPost | Refused:
    """Return the post of an item of the account or query `username`, or why it is none.

    Args:
        author_of: returns the name of an item's author, empty where it is not known.
    """
    try:
        item = Item.model_validate(raw)
    except ValidationError as error:
        stated_id = raw.get("id") if isinstance(raw, dict) else None
        return _refused(raw, f"{provider}:{username}:{stated_id or '?'}", str(error))
    author = author_of(item)
    post = RawPost(
        item.id,
        username,
        item.full_text,
        item.created_at,
        engagement=item.engagement,
        link=f"https://x.com/{author or 'i'}/status/{item.id}",
        author=author,
    )
    if why := unfit(post) or (
        "the provider truncated the text and gave no full version" if item.truncated else ""
    ):
        return _refused(raw, f"{provider}:{username}:{item.id}", why)
    return post


def _refused(raw: Any, place: str, why: str) -> Refused:
    return Refused(place, redact.text(why)[:300], str(redact.value(raw))[:SHOWN])


def checked_queries(provider: str, queries: Mapping[str, str] | None) -> dict[str, str]:
    """Return the queries by name in lower case. Raises Misconfigured for a name or query that cannot be."""
    found = {name.lower(): str(wanted) for name, wanted in (queries or {}).items()}
    check_names("query", found)
    for name, wanted in found.items():
        if not 1 <= len(wanted) <= MAX_QUERY:
            raise Misconfigured(
                f"post source {provider} (config/signals.yaml): query {name} has {len(wanted)} characters; "
                f"1 to {MAX_QUERY} are allowed"
            )
    return found


def error_text(body: dict[str, Any]) -> str:
    """Join the messages in the answer's `errors`; empty without any."""
    errors = body.get("errors")
    messages = [
        ": ".join(str(error[name]) for name in ("title", "detail") if error.get(name))
        or str(error.get("message", ""))
        for error in (errors if isinstance(errors, list) else [])
        if isinstance(error, dict)
    ]
    return redact.text("; ".join(filter(None, messages)))[:300]


def item_id(item: Any) -> str:
    post_id = item.get("id") if isinstance(item, dict) else None
    return post_id if isinstance(post_id, str) and post_id.isdecimal() else ""


def number(post_id: str) -> tuple[int, str]:
    """Return the sort key of an id by its numeric value."""
    return len(post_id), post_id
