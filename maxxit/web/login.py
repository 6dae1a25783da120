"""The login page: limited attempts, and one message for a wrong user name, password or code."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import ValidationError
from django_otp import devices_for_user, match_token

from maxxit.access import attempts
from maxxit.access.auth import address
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
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "text"}),
    )

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
