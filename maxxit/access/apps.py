from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccessConfig(AppConfig):
    name = "maxxit.access"
    label = "console"  # the name under which its tables were migrated
    verbose_name = "Access"

    def ready(self) -> None:
        from maxxit.access import groups, sessions

        post_migrate.connect(groups.grant, dispatch_uid="maxxit.access.groups")
        sessions.connect()
