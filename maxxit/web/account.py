"""The sign-up page."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model, login, password_validation
from django.contrib.auth.forms import UsernameField
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from maxxit.access import attempts, sign_up, time_zones
from maxxit.access.auth import address
from maxxit.access.wallets import accepted_chains
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.web.once import first_time

BACKEND = "django.contrib.auth.backends.ModelBackend"
SENT_BEFORE = "This form was sent before. Log in with the name and password that you chose."


class SignUpForm(forms.Form):
    """User name and password of a new account."""

    invitation = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)
    username = UsernameField(
        label="User name",
        max_length=150,
        help_text=f"{sign_up.USER_NAME_RULE.capitalize()}.",
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    password1 = forms.CharField(
        label="Password",
        strip=False,
        max_length=4096,
        help_text="At least 8 characters; not a common password, not only digits, not your name.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    password2 = forms.CharField(
        label="Password again",
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_username(self) -> str:
        """Refuse a name that breaks the rule or is taken."""
        username: str = self.cleaned_data["username"]
        if problem := sign_up.name_problem(username):
            raise ValidationError(problem)
        return username

    def clean(self) -> dict[str, Any]:
        """Check the password against the validators of AUTH_PASSWORD_VALIDATORS and against its repetition."""
        values = self.cleaned_data
        first, second = values.get("password1"), values.get("password2")
        if first and second and first != second:
            self.add_error("password2", "The two passwords differ: type the same one twice.")
        if first:
            person = get_user_model()(**{"username": values.get("username", "")})
            try:
                password_validation.validate_password(first, person)
            except ValidationError as error:
                self.add_error("password1", error)
        return values


@sensitive_post_parameters("password1", "password2")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up_page(request: HttpRequest) -> HttpResponse:
    """Show the form and create the account, where the setting SIGN_UP and the invitation allow it."""
    if request.user.is_authenticated:
        return redirect("dashboard")
    given = request.POST if request.method == "POST" else request.GET
    refusal = sign_up.refusal(given.get("invitation", "")[:100])
    form = SignUpForm(request.POST or None, initial={"invitation": request.GET.get("invitation", "")[:100]})
    if request.method == "POST" and not refusal and (done := _created(request, form)):
        return done
    return render(
        request,
        "web/sign_up.html",
        {"form": form, "refusal": refusal, "chains": accepted_chains()},
        status=403 if refusal and request.method == "POST" else 200,
    )


def _created(request: HttpRequest, form: SignUpForm) -> HttpResponse | None:
    """Create the account, log in and return the redirect; None with errors on the form."""
    if until := attempts.begin(attempts.sign_up_subjects(address(request))):
        minutes = max(1, -int(-(until - clock.now()).total_seconds() // 60))
        form.errors.clear()  # they would tell which names are taken
        form.add_error(None, f"Too many sign-ups from your network. Try again in {minutes} min.")
        return None
    if not form.is_valid():
        return None
    if not first_time(request):
        form.add_error(None, SENT_BEFORE)
        return None
    values = form.cleaned_data
    try:
        user = sign_up.create_customer(
            values["username"], password=values["password1"], invitation=values["invitation"]
        )
    except Rejected as error:
        form.add_error("username" if error.code == "username" else None, str(error))
        return None
    welcome(request, user, request.POST.get("time_zone", ""))
    return redirect(settings.LOGIN_REDIRECT_URL)


def welcome(request: HttpRequest, user: Any, time_zone: str) -> None:
    """Log the new user in, keep the browser's time zone and greet them on the next page."""
    login(request, user, backend=BACKEND)
    time_zones.learn(user, time_zone)
    messages.success(request, f"Welcome, {user.get_username()}. Your account is ready.", "sign-up")
