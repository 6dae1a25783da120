"""Tables of stored backtest runs and of the tapes that they ran on."""

from enum import StrEnum

from django.db import models

from maxxit.core.money import COLUMN


class Kind(StrEnum):
    """What a run tried."""

    RUN = "run"
    SWEEP = "sweep"
    OPTIMISE = "optimise"
    WALK_FORWARD = "walk-forward"


class StoredTape(models.Model):
    """What the pages show of a tape; the tape itself stays a file."""

    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the tape's contents")
    start = models.DateTimeField()
    end = models.DateTimeField()
    inputs = models.JSONField(help_text="file name -> SHA-256 of what was replayed")
    release = models.CharField(max_length=64, help_text="fingerprint of the code that wrote the tape")
    agents = models.JSONField(help_text="the settings of each agent on the tape")
    bars = models.BinaryField(help_text="candles of the tape's quotes, compressed JSON")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "backtest_tapes"

    def __str__(self) -> str:
        return f"tape {self.digest[:12]}"


class BacktestRun(models.Model):
    """One run, sweep, optimisation or walk-forward, with its result."""

    kind = models.CharField(max_length=12, choices=[(kind.value, kind.value) for kind in Kind])
    tape = models.ForeignKey(StoredTape, models.PROTECT, related_name="runs")
    changes = models.JSONField(default=dict, help_text="key -> value, where it differs from the tape")
    varied = models.JSONField(default=dict, help_text="key -> values that were tried, as they were given")
    options = models.JSONField(default=dict, help_text="days of a walk-forward, number of tries")
    seed = models.PositiveBigIntegerField(null=True, help_text="of what was drawn at random")
    commit = models.CharField(max_length=64, blank=True, help_text="of the code; empty without a repository")
    release = models.CharField(max_length=64, help_text="fingerprint of code and configuration")
    figures = models.JSONField(default=dict, help_text="of the run, or of the best setting; USDC as text")
    net = models.DecimalField(**COLUMN, null=True, help_text="USDC after all costs")
    details = models.BinaryField(
        default=bytes, help_text="equity, trades, settings, windows: compressed JSON"
    )
    note = models.CharField(max_length=200, blank=True)
    by = models.CharField(max_length=150)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    error = models.TextField(blank=True, help_text="why there is no result")

    class Meta:
        db_table = "backtest_runs"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["kind", "-id"], name="backtest_runs_kind"),
            models.Index(fields=["tape", "-id"], name="backtest_runs_tape"),
            models.Index(fields=["started_at"], name="backtest_runs_started"),
        )

    def __str__(self) -> str:
        return f"backtest {self.pk}"
