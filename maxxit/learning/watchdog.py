"""What is wrong with trained models, for the health check: late forecasts, failed and missing trainings. No numpy."""

from datetime import timedelta

from django.db.models import Max

from maxxit.core import clock
from maxxit.learning.models import READING, Forecast, TrainedModel, TrainingRun
from maxxit.learning.policy import policy
from maxxit.learning.states import ModelState

TRAINED_BY_HOUR = 6
"""UTC: by then the trainings of the night are over."""


def problems() -> list[str]:
    """Return what a person should look at; empty where all is well, or no model serves and no training failed."""
    now = clock.now()
    late = timedelta(minutes=policy().serve.stale_minutes)
    serving = list(
        TrainedModel.objects.filter(state=ModelState.SERVING).exclude(purpose=READING).order_by("pk")
    )
    newest = dict(
        Forecast.objects.filter(model__in=serving).values_list("model").annotate(Max("at")).order_by()
    )
    found = []
    for row in serving:
        since = newest.get(row.pk) or row.served_at
        if since is not None and now - since > late:
            found.append(
                f"model {row.pk} ({row}) serves and its newest forecast is of {since:%Y-%m-%d %H:%M} UTC"
            )
    failed = TrainingRun.objects.filter(
        night__gte=now.date() - timedelta(days=1), outcome=TrainingRun.Outcome.FAILED
    )
    found += [f"the training of {run}: {run.reason}" for run in failed]
    night = (now - timedelta(hours=TRAINED_BY_HOUR)).date()
    if serving and not TrainingRun.objects.filter(night__gte=night).exists():
        found.append(f"no training ran in the night of {night}")
    return found
