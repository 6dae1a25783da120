"""Celery task that deletes old messages and codes of chats."""

from datetime import timedelta

from celery import shared_task

from maxxit.chat.models import ChatCode, ChatUpdate
from maxxit.core import clock

KEEP = timedelta(days=30)
"""Telegram repeats an update for a day at most."""


@shared_task
def tidy() -> dict[str, int]:
    """Delete updates and codes past retention; return how many rows."""
    before = clock.now() - KEEP
    updates, _ = ChatUpdate.objects.filter(at__lt=before).delete()
    codes, _ = ChatCode.objects.filter(expires_at__lt=before).delete()
    return {"updates": updates, "codes": codes}
