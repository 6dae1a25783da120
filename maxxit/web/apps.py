from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin import checks as admin_checks
from django.contrib.admin.apps import SimpleAdminConfig
from django.core import checks


class WebConfig(AppConfig):
    name = "maxxit.web"
    default = True


class AdminConfig(SimpleAdminConfig):
    """Django's admin, whose pages are imported with the URLs or by the checks, not by each command and worker."""

    def ready(self) -> None:
        """Register the admin's checks; that of its pages imports them first."""
        checks.register(admin_checks.check_dependencies, checks.Tags.admin)
        checks.register(_check_pages, checks.Tags.admin)


def _check_pages(**options: Any) -> list[checks.CheckMessage]:
    admin.autodiscover()
    found: list[checks.CheckMessage] = admin_checks.check_admin_app(**options)
    return found
