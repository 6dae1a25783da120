"""Previews of users: request, cancel, look up, and start those that wait, each in a process of its own.

One preview of a user is under way at a time: another request cancels it. The sweep `start_due` starts the waiting ones,
and starts again or fails those whose process has shown no sign of life, so that none is left running.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Any

import structlog
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.db.models import Count, Q

from agents.following import clean_name
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.config import ROOT
from maxxit.core.errors import InvalidInput, Rejected, StaleState
from maxxit.core.money import plain
from maxxit.core.terms import ExitPreset, Preset
from maxxit.events.record import advance, record
from maxxit.pipeline import release
from maxxit.replay.models import Preview
from maxxit.replay.plan import Plan
from maxxit.replay.states import UNDER_WAY, PreviewState
from maxxit.reports.preview_policy import policy
from trading.deployments import activation
from trading.models import LimitsInForce

log = structlog.get_logger(__name__)

WIDTH = timedelta(hours=1)
"""A span ends with the last whole hour, so that the same request within an hour has the same answer."""
LOCK = 20_261_130
"""Advisory lock of the sweep."""


def plan_of(
    accounts: Sequence[str],
    capital: Decimal,
    sizing_preset: str = Preset.MODERATE,
    exit_preset: str = ExitPreset.SIGNAL,
    days: int | None = None,
) -> Plan:
    """Return the plan of a preview over the last `days`. Raises InvalidInput that names every wrong value.

    Args:
        accounts: user names of X, with or without @.
        capital: USDC.
        days: None: the number in config/previews.yaml.
    """
    limits, problems = policy(), dict[str, str]()
    days = limits.days if days is None else days
    names = list(dict.fromkeys(clean_name(name) for name in accounts if clean_name(name)))
    if not names:
        problems["accounts"] = "choose at least one account"
    elif len(names) > limits.max_accounts:
        problems["accounts"] = (
            f"{len(names)} accounts are chosen, and a preview takes {limits.max_accounts} at most"
        )
    if not 1 <= days <= limits.max_days:
        problems["days"] = f"enter 1 to {limits.max_days} days, not {days}"
    try:
        plan = activation.check(capital, sizing_preset, exit_preset=exit_preset)
    except InvalidInput as error:
        problems |= error.problems
    else:
        if plan.problems:
            problems["capital"] = f"this cannot work: {'; '.join(plan.problems)}"
    if not problems:
        end = clock.bucket(clock.now(), WIDTH)
        start = end - timedelta(days=days)
        result = Plan(tuple(names), capital, sizing_preset, exit_preset, start, end)
        problems |= _without_records(result)
    if problems:
        raise InvalidInput(problems)
    return result


RECORDED = """
SELECT count(*), max(p.id), count(p.edited_at), count(p.deleted_at)
FROM ct_posts p JOIN ct_accounts a ON a.id = p.account_id
WHERE lower(a.x_username) = ANY(%s) AND p.posted_at >= %s AND p.posted_at < %s
"""


def _recorded(plan: Plan) -> list[int | None]:
    """Return number and newest id of the stored posts of a plan, and how many of them were edited and deleted."""
    with connection.cursor() as cursor:
        cursor.execute(RECORDED, [[name.lower() for name in plan.accounts], plan.start, plan.end])
        return list(cursor.fetchone())


def _without_records(plan: Plan) -> dict[str, str]:
    """Return the problem of a plan none of whose accounts has a stored post."""
    if _recorded(plan)[0]:
        return {}
    names = ", ".join(f"@{name}" for name in plan.accounts)
    return {"accounts": f"no recorded posts of {names} in the last {(plan.end - plan.start).days} days: there is "
            "nothing to preview. Follow them, and their posts are recorded from then on"}  # fmt: skip


def _digest(plan: Plan) -> str:
    """Return the key of a result: what is played, by which code and configuration, with which limits."""
    limits = LimitsInForce.objects.values_list("limits", "waiting").first()
    names = sorted(name.lower() for name in plan.accounts)
    parts = [plan.as_json() | {"accounts": names}, _recorded(plan), release.mine(), limits]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def request(owner: AbstractBaseUser, plan: Plan, *, by: str, form: dict[str, Any] | None = None) -> Preview:
    """Queue a preview of `plan` for `owner`, or return the stored result of the same inputs.

    Another one of this owner that is under way is canceled. Raises Rejected (`too_many_previews`) where the owner had
    as many computed today as are allowed.

    Args:
        form: what the owner typed, to fill the page again.
    """
    digest, now = _digest(plan), clock.now()
    with transaction.atomic():
        get_user_model()._default_manager.select_for_update(no_key=True).get(pk=owner.pk)
        mine = Preview.objects.filter(owner_id=owner.pk)
        under_way = mine.filter(state__in=UNDER_WAY).first()
        if under_way is not None and under_way.digest == digest:
            if form is not None:  # a program names none, and what its owner typed on the page stays
                under_way.form = form
                under_way.save(update_fields=["form"])
            return under_way
        since = now - timedelta(days=policy().keep_days)
        same = Preview.objects.filter(digest=digest, state=PreviewState.DONE, created_at__gte=since).first()
        most = policy().per_user_per_day
        today = mine.filter(created_at__gt=now - timedelta(days=1), copied=False).count()
        if same is None and today >= most:
            raise Rejected(
                f"{today} previews were computed for you in the last 24 hours, and {most} are allowed: try again later",
                code="too_many_previews",
            )
        if under_way is not None:
            cancel(under_way, by=by)
        values = {"owner_id": owner.pk, "inputs": plan.as_json(), "digest": digest, "form": form or {}}
        preview = Preview.objects.create(**values, created_at=now, copied=same is not None)
        if same is not None:
            advance(
                preview, PreviewState.DONE, why="stored", result=same.result, progress=1.0, finished_at=now,
                played_until=plan.end,
            )  # fmt: skip
        else:
            record("preview.queued", preview, by=by)
    return preview


def cancel(preview: Preview, *, by: str) -> bool:
    """Cancel a preview; return whether it was under way. Its process ends within seconds.

    The sweep may start it, or queue it again, at the same moment: then it is canceled in its new state.
    """
    while preview.state in UNDER_WAY:
        try:
            with transaction.atomic():
                advance(preview, PreviewState.CANCELED, data={"by": by}, finished_at=clock.now())
        except StaleState:
            preview.refresh_from_db()
        else:
            return True
    return False


def ahead_of(previews: Sequence[Preview]) -> dict[int, int]:
    """Return id -> how many previews are computed before it, of those that wait, in one statement."""
    waiting = [preview.pk for preview in previews if preview.state == PreviewState.QUEUED]
    if not waiting:
        return {}
    under_way = Preview.objects.filter(state__in=UNDER_WAY)
    counts = under_way.aggregate(**{f"of_{pk}": Count("pk", filter=Q(pk__lt=pk)) for pk in waiting})
    return {pk: counts[f"of_{pk}"] for pk in waiting}


LEAST_PROGRESS = 0.02
"""Below it the time that a preview took so far says little."""
COMPARED = 20
"""The newest finished previews whose times are compared."""


def seconds_left(preview: Preview, ahead: int = 0) -> int | None:
    """Estimate the seconds until a preview is finished; None where it has ended, or there is nothing to go by.

    A running one takes in proportion to what it played. Before that, the mean of the newest finished ones counts, for
    each day of the span, with those that are computed before.
    """
    if preview.state not in UNDER_WAY:
        return None
    if preview.state == PreviewState.RUNNING and preview.started_at and preview.progress >= LEAST_PROGRESS:
        passed = (clock.now() - preview.started_at).total_seconds()
        return max(round(passed * (1 - preview.progress) / preview.progress), 1)
    done = Preview.objects.filter(state=PreviewState.DONE, copied=False, started_at__isnull=False).order_by(
        "-pk"
    )
    times = [
        (row.finished_at - row.started_at).total_seconds() / _days(row)
        for row in done.only("started_at", "finished_at", "inputs")[:COMPARED]
        if row.finished_at and row.started_at
    ]
    if not times:
        return None
    return round(sum(times) / len(times) * _days(preview) * (1 + ahead))


def _days(preview: Preview) -> int:
    plan = Plan.from_json(preview.inputs)
    return max((plan.end - plan.start).days, 1)


def start_due() -> int:
    """Start the previews that wait, as many as may be computed at once; return how many.

    A running one without a sign of life is queued again, or failed after the last attempt. Old ones are deleted.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        _end_silent()
        _delete_old()
        free = policy().at_once - Preview.objects.filter(state=PreviewState.RUNNING).count()
        queued = Preview.objects.select_for_update(skip_locked=True).filter(state=PreviewState.QUEUED)
        waiting = list(queued.order_by("pk")[: max(free, 0)])
        now = clock.now()
        for preview in waiting:
            advance(preview, PreviewState.RUNNING, attempts=preview.attempts + 1, started_at=now, seen_at=now)
            transaction.on_commit(partial(_start, preview), robust=True)
    return len(waiting)


def _start(preview: Preview) -> None:
    start_process(preview)


def start_process(preview: Preview) -> None:
    """Compute a preview in a process of its own: it has another database, configuration and priority than a worker."""
    command = [
        sys.executable,
        "manage.py",
        "preview",
        "--run",
        str(preview.pk),
        "--attempt",
        str(preview.attempts),
    ]
    subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log.info("preview_started", preview=preview.pk, attempt=preview.attempts)


def _end_silent() -> None:
    rules = policy()
    silent = clock.now() - timedelta(seconds=rules.silent_seconds)
    for preview in Preview.objects.select_for_update(skip_locked=True).filter(
        state=PreviewState.RUNNING, seen_at__lt=silent
    ):
        if preview.attempts < rules.attempts:
            advance(preview, PreviewState.QUEUED, why="no sign of life", progress=0.0, played_until=None)
            continue
        error = f"it stopped {preview.attempts} times before it was finished: try again, or choose fewer days"
        advance(preview, PreviewState.FAILED, why="no sign of life", error=error, finished_at=clock.now())


def _delete_old() -> None:
    before = clock.now() - timedelta(days=policy().keep_days)
    Preview.objects.filter(created_at__lt=before).exclude(state__in=UNDER_WAY).delete()


def previews_data(rows: Sequence[Preview]) -> list[dict[str, Any]]:
    """Return previews for the API and `--json`."""
    ahead = ahead_of(rows)
    return [_data(row, ahead.get(row.pk, 0)) for row in rows]


def preview_data(preview: Preview) -> dict[str, Any]:
    """Return one preview, with an estimate of the time that is left."""
    ahead = ahead_of([preview]).get(preview.pk, 0)
    return _data(preview, ahead) | {"seconds_left": seconds_left(preview, ahead)}


def _data(preview: Preview, ahead: int) -> dict[str, Any]:
    values = preview.inputs
    return {
        "id": preview.pk,
        "status": preview.state.upper(),
        "accounts": values["accounts"],
        "capital": plain(Decimal(values["capital"])),
        "sizing_preset": values["sizing_preset"],
        "exit_preset": values["exit_preset"],
        "start": values["start"],
        "end": values["end"],
        "progress": round(preview.progress, 4),
        "played_until": iso_utc(preview.played_until) if preview.played_until else None,
        "ahead": ahead,
        "seconds_left": None,
        "created_at": iso_utc(preview.created_at),
        "finished_at": iso_utc(preview.finished_at) if preview.finished_at else None,
        "error": preview.error,
        "result": preview.result,
    }
