"""The page shown when a form's CSRF token is missing or too old."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 with a link to the same page, where the draft of the form is restored."""
    return render(request, "web/csrf.html", {"path": request.path, "reason": reason}, status=403)
