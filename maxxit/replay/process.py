"""The process that computes one preview: it stores its progress, and ends when it is canceled or too slow."""

import copy
import os
import threading
import time
from datetime import datetime

import structlog
from django.db import connection, connections

from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Rejected, StaleState
from maxxit.events.record import advance
from maxxit.replay.models import Preview
from maxxit.replay.plan import Plan
from maxxit.replay.rehearsal import rehearse
from maxxit.replay.states import PreviewState
from maxxit.reports.preview_policy import policy

log = structlog.get_logger(__name__)
NICE = 15
"""Added to the process's niceness: everything else goes first."""
SIGN_SECONDS = 2.0
FAILURES = 10
"""The process ends when its sign of life could not be stored this often in a row."""


class Stopped(Exception):
    """The preview was canceled, started again, or has no database any more."""


class TooSlow(Exception):
    """The preview took longer than is allowed."""


class Signs(threading.Thread):
    """Stores the progress of a preview every two seconds, on a connection of its own to the live database.

    A thread, because the main one is for seconds in one statement, and its connection leads to the scratch database.
    """

    def __init__(self, preview: Preview) -> None:
        super().__init__(name="signs", daemon=True)
        self._preview, self._plan = preview, Plan.from_json(preview.inputs)
        self._settings = copy.deepcopy(connection.settings_dict)
        self._over, self._stopped = threading.Event(), threading.Event()
        self._ends = time.monotonic() + policy().max_seconds
        self.moment: datetime | None = None
        """How far the span was played, UTC."""

    def progress(self, moment: datetime) -> None:
        """Note how far the span was played. Raises Stopped or TooSlow."""
        self.moment = moment
        if self._stopped.is_set():
            raise Stopped
        if time.monotonic() > self._ends:
            raise TooSlow

    def run(self) -> None:
        """Store signs of life, the first at once, until `end`."""
        connections["default"] = type(connections["default"])(self._settings, "default")
        failures, over = 0, False
        while not over:
            try:
                alive = self._store()
            except Exception as error:  # the database is away: try again
                failures += 1
                alive = failures < FAILURES
                log.warning("preview_sign_not_stored", preview=self._preview.pk, error=str(error))
                connections["default"].close()
            else:
                failures = 0
            if not alive:
                self._stopped.set()
                break
            over = self._over.wait(SIGN_SECONDS)
        connections["default"].close()

    def _store(self) -> bool:
        """Store progress; return whether the preview is still to be computed by this process."""
        row = Preview.objects.filter(
            pk=self._preview.pk, state=PreviewState.RUNNING, attempts=self._preview.attempts
        )
        start, end = self._plan.start, self._plan.end
        played = 0.0 if self.moment is None else (self.moment - start) / (end - start)
        return bool(row.update(seen_at=clock.now(), progress=min(played, 1.0), played_until=self.moment))

    def end(self) -> None:
        """End the thread."""
        self._over.set()
        self.join()


def compute(preview_id: int, attempt: int) -> bool:
    """Compute a running preview and store its result or error; return whether there is a result."""
    os.nice(NICE)
    preview = Preview.objects.filter(pk=preview_id, state=PreviewState.RUNNING, attempts=attempt).first()
    if preview is None:
        return False
    signs = Signs(preview)
    signs.start()
    plan, result, error = Plan.from_json(preview.inputs), None, ""
    try:
        result = rehearse(plan, signs.progress)
    except Stopped:
        return False
    except TooSlow:
        error = (
            f"it took longer than {policy().max_seconds} seconds and was stopped at {signs.moment:%Y-%m-%d %H:%M} UTC: "
            "choose fewer days or fewer accounts"
        )
    except Rejected as failure:
        error = str(failure)
    except MaxxitError as failure:  # for staff: a scratch database cannot be made, a setting is wrong
        log.error("preview_failed", preview=preview_id, error=str(failure))
        error = f"previews do not work at present: give preview {preview_id} to the staff, whose log says why"
    except Exception:
        log.exception("preview_failed", preview=preview_id)
        error = f"an error of the platform: try again, or give preview {preview_id} to the staff, whose log has it"
    finally:
        signs.end()
    _finish(preview, plan, result, error)
    return result is not None


def _finish(preview: Preview, plan: Plan, result: dict[str, object] | None, error: str) -> None:
    now = clock.now()
    try:
        if result is None:
            advance(preview, PreviewState.FAILED, error=error, finished_at=now)
        else:
            advance(
                preview,
                PreviewState.DONE,
                result=result,
                progress=1.0,
                played_until=plan.end,
                finished_at=now,
            )
    except StaleState:
        log.info("preview_no_longer_wanted", preview=preview.pk)
