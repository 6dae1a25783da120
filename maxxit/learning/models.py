"""The registry of trained models, and their forecasts."""

from typing import ClassVar

from django.db import models

from maxxit.learning import states

READING = "reading"
"""Purpose of a model that reads posts; it forecasts nothing, so its horizon is 0."""


class TrainedModel(models.Model):
    """One fitted model with what it was fitted to and what the evaluator measured.

    Rows are never deleted: the gate for direction models counts the candidates of all of them.
    """

    MOVES = states.TRAINED_MODEL
    EVENT_NAMES: ClassVar = {state: f"trained_model.{state}" for state in states.ModelState}

    kind = models.CharField(max_length=20, help_text="forecaster, as in maxxit.learning.forecasters")
    purpose = models.CharField(
        max_length=12, help_text="volatility, which never decides a side, or direction"
    )
    horizon_hours = models.PositiveSmallIntegerField()
    state = models.CharField(
        max_length=10,
        default=states.ModelState.CANDIDATE,
        db_default=states.ModelState.CANDIDATE,
        choices=[(s, s) for s in states.ModelState],
        editable=False,
    )
    symbols = models.JSONField(default=list, help_text="whose data it was fitted to")
    data_from = models.DateTimeField(help_text="UTC; first hour of the data")
    data_to = models.DateTimeField(help_text="UTC; end of the last hour")
    data_sha256 = models.CharField(max_length=64, help_text="of the data, to fit it again")
    release = models.CharField(max_length=12, help_text="fingerprint of the code and configuration")
    seed = models.PositiveIntegerField()
    tried = models.PositiveIntegerField(help_text="configurations that were scored in this run")
    parameters = models.JSONField()
    metrics = models.JSONField(help_text="as in maxxit.learning.metrics; the gates read nothing else")
    checks = models.JSONField(default=list, help_text="the last verdict: value and limit of each check")
    created_at = models.DateTimeField()
    shadow_at = models.DateTimeField(null=True, help_text="UTC; since when it is in shadow")
    served_at = models.DateTimeField(null=True, help_text="UTC; when it last began to serve")
    approved_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "trained_models"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["purpose", "horizon_hours"],
                condition=models.Q(state=states.ModelState.SERVING),
                name="one_serving_model",
            ),
            models.UniqueConstraint(
                fields=["kind", "horizon_hours", "data_sha256", "release", "seed"],
                name="one_model_of_one_fit",
            ),
        ]
        indexes = (models.Index(fields=["purpose", "data_from", "data_to"], name="trained_models_overlap"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.horizon_hours} h #{self.pk}"


class Forecast(models.Model):
    """One forecast for one symbol, made from what was known at `at`."""

    model = models.ForeignKey(TrainedModel, models.CASCADE, related_name="forecasts", db_index=False)
    symbol = models.CharField(max_length=20)
    at = models.DateTimeField(help_text="UTC; end of the newest hour used; the horizon begins here")
    sigma = models.FloatField(help_text="standard deviation of the return over the horizon, a fraction")
    mean = models.FloatField(help_text="expected return, a fraction; 0 for a volatility model")
    quantiles = models.JSONField(help_text="of the return, at maxxit.learning.statistics.LEVELS")
    made_at = models.DateTimeField()

    class Meta:
        db_table = "forecasts"
        ordering = ("-at", "symbol")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "symbol", "at"], name="one_forecast_an_hour")
        ]
        indexes = (models.Index(fields=["made_at"], name="forecasts_made_at"),)

    def __str__(self) -> str:
        return f"{self.symbol} {self.at:%Y-%m-%d %H:%M}: {self.sigma:.4f}"


class TrainingRun(models.Model):
    """What became of one training of a night.

    Its row is written before the training begins, so that a process that dies leaves it `running`; the next pass of the
    night tries again.
    """

    class Outcome(models.TextChoices):
        """How it ended."""

        RUNNING = "running"
        TRAINED = "trained"
        REFUSED = "refused"
        FAILED = "failed"

    night = models.DateField(help_text="UTC; the data end at its midnight")
    kind = models.CharField(max_length=20, help_text="forecaster, as in maxxit.learning.forecasters")
    horizon_hours = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=8, choices=Outcome.choices, default=Outcome.RUNNING)
    attempts = models.PositiveSmallIntegerField(default=1)
    reason = models.TextField(blank=True, help_text="why the data were refused, or what failed")
    left_out = models.JSONField(default=dict, help_text="symbol -> why it was not trained on")
    model = models.ForeignKey(TrainedModel, models.CASCADE, null=True, related_name="runs")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "training_runs"
        ordering = ("-night", "kind", "horizon_hours")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["night", "kind", "horizon_hours"], name="one_training_a_night")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.horizon_hours} h of {self.night}: {self.outcome}"
