"""The processes of `bare_settings`: what `tests.bench.memory` and `tests.bench.requests` hold Maxxit's against."""

from celery import Celery
from django.contrib import admin
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path


def live(request: HttpRequest) -> JsonResponse:
    """The smallest answer."""
    return JsonResponse({"status": "ok"})


application = get_asgi_application()
urlpatterns = [path("admin/", admin.site.urls), path("health/live", live)]
app = Celery("bare")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
