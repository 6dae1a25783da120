from django.apps import AppConfig


class ReplayConfig(AppConfig):
    name = "maxxit.replay"
    label = "replay"
    verbose_name = "Replay"
