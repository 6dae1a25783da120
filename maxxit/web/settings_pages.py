"""Settings of the account: time zone, password, API keys, sessions, wallets, export, closing."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from maxxit.access import attempts, auth, closing, export, sessions, time_zones, wallets
from maxxit.access.models import KEYS, READ, RULES, SAFES, STOP, TRADE, ApiKey
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.time_zones import UTC, is_known, names
from maxxit.events.record import record
from maxxit.streaming import StreamedFile
from maxxit.web.once import first_time
from maxxit.web.sentences import sentence

SECTIONS = (
    ("settings", "Time zone"),
    ("settings-password", "Password"),
    ("second-factor", "Second factor"),
    ("settings-wallets", "Wallets"),
    ("settings-sessions", "Sessions"),
    ("settings-chat", "Chat"),
    ("settings-keys", "API keys"),
    ("settings-export", "Export"),
    ("settings-close", "Close the account"),
)
"""(URL name, link text) of each page."""
MOST_KEYS = 50
"""API keys that are listed, and that a user may have at a time."""
EXPORTS_PER_HOUR = 10
FRESH_LOGIN = timedelta(minutes=10)
"""How recent the login must be to close an account that has no password, or to set its first one."""
SCOPES = {
    READ: "Read: everything you see here",
    RULES: "Rules: make and remove price rules",
    SAFES: "Safes: plan, verify and revoke your Safes",
    STOP: "Stop: an assistant may stop your deployments (MCP), and no more",
    TRADE: "Trade: set up, start and stop your agents and deployments, and close their positions",
    KEYS: "Keys: make and revoke your API keys",
}
"""Scope -> what a key with it may do. The scope admin is given by command alone."""


def _show(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, f"web/settings/{template}.html", {"sections": SECTIONS} | context)


class TimeZoneForm(forms.Form):
    """The zone in which the pages show times."""

    time_zone = forms.CharField(
        label="Time zone",
        max_length=60,
        help_text="Such as Europe/Berlin. Begin to type to see the list.",
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off"}),
    )

    def clean_time_zone(self) -> str:
        """Refuse a zone that this system does not know."""
        name: str = self.cleaned_data["time_zone"]
        if not is_known(name):
            raise forms.ValidationError(f"{name} is no time zone that we know: choose one of the list.")
        return name


@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def time_zone(request: HttpRequest) -> HttpResponse:
    """Show and change the time zone."""
    person: Any = request.user
    row = getattr(person, "user_settings", None)
    form = TimeZoneForm(request.POST or None, initial={"time_zone": (row and row.time_zone) or UTC})
    if request.method == "POST" and form.is_valid():
        time_zones.choose(person, form.cleaned_data["time_zone"])
        messages.success(request, f"Times are now shown in {form.cleaned_data['time_zone']}.", "time-zone")
        return redirect("settings")
    return _show(request, "time_zone", form=form, zones=names(), now=clock.now())


@sensitive_post_parameters()
@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """Change the password, or set the first one; every other session ends."""
    person: Any = request.user
    has_one = person.has_usable_password()
    form: Any = (PasswordChangeForm if has_one else SetPasswordForm)(person, request.POST or None)
    log_in_again = not has_one and not _logged_in_lately(request)
    ready = request.method == "POST" and not log_in_again
    if ready and _checked(request, form, "old_password" if has_one else ""):
        form.save()
        record("password.changed", person, by=person.get_username())
        update_session_auth_hash(request, person)
        ended = sessions.end(person, but=request.session.session_key)
        messages.success(request, f"The password is changed; {_sessions(ended)} ended.")
        return redirect("settings-password")
    return _show(request, "password", form=form, has_one=has_one, log_in_again=log_in_again)


def _sessions(count: int) -> str:
    return f"{count} other session{'' if count == 1 else 's'}"


def _checked(request: HttpRequest, form: Any, field: str) -> bool:
    """Return whether the form is valid; wrong passwords in `field` count as failed logins do."""
    person: Any = request.user
    if not field:
        return bool(form.is_valid())
    counted = attempts.subjects(person.get_username(), auth.address(request))
    if attempts.begin(counted):
        form.errors.clear()
        form.add_error(field, "Too many failed attempts. Try again later.")
        return False
    if form.is_valid():
        attempts.succeeded(counted)
        return True
    if field in form.errors:
        attempts.failed(counted)
    else:
        attempts.succeeded(counted)
    return False


class KeyForm(forms.Form):
    """A new API key."""

    name = forms.CharField(label="What it is for", max_length=60, help_text="Such as: my spreadsheet.")
    scopes = forms.MultipleChoiceField(
        label="What it may do",
        choices=list(SCOPES.items()),
        initial=[READ],
        widget=forms.CheckboxSelectMultiple,
    )
    days = forms.IntegerField(
        label="Days until it expires", required=False, min_value=1, max_value=3650, help_text="Empty: never."
    )


@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """List, create and revoke API keys. A new key is shown once, in the answer to the form."""
    person: Any = request.user
    if "revoke" in request.POST:
        count = auth.revoke_key(request.POST["revoke"][:12], by=person.get_username(), owner=person)
        messages.success(
            request, "The key is revoked." if count else "There is no such key, or it is revoked already."
        )
        return redirect("settings-keys")
    form, key = KeyForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        if ApiKey.objects.filter(owner=person, revoked_at=None).count() >= MOST_KEYS:
            form.add_error(None, f"You have {MOST_KEYS} keys: revoke one first.")
        elif not first_time(request):
            form.add_error(
                None,
                "This form was sent before, and its key was shown then. If you lost it, revoke it and make another.",
            )
        else:
            key, form = _new_key(person, form.cleaned_data), KeyForm()
    rows = ApiKey.objects.filter(owner=person)[:MOST_KEYS]
    return _show(request, "keys", form=form, keys=rows, key=key)


def _new_key(person: Any, values: dict[str, Any]) -> str:
    until = clock.now() + timedelta(days=values["days"]) if values["days"] else None
    return auth.create_key(
        person, values["name"], values["scopes"], by=person.get_username(), expires_at=until
    )


@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def own_sessions(request: HttpRequest) -> HttpResponse:
    """List the sessions of the account; end one, or all others."""
    person: Any = request.user
    if request.method == "POST":
        if "others" in request.POST:
            ended = sessions.end(person, but=request.session.session_key)
        else:
            ended = int(sessions.end_one(person, request.POST.get("end", "")))
        record("sessions.ended", person, by=person.get_username(), count=ended)
        messages.success(request, f"{ended} session{'' if ended == 1 else 's'} ended.")
        return redirect("settings-sessions")
    rows = [
        {"row": row, "id": sessions.public_id(row), "own": row.session_key == request.session.session_key}
        for row in sessions.of_user(person)
    ]
    return _show(request, "sessions", rows=rows)


@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def own_wallets(request: HttpRequest) -> HttpResponse:
    """List the wallets of the account, link one (`wallet.js`) and unlink one."""
    person: Any = request.user
    if request.method == "POST":
        try:
            address = wallets.unlink(person, int(request.POST.get("unlink", "").zfill(1)[:18]))
        except (Rejected, ValueError) as error:
            text = str(error) if isinstance(error, Rejected) else "no such wallet"
            messages.error(request, sentence(text))
        else:
            messages.success(request, f"{address} is unlinked.")
        return redirect("settings-wallets")
    return _show(request, "wallets", wallets=person.wallets.all(), chains=wallets.accepted_chains())


@never_cache
@login_required(login_url="login")
@require_safe
def export_page(request: HttpRequest) -> HttpResponse:
    """Say what the export holds."""
    files = export.counts(request.user)
    return _show(request, "export", files=files, total=sum(number for _, number in files))


@never_cache
@login_required(login_url="login")
@require_safe
def export_zip(request: HttpRequest) -> HttpResponse | StreamedFile:
    """Send everything that belongs to the account as a zip, while it is written."""
    person: Any = request.user
    if auth.count(f"export:{person.pk}", 3600) > EXPORTS_PER_HOUR:
        messages.error(request, f"{EXPORTS_PER_HOUR} exports an hour are the limit: try again later.")
        return redirect("settings-export")
    record("account.exported", person, by=person.get_username())
    return StreamedFile(export.archive(person), f"maxxit-{clock.now():%Y-%m-%d}.zip", "application/zip")


class CloseForm(forms.Form):
    """The confirmation: the user name, and the password where there is one."""

    username = forms.CharField(
        label="Your user name, to confirm",
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    password = forms.CharField(
        label="Password",
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, person: Any, data: Any) -> None:
        super().__init__(data)
        self.person = person
        if not person.has_usable_password():
            del self.fields["password"]

    def clean_username(self) -> str:
        """Refuse another name."""
        name: str = self.cleaned_data["username"]
        if name != self.person.get_username():
            raise forms.ValidationError(f"Type {self.person.get_username()} to confirm.")
        return name

    def clean_password(self) -> str:
        """Refuse a wrong password."""
        given: str = self.cleaned_data["password"]
        if not self.person.check_password(given):
            raise forms.ValidationError("This password is wrong.")
        return given


@sensitive_post_parameters("password")
@never_cache
@login_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def close_account(request: HttpRequest) -> HttpResponse:
    """Say what closing means and what stands in its way; close the account after a confirmation."""
    person: Any = request.user
    obstacles = closing.obstacles(person)
    form = CloseForm(person, request.POST or None)
    log_in_again = "password" not in form.fields and not _logged_in_lately(request)
    ready = request.method == "POST" and not obstacles and not log_in_again
    if ready and _checked(request, form, "password" if "password" in form.fields else ""):
        try:
            closing.close(person)
        except Rejected as error:  # something began meanwhile
            form.add_error(None, str(error))
        else:
            logout(request)
            messages.success(request, "Your account is closed.")
            return redirect("login")
    return _show(request, "close", form=form, obstacles=obstacles, log_in_again=log_in_again)


def _logged_in_lately(request: HttpRequest) -> bool:
    row = getattr(request.session, "row", None)
    return bool(row and row.opened_at and row.opened_at > clock.now() - FRESH_LOGIN)
