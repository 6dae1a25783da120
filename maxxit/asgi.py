"""The web process: `gunicorn maxxit.asgi -k uvicorn_worker...`, see `maxxit.ops.management.commands.up`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
application = get_asgi_application()
