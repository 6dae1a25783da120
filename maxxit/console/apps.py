from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "maxxit.console"
    label = "console"
    verbose_name = "Console"
