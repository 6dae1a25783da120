"""Forms that take effect once: a hidden token in each form is accepted only the first time it is sent.

`{% once %}` of the template library `page_forms` renders the token. A double click, a reload or the back button then
repeats nothing, also without JavaScript.
"""

import re
import secrets

import structlog
from django.core.cache import cache
from django.http import HttpRequest

log = structlog.get_logger(__name__)
FIELD = "once"
KEPT_SECONDS = 24 * 3600
TOKEN = re.compile(r"[A-Za-z0-9_-]{10,40}")


def new_token() -> str:
    """Return a random token for one form."""
    return secrets.token_urlsafe(12)


def first_time(request: HttpRequest) -> bool:
    """Return whether the form of this POST has not been sent before; True without a token and while Redis is down.

    Call it once, after the form is valid and before it takes effect.
    """
    token = request.POST.get(FIELD, "")
    if not TOKEN.fullmatch(token):
        return True
    try:
        return bool(cache.add(f"{FIELD}:{token}", 1, timeout=KEPT_SECONDS))
    except Exception as error:  # any error of the cache backend
        log.warning("form_token_not_checked", error=str(error))
        return True
