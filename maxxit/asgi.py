"""The web process: `gunicorn maxxit.asgi:application` with uvicorn's worker, see `maxxit.ops.local`.

Event streams stay open for minutes, so the event loop serves them. All other requests are synchronous: each runs in one
thread of a few, from the first middleware to the last byte. Django's own ASGI handler takes a new thread for each
request and several changes of thread, which takes twice the processor time (`tests.bench.requests`, ADR 43).
"""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")

from a2wsgi import WSGIMiddleware
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

THREADS = 8
"""Requests that a web process answers at the same time, beside its streams."""
STREAMS = "/api/streams/"

streams = get_asgi_application()
_django: Any = get_wsgi_application()
pages: Any = WSGIMiddleware(_django, workers=THREADS)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve a request."""
    if scope["type"] == "http" and not scope["path"].startswith(STREAMS):
        await pages(scope, receive, send)
    else:
        await streams(scope, receive, send)
