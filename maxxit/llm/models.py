"""LLM traces, versions of prompts, daily spending, export positions and circuit breakers."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class LlmTrace(models.Model):
    """One call of one provider, redacted."""

    STATUSES: ClassVar = [("ok", "ok"), ("error", "error")]

    ts = models.DateTimeField(help_text="when it was asked, UTC")
    correlation_id = models.UUIDField(null=True, help_text="the first of correlation_ids")
    correlation_ids = ArrayField(models.UUIDField(), default=list, help_text="all that one call was about")
    agent_name = models.CharField(max_length=80, blank=True)
    agent_id = models.BigIntegerField(null=True, help_text="the agent that it was asked for; empty: for all")
    purpose = models.CharField(max_length=40)
    provider = models.CharField(max_length=40)
    model = models.CharField(max_length=120)
    base_url = models.CharField(max_length=200, blank=True)
    parameters = models.JSONField(default=dict)
    latency_ms = models.PositiveIntegerField(help_text="milliseconds from question to answer")
    status = models.CharField(max_length=5, choices=STATUSES)
    error_message = models.TextField(blank=True)
    request = models.JSONField(default=dict)
    response = models.JSONField(null=True)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    cost_usd = models.DecimalField(max_digits=18, decimal_places=9, default=0)
    prompt_sha256 = models.CharField(max_length=64, help_text="of the prompt's text")
    prompt_version = models.CharField(
        max_length=60, blank=True, default="", db_default="",
        help_text="name of the prompt's version; empty for a reader that needs no prompt",
    )  # fmt: skip
    schema_sha256 = models.CharField(max_length=64, help_text="of the answer's JSON schema")
    request_sha256 = models.CharField(max_length=64, help_text="names the recording of this call")
    repaired = models.BooleanField(default=False, help_text="asked again with the error of the first answer")

    class Meta:
        db_table = "llm_traces"
        ordering = ("-id",)
        indexes: ClassVar = [
            GinIndex(fields=["correlation_ids"], name="llm_traces_correlations"),
            models.Index(fields=["correlation_id"], name="llm_traces_correlation"),
            models.Index(fields=["ts"], name="llm_traces_ts"),
            models.Index(fields=["agent_name", "ts"], name="llm_traces_agent_ts"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} by {self.provider} ({self.status})"


class PromptVersion(models.Model):
    """A named text of a prompt. Rows are neither changed nor deleted: traces name them."""

    purpose = models.CharField(max_length=40)
    name = models.CharField(
        max_length=60, help_text="`file-` and a hash: the configuration's file of a release"
    )
    text = models.TextField()
    sha256 = models.CharField(max_length=64, help_text="of the text")
    note = models.CharField(max_length=300, blank=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "prompt_versions"
        ordering = ("purpose", "-id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["purpose", "name"], name="one_prompt_of_a_name"),
            models.UniqueConstraint(fields=["purpose", "sha256"], name="one_name_of_a_prompt"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.name}"


class PromptActivation(models.Model):
    """One change of the active version; the newest of a purpose counts. Rows are neither changed nor deleted."""

    purpose = models.CharField(max_length=40)
    version = models.ForeignKey(
        PromptVersion, models.PROTECT, null=True, related_name="activations",
        help_text="empty: the configuration's file, also that of later releases",
    )  # fmt: skip
    rollback = models.BooleanField(default=False)
    restores = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="+",
        help_text="of a rollback: the change that it repeats; empty: the time before all changes",
    )  # fmt: skip
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        db_table = "prompt_activations"
        ordering = ("-id",)
        indexes = (models.Index(fields=["purpose", "-id"], name="prompt_activations_newest"),)

    def __str__(self) -> str:
        return f"{self.purpose}: {self.name} from {self.at:%Y-%m-%d %H:%M}"

    @property
    def name(self) -> str:
        """The name of the version; `file` where the configuration's file counts."""
        return self.version.name if self.version else "file"


class LlmSpend(models.Model):
    """The usage of one budget on one day; separate from traces, which can be switched off.

    A call counts against up to three budgets: its purpose, its purpose and account, and its provider.
    """

    day = models.DateField(help_text="UTC")
    purpose = models.CharField(max_length=40, blank=True, help_text="empty: all that a provider bills")
    account = models.CharField(
        max_length=120, blank=True, help_text="whose posts, which agent, or which provider; empty: all"
    )
    calls = models.PositiveIntegerField(default=0)
    usd = models.DecimalField(max_digits=18, decimal_places=9, default=0)

    class Meta:
        db_table = "llm_spend"
        ordering = ("-day", "purpose", "account")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["day", "purpose", "account"], name="one_spend_a_day")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.purpose} {self.account}: {self.calls} calls, {self.usd.normalize():f} USD"


class LlmExport(models.Model):
    """The position of one exporter in the trace table."""

    name = models.CharField(max_length=40, primary_key=True, help_text="of llm.yaml: exports")
    last_id = models.PositiveBigIntegerField(
        default=0, help_text="of the last trace that went or was refused"
    )
    sent = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0, help_text="traces that the other side would not take")
    last_error = models.TextField(blank=True)

    class Meta:
        db_table = "llm_exports"
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name}: {self.sent} sent, {self.refused} refused"


class LlmCircuit(models.Model):
    """The circuit breaker of one provider, shared by all workers. `retry_at` empty: closed, calls pass."""

    provider = models.CharField(max_length=40, primary_key=True)
    failures = models.PositiveIntegerField(default=0, help_text="in a row")
    retry_at = models.DateTimeField(null=True, help_text="open until then; then one probe passes")
    last_error = models.TextField(blank=True)

    class Meta:
        db_table = "llm_circuits"
        ordering = ("provider",)

    def __str__(self) -> str:
        return f"{self.provider}: " + (f"open until {self.retry_at:%H:%M:%S}" if self.retry_at else "closed")
