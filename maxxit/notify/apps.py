from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "maxxit.notify"
    label = "notify"
    verbose_name = "Notifications"
