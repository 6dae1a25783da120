"""The login page: limited attempts, and one message for a wrong user name, password or code."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django_otp import devices_for_user, match_token

from maxxit.access import attempts, time_zones
from maxxit.access.auth import address
from maxxit.access.wallets import accepted_chains
from maxxit.core import clock


class LoginForm(AuthenticationForm):
    """User name, password, and the code of the second factor where one is set up."""

    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": "User name, password or code is wrong. Leave the code empty if you have not set one up.",
    }

    otp_token = forms.CharField(
        required=False,
        max_length=20,
        label="Code",
        help_text="From your app, if you have set up a second factor.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "text"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "User name"

    def clean(self) -> dict[str, Any]:
        """Check all credentials together. Raises ValidationError for wrong credentials and while blocked."""
        username, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if username is None or not password:
            return self.cleaned_data
        counted = attempts.subjects(username, address(self.request) if self.request else "")
        if until := attempts.begin(counted):
            minutes = max(1, -int(-(until - clock.now()).total_seconds() // 60))
            raise ValidationError(
                f"Too many failed attempts. Try again in {minutes} min.", code="too_many_attempts"
            )
        try:
            super().clean()
            self._check_second_factor()
        except ValidationError:
            attempts.failed(counted)
            raise
        attempts.succeeded(counted)
        return self.cleaned_data

    def _check_second_factor(self) -> None:
        user: Any = self.get_user()
        if not any(devices_for_user(user)):
            return
        user.otp_device = match_token(user, self.cleaned_data.get("otp_token", "").strip())
        if user.otp_device is None:
            raise self.get_invalid_login_error()


class Login(LoginView):
    """The view of `/login`, used by the admin too."""

    authentication_form = LoginForm
    template_name = "web/login.html"
    next_page = "dashboard"

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Log in, and keep the browser's time zone at the first login."""
        answer = super().form_valid(form)
        time_zones.learn(self.request.user, self.request.POST.get("time_zone", ""))
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the setting SIGN_UP, which decides what the page says to newcomers, and the chains for wallets."""
        return super().get_context_data(**kwargs) | {"sign_up": settings.SIGN_UP, "chains": accepted_chains()}
