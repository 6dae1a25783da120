"""Edits and deletions of posts by their authors.

The text of an unclassified post is replaced. A classified post keeps its text and reading, and the edit is recorded: a
call must not be rewritten once its outcome is known. A deletion withdraws signals that are not executed yet.
"""

from collections.abc import Sequence

from django.db import connection, transaction

from agents.models import CtAccount
from maxxit.core import clock
from maxxit.events.record import advance_all, record
from maxxit.postgres import bulk
from signals_app.models import CtPost, Signal
from signals_app.outcome import candidate, raise_to
from signals_app.reasons import CandidateReason, PrefilterReason
from signals_app.sources.base import RawPost
from signals_app.states import PostState, SignalState

UNREAD = (PostState.NEW, PostState.QUARANTINED)


CHANGED = """
SELECT p.id FROM unnest(%(ids)s::text[], %(texts)s::text[]) AS offered(post_id, text) JOIN ct_posts p USING (post_id)
WHERE p.account_id = %(account)s AND p.deleted_at IS NULL
  AND coalesce(nullif(p.edited_text, ''), p.text) <> offered.text
"""


@transaction.atomic(savepoint=False)
def edits(account: CtAccount, posts: Sequence[RawPost]) -> list[CtPost]:
    """Record every post offered with a changed text; returns those whose text was replaced.

    Of several texts under one id the last counts. Posts of other accounts are not touched.
    """
    offered = {post.post_id: post.text for post in posts if not post.deleted}
    if not offered:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            CHANGED,
            {"ids": bulk.array(offered), "texts": bulk.array(offered.values()), "account": account.pk},
        )
        changed = [pk for (pk,) in cursor.fetchall()]
    if not changed:
        return []
    held = CtPost.objects.select_for_update().filter(pk__in=changed, deleted_at=None)
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


@transaction.atomic(savepoint=False)
def deletions(account: CtAccount, posts: Sequence[RawPost]) -> int:
    """Mark the posts that their author deleted, and withdraw signals without any other post; returns how many."""
    ids = {post.post_id for post in posts if post.deleted}
    if not ids:
        return 0
    gone = CtPost.objects.select_for_update().filter(account=account, post_id__in=ids, deleted_at=None)
    marked = list(gone.order_by("pk"))
    for post in marked:
        record("ctpost.deleted", post, state=post.state)
    keys = [post.pk for post in marked]
    rows = CtPost.objects.filter(pk__in=keys)
    rows.update(deleted_at=clock.now(), processed_for_signals=True)
    for state in UNREAD:
        unread = [post.pk for post in marked if post.state == state]
        _prefilter(unread, state)
    raise_to(rows.filter(is_signal_candidate=True), candidate(CandidateReason.DELETED))
    _withdraw(keys)
    return len(marked)


def _prefilter(ids: Sequence[int], state: PostState) -> None:
    """Move deleted posts to `prefiltered`, so that they are not classified."""
    if state == PostState.QUARANTINED:
        ids = advance_all(CtPost, ids, state, PostState.NEW, why="deleted")
    advance_all(
        CtPost,
        ids,
        PostState.NEW,
        PostState.PREFILTERED,
        why="deleted",
        outcome=f"prefiltered:{PrefilterReason.DELETED}",
        is_signal_candidate=False,
    )


def _withdraw(posts: Sequence[int]) -> None:
    """Let pending signals expire whose posts are all deleted.

    They stay pending until the next execute pass, which first expires them together with their unsent orders.
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
