from django.apps import AppConfig


class BusConfig(AppConfig):
    name = "maxxit.bus"
    label = "bus"
    verbose_name = "Events to and from other systems"
