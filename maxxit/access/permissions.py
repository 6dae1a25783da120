"""What staff may do is what Django's permissions say; customers reach their own rows (`owned`), without permissions.

Every operation of the API and every page of ours declares one with `needs`. A test enumerates them.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja.errors import HttpError

from maxxit.access.auth import Caller, caller
from maxxit.access.inputs import known_query
from maxxit.access.models import ADMIN

View = Callable[..., Any]


def allowed(person: Any, permission: str, *, operators_only: bool = False) -> bool:
    """Whether `person` gets in: staff with the permission, customers (to their own rows) unless `operators_only`."""
    if person.is_staff:
        return bool(person.has_perm(permission))
    return not operators_only


def needs(permission: str, *, operators_only: bool = False) -> Callable[[View], View]:
    """An operation of the API that needs `permission`; 403 without it."""

    def decorate(view: View) -> View:
        @known_query
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            who = caller(request)
            if operators_only:
                _require_admin_scope(who)
            if not allowed(who.person, permission, operators_only=operators_only):
                raise HttpError(
                    403, f"this needs the permission {permission}: a superuser gives it in the admin"
                )
            return view(request, *args, **kwargs)

        checked.permission = permission  # type: ignore[attr-defined]
        return checked

    return decorate


def page_needs(permission: str) -> Callable[[View], View]:
    """A page that staff sees with `permission` alone. Raises PermissionDenied; put it below `login_required`."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if not allowed(request.user, permission):
                raise PermissionDenied(f"this page needs the permission {permission}")
            return view(request, *args, **kwargs)

        return checked

    return decorate


def _require_admin_scope(who: Caller) -> None:
    if ADMIN not in who.scopes or not who.is_staff:
        raise HttpError(
            403, "this needs a member of staff, and a key with the scope admin (`manage.py apikey create`)"
        )
