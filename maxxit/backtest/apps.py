from django.apps import AppConfig


class BacktestConfig(AppConfig):
    name = "maxxit.backtest"
    label = "backtest"
    verbose_name = "Backtest"
