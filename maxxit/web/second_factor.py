"""The second factor: TOTP codes and recovery codes. Optional, or required for staff by a setting."""

import secrets
from collections.abc import Callable
from typing import Any

import segno
from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from django_otp import login as otp_login
from django_otp import match_token
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from maxxit.access import attempts
from maxxit.access.auth import address, has_key
from maxxit.events.record import record
from maxxit.web.settings_pages import SECTIONS

RECOVERY_CODES = 10
OPEN_WITHOUT = ("/second-factor", "/logout", "/static/", "/health/")
"""Paths open to staff before the second factor is set up."""
KEYED = ("/api/", "/metrics", "/mcp")
"""Paths where a request with an API key has no session. Others read the session, whatever the headers say."""


class CodeForm(forms.Form):
    """A field for the app's six digits or a recovery code."""

    code = forms.CharField(max_length=20, widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}))


def missing(request: HttpRequest) -> bool:
    """Return whether this is a staff session without a required second factor."""
    person: Any = request.user
    return bool(
        settings.STAFF_SECOND_FACTOR
        and person.is_authenticated
        and person.is_staff
        and not person.is_verified()
    )


def required_for_staff(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Middleware that redirects staff without a required second factor to the page that sets it up.

    A request with an API key passes where keys are read: it has no session there, and never falls back on cookies.
    """

    def check(request: HttpRequest) -> HttpResponse:
        keyed = has_key(request) and request.path.startswith(KEYED)
        if keyed or request.path.startswith(OPEN_WITHOUT) or not missing(request):
            return get_response(request)
        return redirect("second-factor")

    return check


@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """Set up or remove the second factor, or make new recovery codes; each step needs a valid code."""
    person: Any = request.user
    confirmed = TOTPDevice.objects.filter(user=person, confirmed=True).exists()
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and (counted := _counted(request, form)):
        if _accepted(request, confirmed, form.cleaned_data["code"].strip()):
            attempts.succeeded(counted)
            return _done(request, confirmed)
        attempts.failed(counted)
        form.add_error("code", "This code is wrong or already used. Wait for the next one.")
    return _show(request, _page(person, confirmed) | {"form": form})


def _show(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    return render(request, "web/second_factor.html", {"sections": SECTIONS} | context)


def _counted(request: HttpRequest, form: CodeForm) -> list[str]:
    """Return the subjects this attempt counts against; empty, with an error on the form, while one is blocked."""
    person: Any = request.user
    names = attempts.subjects(person.get_username(), address(request))
    if attempts.begin(names):
        form.add_error("code", "Too many failed attempts. Try again later.")
        return []
    return names


def _page(person: Any, confirmed: bool) -> dict[str, Any]:
    """Build the page's context: the state, and until it is confirmed the secret as QR code and as text."""
    if confirmed:
        return {"confirmed": True, "left": StaticToken.objects.filter(device__user=person).count()}
    device, _ = TOTPDevice.objects.get_or_create(user=person, confirmed=False, defaults={"name": "app"})
    uri = device.config_url
    return {
        "confirmed": False,
        "uri": uri,
        "qr": segno.make(uri).svg_data_uri(scale=5, dark="black", light="white"),
    }


@transaction.atomic
def _accepted(request: HttpRequest, confirmed: bool, code: str) -> bool:
    """Check the code against the confirmed devices or, during setup, against the new one."""
    person: Any = request.user
    if confirmed:
        device = match_token(person, code)
    else:
        device = TOTPDevice.objects.select_for_update().filter(user=person, confirmed=False).first()
        if device is None or not device.verify_token(code):
            return False
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        record("second_factor.set_up", person)
    if device is None:
        return False
    request.session.cycle_key()
    otp_login(request, device)
    return True


def _done(request: HttpRequest, confirmed: bool) -> HttpResponse:
    """Act on a valid code: remove the factor, or show new recovery codes once."""
    person: Any = request.user
    if confirmed and "remove" in request.POST:
        remove(person, by=person.get_username())
        return redirect(reverse("second-factor"))
    return _show(request, {"codes": _new_codes(person), "confirmed": True})


@transaction.atomic
def _new_codes(person: Any) -> list[str]:
    """Replace the recovery codes; each works once."""
    device, _ = StaticDevice.objects.get_or_create(user=person, name="recovery", defaults={"confirmed": True})
    device.token_set.all().delete()
    codes = [secrets.token_hex(5) for _ in range(RECOVERY_CODES)]
    for code in codes:
        device.token_set.create(token=code)
    return codes


@transaction.atomic
def remove(person: Any, *, by: str) -> None:
    """Remove the second factor and the recovery codes of `person`."""
    TOTPDevice.objects.filter(user=person).delete()
    StaticDevice.objects.filter(user=person).delete()
    record("second_factor.removed", person, by=by)
