from django.apps import AppConfig


class MarketConfig(AppConfig):
    name = "maxxit.market"
    label = "market"
    verbose_name = "Market"
