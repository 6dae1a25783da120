"""The format of X API v2: a post of an answer, its reactions, and errors beside or instead of posts."""

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, Field

from maxxit.core import clock, redact
from signals_app.sources.base import Engagement, count

FIELDS = "created_at,note_tweet,public_metrics,author_id"
"""What is asked for besides id and text."""
CUT = re.compile(r"…(?:\s*https://t\.co/\w+)?\s*$")
REPOST = re.compile(r"^RT @\w+:")
LONGEST_WITHOUT_CUT = 270
"""Characters: a shorter text that ends in "…" was not truncated by the provider."""


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
