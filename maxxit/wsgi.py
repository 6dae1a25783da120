"""For servers that speak WSGI only; the live pages (server-sent events) want `maxxit.asgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")
application = get_wsgi_application()
