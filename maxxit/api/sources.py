"""The API under /api/sources: signed posts and signals of others, for sources with the adapter `inbound`."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from django.db import transaction
from django.http import HttpRequest
from ninja import Schema, Status
from ninja.errors import HttpError
from ninja.security import APIKeyHeader
from pydantic import AfterValidator, Field

from agents.models import CtAccount
from maxxit.access import attempts, auth
from maxxit.access.inputs import When
from maxxit.api.routing import Router
from maxxit.core import clock, signing
from maxxit.core.errors import Rejected
from maxxit.market.instruments import all_instruments, stablecoins
from maxxit.reports.schemas import Problem
from signals_app import inbound
from signals_app.models import InboundPost
from signals_app.sources.base import MAX_TEXT, Engagement, RawPost, StatedCall, derived_id, unfit, web_link
from signals_app.sources.configured import inbound_source
from signals_app.sources.inbound import InboundSource

router = Router(tags=["sources"])
REFUSALS = {401: Problem, 409: Problem, 413: Problem, 422: Problem, 429: Problem, 503: Problem}
AHEAD = timedelta(minutes=5)
"""How far a post's time may lie ahead of our clock."""


def _whole(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError("a finite number is needed")
    return value


class CallIn(Schema):
    """A call in fields: the post becomes a candidate as stated, without a reader."""

    token: Annotated[str, Field(max_length=20, description="a symbol of config/markets.yaml, such as BTC")]
    side: Literal["long", "short"]
    confidence: Annotated[
        Decimal, Field(gt=0, le=1, max_digits=7, decimal_places=6), AfterValidator(_whole)
    ] = Decimal("0.8")


Reactions = Annotated[int | None, Field(ge=0, lt=2**31)]


class PostIn(Schema):
    """A post. Without `call` it is read as every other post is; with `call` it is a signal."""

    id: Annotated[str, Field(min_length=1, max_length=100, description="yours; a repeat is ignored")]
    account: Annotated[str, Field(min_length=1, max_length=50, description="an account of this source")]
    text: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    created_at: Annotated[When | None, Field(description="with a time zone; default: now")] = None
    link: Annotated[str, Field(max_length=500)] = ""
    likes: Reactions = None
    reposts: Reactions = None
    replies: Reactions = None
    quotes: Reactions = None
    call: CallIn | None = None


class Taken(Schema):
    """The post is stored; `new` is false for a repeat."""

    id: str
    post_id: Annotated[str, Field(description="its id in /api/db/posts")]
    new: bool


class BySignature(APIKeyHeader):
    """`X-Maxxit-Signature: t=<unix seconds>,v1=<hex>`, HMAC-SHA256 of `<t>.<body>` with the source's secret."""

    param_name = signing.HEADER

    def authenticate(self, request: HttpRequest, key: str | None) -> InboundSource | None:
        """Return the source whose secret signed the body. Raises HttpError with what is wrong."""
        match = request.resolver_match
        source = inbound_source(match.kwargs["source"] if match else "")
        why = f"send {signing.HEADER}"
        if source is None:
            why = "there is no such source, or the signature is not that of its secret"
        elif key:
            if int(request.headers.get("Content-Length") or 0) > source.max_bytes:
                raise HttpError(413, f"the body is larger than {source.max_bytes} bytes")
            why = signing.problem(key, source.secrets(), clock.now().timestamp(), request.body)
        if source is None or why:
            counted = attempts.refused_key_subjects(auth.address(request))
            if attempts.begin(counted):
                raise HttpError(429, "too many refused signatures from this address: try again later")
            attempts.failed(counted, "source.refused")
            raise HttpError(401, why)
        if auth.count(f"source:{source.name}") > source.per_minute:
            raise HttpError(429, f"more than {source.per_minute} posts a minute")
        return source


@router.post(
    "/{source}/posts", response={200: Taken, 202: Taken, **REFUSALS}, auth=BySignature(), throttle=[]
)
def take_post(request: HttpRequest, source: str, body: PostIn) -> Any:
    """Store a post or signal of a source. 202: taken; 200: a repeat of an earlier one, which changes nothing."""
    stanza: InboundSource = request.auth  # type: ignore[attr-defined]  # set by ninja
    post = _post(stanza.name, body)
    if not CtAccount.objects.filter(
        x_username__iexact=body.account, source=stanza.name, is_active=True
    ).exists():
        raise HttpError(
            422,
            f"account: no account {body.account!r} is read from {stanza.name}: "
            f"`manage.py accounts add {body.account} --source {stanza.name}`",
        )
    taken = Taken(id=body.id, post_id=post.post_id, new=True)
    with transaction.atomic():
        if inbound.keep(stanza.name, [inbound.Arrived(body.id, post)]):
            return Status(202, taken)
        known = InboundPost.objects.get(source=stanza.name, ident=body.id)
    post = inbound.arrived(post, known.received_at)
    if not _same(known.item, inbound.as_json(post), dated=body.created_at is not None):
        raise Rejected(f"id {body.id} was sent with another content before: use a new id", code="id_reused")
    taken.new = False
    return Status(200, taken)


def _same(stored: dict[str, Any], sent: dict[str, Any], *, dated: bool) -> bool:
    left_out = () if dated else ("posted_at",)
    return {k: v for k, v in stored.items() if k not in left_out} == {
        k: v for k, v in sent.items() if k not in left_out
    }


def _post(source: str, body: PostIn) -> RawPost:
    """Return the post. Raises HttpError 422 with the field that is wrong."""
    now = clock.now()
    if body.created_at is not None and body.created_at.tzinfo is None:
        raise HttpError(422, f"created_at: {body.created_at.isoformat()} has no time zone: append Z for UTC")
    posted_at = clock.utc(body.created_at) if body.created_at else now
    if posted_at > now + AHEAD:
        raise HttpError(422, f"created_at: {posted_at:%Y-%m-%d %H:%M} UTC lies in the future")
    call = None
    if body.call:
        token = body.call.token.upper().lstrip("$#")
        if token not in all_instruments() or token in stablecoins():
            raise HttpError(422, f"call.token: no tradable token {token!r} in config/markets.yaml")
        call = StatedCall(token, body.call.side, body.call.confidence)
    text = body.text.strip() or (f"{call.side} ${call.token}" if call else "")
    if not text:
        raise HttpError(422, "text: give a text, or a call")
    if body.link and not web_link(body.link):
        raise HttpError(422, "link: an http(s) URL is needed")
    post = RawPost(
        derived_id("in", source, body.id),
        body.account,
        text,
        posted_at,
        engagement=Engagement(body.likes, body.reposts, body.replies, body.quotes),
        link=body.link,
        call=call,
    )
    if why := unfit(post):
        raise HttpError(422, why)
    return post
