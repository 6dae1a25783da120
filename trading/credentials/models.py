"""Models of the keys that customers give us for their accounts at venues."""

from typing import ClassVar

from django.db import models

from trading.credentials import states


class VenueCredential(models.Model):
    """The keys of one account at a venue, encrypted (`trading.credentials.sealing`). Nothing shows them again."""

    venue = models.CharField(max_length=40, help_text="a name from config/venues.yaml")
    account = models.CharField(max_length=80)
    content = models.BinaryField(editable=False)
    key_id = models.CharField(max_length=16, editable=False, help_text="of the key that encrypted them")
    hint = models.CharField(
        max_length=8,
        blank=True,
        default="",
        help_text="the last characters of what names the key at the venue",
    )
    permissions = models.JSONField(default=list, help_text="what the venue says the key may do")
    venue_account = models.CharField(
        max_length=120,
        blank=True,
        default="",
        db_default="",
        help_text="the venue's own id of the account that the keys open; empty until the venue was asked",
    )
    stored_by = models.CharField(max_length=150)
    stored_at = models.DateTimeField()
    tested_at = models.DateTimeField(null=True, help_text="when the venue last accepted them")

    class Meta:
        db_table = "venue_credentials"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["venue", "account"], name="one_credential_per_account"),
            models.UniqueConstraint(
                fields=["venue", "venue_account"],
                condition=~models.Q(venue_account=""),
                name="one_deployment_per_venue_account",
            ),
        ]

    def __str__(self) -> str:
        return f"keys of {self.account} at {self.venue}"

    @property
    def context(self) -> str:
        """What the encrypted content is bound to: it opens as the keys of no other account."""
        return context_of(self.venue, self.account)

    @property
    def shown_account(self) -> str:
        """The end of the venue's own id of the account, for people."""
        return f"…{self.venue_account[-4:]}" if self.venue_account else ""


class CredentialRequest(models.Model):
    """Keys that a worker is to test and store, or stored ones that it is to test (`trading.credentials.requests`)."""

    MOVES = states.REQUEST
    EVENT_NAMES: ClassVar = {state: f"credentials.{state}" for state in states.RequestState}

    venue = models.CharField(max_length=40, help_text="a name from config/venues.yaml")
    account = models.CharField(max_length=80)
    only_test = models.BooleanField(default=False, help_text="test the stored keys; none are sent with it")
    content = models.BinaryField(
        default=b"", editable=False, help_text="the sealed keys; empty once it is answered"
    )
    key_id = models.CharField(max_length=16, blank=True, default="", editable=False)
    hint = models.CharField(max_length=8, blank=True, default="")
    state = models.CharField(
        max_length=8,
        default=states.RequestState.WAITING,
        choices=[(s, s) for s in states.RequestState],
        editable=False,
    )
    tries = models.PositiveSmallIntegerField(default=0)
    message = models.CharField(
        max_length=300, blank=True, default="", help_text="why it was refused, or still waits"
    )
    permissions = models.JSONField(default=list, help_text="what the venue says the keys may do")
    asked_by = models.CharField(max_length=150)
    asked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "venue_credential_requests"
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["venue", "account"],
                condition=models.Q(state="waiting"),
                name="one_waiting_request_per_account",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["venue", "account"], name="credential_requests_account")]

    def __str__(self) -> str:
        return f"request of {self.account} at {self.venue}"

    @property
    def context(self) -> str:
        """As of the keys that it becomes."""
        return context_of(self.venue, self.account)


def context_of(venue: str, account: str) -> str:
    """Return what the encrypted keys of an account are bound to."""
    return f"{venue}|{account}"
