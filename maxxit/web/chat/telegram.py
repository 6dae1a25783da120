"""The webhook of the Telegram bot: the other way to the updates, in place of `manage.py chat`.

The web process has no token of the bot: it answers an update in the body of the response, which Telegram carries out.
"""

import hmac

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from maxxit.chat.connecting import WEBHOOK_SECRET
from maxxit.chat.telegram import answer_update
from maxxit.core import untrusted
from maxxit.core.config import variable

HEADER = "X-Telegram-Bot-Api-Secret-Token"
MAX_BODY = 100_000
"""Bytes of an update: a message has 4,096 characters."""


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """Answer an update of Telegram; 403 without the secret that `manage.py chat --set-webhook` gave it."""
    secret, given = variable(WEBHOOK_SECRET), request.headers.get(HEADER, "")
    if not secret or not hmac.compare_digest(secret.encode(), given.encode()):
        return HttpResponse(status=403)
    if len(request.body) > MAX_BODY:
        return HttpResponse(status=413)
    try:
        raw = untrusted.loads(request.body)
    except ValueError:
        return HttpResponse(status=400)
    message = answer_update(raw)
    return HttpResponse() if message is None else JsonResponse({"method": "sendMessage"} | message)
