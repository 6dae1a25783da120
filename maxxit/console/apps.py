from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ConsoleConfig(AppConfig):
    name = "maxxit.console"
    label = "console"
    verbose_name = "Console"

    def ready(self) -> None:
        from maxxit.console import groups

        post_migrate.connect(groups.grant, dispatch_uid="maxxit.console.groups")
