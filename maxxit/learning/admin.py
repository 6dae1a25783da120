"""Admin of trained models and their forecasts, read-only: `manage.py models` promotes and retires."""

from django.contrib import admin

from maxxit.adminkit import ReadOnlyAdmin
from maxxit.learning.models import Forecast, TrainedModel


@admin.register(TrainedModel)
class TrainedModelAdmin(ReadOnlyAdmin):
    """List models with their state and the check that holds them back."""

    list_display = ("id", "kind", "purpose", "horizon_hours", "state", "held_back_by", "data_to", "served_at")
    list_filter = ("state", "purpose", "kind")
    search_fields = ("kind", "data_sha256")

    @admin.display(description="held back by")
    def held_back_by(self, row: TrainedModel) -> str:
        return next((check["name"] for check in row.checks if not check["passed"]), "")


@admin.register(Forecast)
class ForecastAdmin(ReadOnlyAdmin):
    """List forecasts."""

    list_display = ("id", "model", "symbol", "at", "sigma", "mean", "made_at")
    list_filter = ("symbol",)
    list_select_related = ("model",)
