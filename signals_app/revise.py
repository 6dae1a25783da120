"""What an author changes afterwards: another text under a known id, or no post any more.

A text that nobody has read yet is replaced. What was read stays as it was read, and the change is noted: a call must
not be rewritten once its outcome is known. A deletion takes back what has not become an order yet.
"""

from collections.abc import Sequence

from django.db import transaction

from agents.models import CtAccount
from maxxit.core import clock
from maxxit.events.record import advance_all, record
from signals_app.models import CtPost, Signal
from signals_app.outcome import raise_to
from signals_app.sources.base import RawPost
from signals_app.states import PostState, SignalState

UNREAD = (PostState.NEW, PostState.QUARANTINED)


@transaction.atomic
def edits(account: CtAccount, posts: Sequence[RawPost]) -> list[CtPost]:
    """Note every post that is offered with another text than we know; returns those whose text was replaced.

    Of several texts under one id the last counts. Ids of other accounts are nobody's to edit.
    """
    offered = {post.post_id: post.text for post in posts if not post.deleted}
    held = CtPost.objects.select_for_update().filter(account=account, post_id__in=offered, deleted_at=None)
    replaced = []
    for post in held.order_by("pk"):
        text = offered[post.post_id]
        if text == (post.edited_text or post.text):
            continue
        unread = post.state in UNREAD
        changes = {"text": text} if unread else {"edited_text": text}
        record("ctpost.edited", post, was=post.edited_text or post.text, now=text, replaced=unread)
        CtPost.objects.filter(pk=post.pk).update(edited_at=clock.now(), **changes)
        if unread:
            post.text = text
            replaced.append(post)
    return replaced


@transaction.atomic
def deletions(account: CtAccount, posts: Sequence[RawPost]) -> int:
    """Mark the posts that their author deleted and withdraw what hung on them alone; returns how many were marked."""
    ids = {post.post_id for post in posts if post.deleted}
    gone = CtPost.objects.select_for_update().filter(account=account, post_id__in=ids, deleted_at=None)
    marked = list(gone.order_by("pk")) if ids else []
    if not marked:
        return 0
    for post in marked:
        record("ctpost.deleted", post, state=post.state)
    keys = [post.pk for post in marked]
    rows = CtPost.objects.filter(pk__in=keys)
    rows.update(deleted_at=clock.now(), processed_for_signals=True)
    for state in UNREAD:
        unread = [post.pk for post in marked if post.state == state]
        _set_aside(unread, state)
    raise_to(rows.filter(is_signal_candidate=True), "candidate:deleted")
    _withdraw(keys)
    return len(marked)


def _set_aside(ids: Sequence[int], state: PostState) -> None:
    """Nobody needs to read them any more."""
    if state == PostState.QUARANTINED:
        ids = advance_all(CtPost, ids, state, PostState.NEW, why="deleted")
    advance_all(
        CtPost,
        ids,
        PostState.NEW,
        PostState.PREFILTERED,
        why="deleted",
        outcome="prefiltered:deleted",
        is_signal_candidate=False,
    )


def _withdraw(posts: Sequence[int]) -> None:
    """Pending signals of which no post is left expire at once.

    They stay pending until the next pass of the fourth stage, which before anything else ends what has expired,
    together with the orders of it that are planned and have not left.
    """
    pending = Signal.objects.select_for_update().filter(state=SignalState.PENDING, expires_at__gt=clock.now())
    touched = list(pending.filter(pk__in=Signal.objects.filter(posts__in=posts).values("pk")).order_by("pk"))
    kept = set(
        CtPost.objects.filter(signals__in=touched, deleted_at=None).values_list("signals__pk", flat=True)
    )
    for signal in touched:
        if signal.pk not in kept:
            record("signal.withdrawn", signal, reason="post_deleted", token=signal.token)
            Signal.objects.filter(pk=signal.pk).update(expires_at=clock.now())
