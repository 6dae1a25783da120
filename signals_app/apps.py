from django.apps import AppConfig


class SignalsConfig(AppConfig):
    name = "signals_app"
    label = "signals_app"
    verbose_name = "Posts and signals"
