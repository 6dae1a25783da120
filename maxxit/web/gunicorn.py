"""Gunicorn's configuration: `gunicorn -c python:maxxit.web.gunicorn maxxit.asgi:application`."""

import os
import signal
from typing import Any

from maxxit.embedded.processes import die_with_parent

bind = f"{os.environ.get('BIND', '127.0.0.1')}:{os.environ.get('WEB_PORT', '5000')}"
worker_class = "uvicorn_worker.UvicornWorker"
workers = int(os.environ.get("WEB_WORKERS", "1"))
control_socket_disable = True  # gunicorn 27 opens one in the home folder otherwise
graceful_timeout = 2  # seconds: server-sent events never end on their own
timeout = 60
forwarded_allow_ips = os.environ.get("TRUSTED_PROXIES", "")  # by default X-Forwarded-For is ignored
accesslog = None  # django-structlog logs requests, with user and request id


def post_fork(_server: Any, _worker: Any) -> None:
    """End the worker when its master is killed, so that it does not keep the port."""
    die_with_parent(signal.SIGTERM)
