from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "maxxit.events"
    label = "events"
    verbose_name = "Events"
