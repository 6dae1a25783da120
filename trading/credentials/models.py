"""Model of the keys that a customer gives us for an account at a venue."""

from typing import ClassVar

from django.db import models


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
    stored_by = models.CharField(max_length=150)
    stored_at = models.DateTimeField()
    tested_at = models.DateTimeField(null=True, help_text="when the venue last accepted them")

    class Meta:
        db_table = "venue_credentials"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["venue", "account"], name="one_credential_per_account")
        ]

    def __str__(self) -> str:
        return f"keys of {self.account} at {self.venue}"

    @property
    def context(self) -> str:
        """What the encrypted content is bound to: it opens as the keys of no other account."""
        return f"{self.venue}|{self.account}"
