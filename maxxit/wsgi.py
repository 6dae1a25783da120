"""WSGI entry point; the live pages (server-sent events) need `maxxit.asgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
application = get_wsgi_application()
