"""The processes of `bare_settings`: what `tests.bench.memory` holds Maxxit's against."""

from celery import Celery
from django.contrib import admin
from django.core.asgi import get_asgi_application
from django.urls import path

application = get_asgi_application()
urlpatterns = [path("admin/", admin.site.urls)]
app = Celery("bare")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
