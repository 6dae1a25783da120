"""Operator pages of labelled sets: fill a set, label one post at a time, decide where two labels differ."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from maxxit.core.errors import MaxxitError, Rejected
from maxxit.core.terms import Side
from maxxit.web.once import first_time
from maxxit.web.operators import SENT_BEFORE, operator_page, require
from maxxit.web.sentences import sentence
from signals_app.labels import sets
from signals_app.models import CtPost, LabelledPost, LabelledSet

CHANGE = "signals_app.change_labelledset"
SHOWN = 25
"""Disagreements on the page at most."""


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("operator-labels")
def sets_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """List the sets with their labels and agreement; make one; add posts of production (`?add=1,2,3`)."""
    problem = ""
    if request.method == "POST":
        require(request, CHANGE)
        try:
            chosen = _filled(request)
        except MaxxitError as error:
            problem = sentence(error)
        else:
            return redirect(f"{reverse('operator-labels')}#set-{chosen.pk}")
    adding = _posts(request.POST.get("add") or request.GET.get("add", ""))
    context |= {
        "rows": sets.standings(),
        "adding": adding,
        "add": ",".join(str(post.pk) for post in adding),
        "given": request.POST,
        "problem": problem,
        "may_change": request.user.has_perm(CHANGE),
    }
    return render(request, "web/operator_labels.html", context, status=422 if problem else 200)


def _posts(given: str) -> list[CtPost]:
    """Return the posts whose ids are given, separated by commas; what is no id is left out."""
    ids = [int(one) for one in given.split(",") if one.isdecimal() and len(one) < 19][: sets.MOST_AT_ONCE]
    return list(CtPost.objects.filter(pk__in=ids).select_related("account").order_by("pk")) if ids else []


def _filled(request: HttpRequest) -> LabelledSet:
    """Make the set that the form names, or add posts to it; return it. Raises Rejected."""
    by, name = request.user.get_username(), request.POST.get("name", "")
    if request.POST.get("do") == "create":
        made = sets.create(name, by=by, note=request.POST.get("note", ""))
        messages.success(
            request, f"The set {made.name} is made. Add posts: choose them in the list of posts."
        )
        return made
    chosen = sets.named(name)
    if not first_time(request):
        messages.info(request, SENT_BEFORE)
        return chosen
    posts = _posts(request.POST.get("add", ""))
    added = sets.add_posts(chosen, posts, by=by)
    messages.success(request, f"{added} of {len(posts)} posts added to {chosen.name}; the others were in it.")
    return chosen


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("operator-labels")
def label_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show one post that this person has not labelled, without what others or readers say; store the label."""
    chosen, by, problem = _chosen(request), request.user.get_username(), ""
    if request.method == "POST" and chosen is not None:
        require(request, CHANGE)
        try:
            stored = sets.label(_row(chosen, request.POST.get("post", "")), _sides(request), by=by)
        except MaxxitError as error:
            problem = sentence(error)
        else:
            query = urlencode({"set": chosen.pk, "after": stored.post_id, "last": stored.post_id})
            return redirect(f"{reverse('operator-label')}?{query}")
    post, mine = _to_label(request, chosen, by)
    tokens = sets.tokens_in(post.text) if post else []
    context |= {
        "set": chosen,
        "post": post,
        "mine": mine,
        "tokens": [(token, mine.sides.get(token, "") if mine else "") for token in tokens],
        "last": request.GET.get("last", ""),
        "done": chosen.posts.filter(labels__by=by).count() if chosen else 0,
        "total": chosen.posts.count() if chosen else 0,
        "problem": problem,
        "may_change": request.user.has_perm(CHANGE),
    }
    return render(request, "web/operator_label.html", context, status=422 if problem else 200)


def _to_label(request: HttpRequest, chosen: LabelledSet | None, by: str) -> tuple[LabelledPost | None, Any]:
    """Return the post to show and this person's label of it: the one that the address names, else the next."""
    if chosen is None:
        return None, None
    wanted = request.POST.get("post") or request.GET.get("post", "")
    if wanted.isdecimal() and (post := chosen.posts.filter(pk=wanted).first()):
        return post, post.labels.filter(by=by).first()
    after = request.GET.get("after", "")
    return sets.next_post(chosen, by, int(after) if after.isdecimal() else 0), None


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("operator-labels")
def disagreements_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show the posts whose labels differ, with both; a person decides which counts."""
    chosen, problem = _chosen(request), ""
    if request.method == "POST" and chosen is not None:
        require(request, CHANGE)
        try:
            post = _row(chosen, request.POST.get("post", ""))
            label = post.labels.filter(pk=int(request.POST.get("label", "0") or 0)).first()
            if label is None:
                raise Rejected("choose one of the labels that were given", code="bad_label")
            sets.decide(post, label.sides, by=request.user.get_username())
        except (MaxxitError, ValueError) as error:
            problem = sentence(error) if isinstance(error, MaxxitError) else "Choose one of the labels."
        else:
            return redirect(f"{reverse('operator-disagreements')}?{urlencode({'set': chosen.pk})}")
    rows = sets.disagreements(chosen) if chosen else LabelledPost.objects.none()
    context |= {
        "set": chosen,
        "rows": list(rows[:SHOWN]),
        "count": rows.count(),
        "problem": problem,
        "may_change": request.user.has_perm(CHANGE),
    }
    return render(request, "web/operator_disagreements.html", context, status=422 if problem else 200)


def _chosen(request: HttpRequest) -> LabelledSet | None:
    """Return the set that the address or the form names, else the first; None where there is none."""
    given = request.POST.get("set") or request.GET.get("set", "")
    rows = LabelledSet.objects.all()
    return rows.filter(pk=given).first() if given.isdecimal() and len(given) < 19 else rows.first()


def _row(chosen: LabelledSet, given: str) -> LabelledPost:
    row = chosen.posts.filter(pk=given).first() if given.isdecimal() and len(given) < 19 else None
    if row is None:
        raise Rejected("the set has no such post", code="no_post")
    return row


def _sides(request: HttpRequest) -> dict[str, str]:
    """Return token -> side of the form; empty for the button *No call*."""
    if request.POST.get("do") == "none":
        return {}
    given = {
        name.removeprefix("side-"): value for name, value in request.POST.items() if name.startswith("side-")
    }
    sides = {token: str(value) for token, value in given.items() if value in (Side.LONG, Side.SHORT)}
    if not sides:
        raise Rejected("choose a side, or No call", code="bad_side")
    return sides
