"""What tells when the teller is dead: the notify worker watches beat, and an outside service watches both.

beat starts the watch of the health page (`maxxit.ops.tasks.watch`). While beat is silent, the worker of the queue
`notify` does the watch itself. While that worker is dead too, nothing of ours can send: `HEARTBEAT_URL` names a check
of a dead man's switch, which is fetched after each watch and alerts by itself when that stays away.
"""

import threading
from typing import Any

import structlog
from celery import signals
from django.db import connection
from django.db.models import Max

from maxxit.core import clock, redact
from maxxit.core.config import variable
from maxxit.core.errors import MaxxitError
from maxxit.core.http import client, fetch
from maxxit.pipeline.models import FRESH, CanaryMark
from maxxit.reports.operators.conditions import watch_conditions
from maxxit.reports.operators.watch import watch_health

log = structlog.get_logger(__name__)
EVERY_SECONDS = 60.0
QUEUE = "notify"
URL = "HEARTBEAT_URL"
PING_SECONDS = 5.0


def watch() -> list[str]:
    """Alert of failing checks and conditions, then ping the dead man's switch; return the subjects that are news."""
    news = [*watch_health(), *watch_conditions()]
    ping()
    return news


def ping() -> bool:
    """Fetch `HEARTBEAT_URL`; return whether it answered. Nothing fails because of it."""
    url = variable(URL)
    if not url:
        return False
    redact.know(url)
    try:
        with client(timeout=PING_SECONDS) as http:
            fetch(http, "GET", url, max_seconds=PING_SECONDS)
    except (MaxxitError, ValueError) as error:
        log.warning("heartbeat_failed", error=redact.text(str(error)))
        return False
    return True


def watch_for_beat() -> list[str]:
    """Do the watch while no canary was answered for `FRESH`, as it happens when beat is dead; return what is news."""
    newest = CanaryMark.objects.aggregate(at=Max("signed_at"))["at"]
    if newest is not None and clock.now() - newest < FRESH:
        return []
    log.error("beat_is_silent", since=str(newest))
    return [*watch_health(), *watch_conditions()]


def watch_until(stop: threading.Event) -> None:
    """Look for beat each minute until `stop`; a look that fails does not end it."""
    while not stop.wait(EVERY_SECONDS):
        try:
            watch_for_beat()
        except Exception as error:
            log.warning("beat_not_watched", error=redact.text(str(error)))
        finally:
            connection.close()  # a pool process that is forked later must not inherit it


def start(sender: Any, **_: Any) -> None:
    """Start the thread in a worker that serves the queue `notify`."""
    if QUEUE in sender.app.amqp.queues.consume_from:
        threading.Thread(
            target=watch_until, args=(threading.Event(),), name="beat-watch", daemon=True
        ).start()


signals.worker_ready.connect(start)
