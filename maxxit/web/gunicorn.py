"""Gunicorn's configuration: `gunicorn -c python:maxxit.web.gunicorn maxxit.asgi:application`."""

import os
import signal
from typing import Any

from maxxit.embedded.processes import die_with_parent

bind = f"{os.environ.get('BIND', '127.0.0.1')}:{os.environ.get('WEB_PORT', '5000')}"
worker_class = "uvicorn_worker.UvicornWorker"
workers = int(os.environ.get("WEB_WORKERS", "1"))
control_socket_disable = True  # gunicorn 27 opens one in the home folder otherwise
graceful_timeout = 2  # seconds: live pages (server-sent events) never end by themselves
timeout = 60
forwarded_allow_ips = os.environ.get("TRUSTED_PROXIES", "")  # by default nobody's X-Forwarded-For counts
accesslog = None  # django-structlog logs requests, with user and request id


def post_fork(_server: Any, _worker: Any) -> None:
    """A worker ends when its master is killed, and does not hold the port."""
    die_with_parent(signal.SIGTERM)
