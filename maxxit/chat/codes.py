"""Single-use codes: one that connects a chat to an account, and one that confirms a stop. Only hashes are stored."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from maxxit.chat.models import ChatCode
from maxxit.core import clock

LIFETIME = {ChatCode.CONNECT: timedelta(minutes=15), ChatCode.STOP: timedelta(minutes=2)}
STOP_DIGITS = 6


def new_code(user: Any, purpose: str, target: str = "") -> str:
    """Make a code and return it; former ones of this user and purpose stop working.

    A stop code is short, because only a message of the user's own chat is compared with it.
    """
    code = (
        secrets.token_urlsafe(24)
        if purpose == ChatCode.CONNECT
        else f"{secrets.randbelow(10**STOP_DIGITS):0{STOP_DIGITS}}"
    )
    now = clock.now()
    with transaction.atomic():
        ChatCode.objects.filter(user_id=user.pk, purpose=purpose).delete()
        ChatCode.objects.create(
            user_id=user.pk,
            purpose=purpose,
            sha256=_hash(purpose, code, user),
            target=target,
            created_at=now,
            expires_at=now + LIFETIME[purpose],
        )
    return code


@transaction.atomic
def use_code(purpose: str, code: str, *, at: datetime, user: Any = None) -> ChatCode | None:
    """Use a code up and return its row; None for one that is unknown, used or had expired `at` that time.

    Args:
        user: whose code it must be; a stop code is only looked for among theirs.
    """
    rows = ChatCode.objects.select_for_update(of=("self",)).select_related("user")
    row = rows.filter(purpose=purpose, sha256=_hash(purpose, code, user), used_at=None).first()
    if row is None or row.expires_at < at:
        return None
    row.used_at = clock.now()
    row.save(update_fields=["used_at"])
    return row


def _hash(purpose: str, code: str, user: Any) -> str:
    owner = user.pk if purpose == ChatCode.STOP else ""
    return hashlib.sha256(f"{purpose}:{owner}:{code}".encode()).hexdigest()
