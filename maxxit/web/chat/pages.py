"""The settings page Chat: connect a Telegram chat with a single-use code, and disconnect it."""

from typing import Any

import structlog
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from maxxit.chat import codes, commands, connecting
from maxxit.chat.models import ChatCode
from maxxit.core.errors import MaxxitError
from maxxit.web.sentences import sentence
from maxxit.web.settings_pages import SECTIONS

log = structlog.get_logger(__name__)


@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def chat_page(request: HttpRequest) -> HttpResponse:
    """Show the connected chat; make a code, which is shown once, or disconnect."""
    person: Any = request.user
    code = ""
    if request.POST.get("do") == "disconnect":
        gone = connecting.disconnect(person)
        messages.success(request, "The chat is disconnected." if gone else "No chat was connected.")
        return redirect("settings-chat")
    if request.POST.get("do") == "connect":
        try:
            code = connecting.connect_code(person)
        except MaxxitError as error:
            messages.error(request, sentence(str(error)))
            return redirect("settings-chat")
    context = {
        "sections": SECTIONS,
        "offered": connecting.offered(),
        "chat": connecting.chat_of(person),
        "code": code,
        "link": connecting.link_of(code) if code else "",
        "minutes": int(codes.LIFETIME[ChatCode.CONNECT].total_seconds()) // 60,
        "commands": [one for one in commands.COMMANDS.values() if one.may(person)],
    }
    return render(request, "web/settings/chat.html", context)
