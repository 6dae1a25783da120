"""Permission checks of API operations and pages.

Staff need Django's permissions; users reach their own rows (`maxxit.access.rows`) without any. Every API operation
declares its permission with `needs`, every page with `page_needs`; a test lists them all.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja.errors import HttpError
from ninja.utils import contribute_operation_callback

from maxxit.access import idempotency
from maxxit.access.auth import Caller, caller
from maxxit.access.inputs import known_query
from maxxit.access.models import ADMIN

View = Callable[..., Any]


def allowed(person: Any, permission: str, *, operators_only: bool = False) -> bool:
    """Return whether `person` may call: staff with the permission, other users unless `operators_only`."""
    if person.is_staff:
        return bool(person.has_perm(permission))
    return not operators_only


def needs(permission: str, *, operators_only: bool = False, scope: str = "") -> Callable[[View], View]:
    """Decorate an API operation that needs `permission` and a key with `scope`; answers 403 without them.

    A POST with an idempotency key takes effect once (`maxxit.access.idempotency`).
    """

    def decorate(view: View) -> View:
        @known_query
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            who = caller(request)
            if operators_only:
                _require_admin_scope(who)
            if not allowed(who.person, permission, operators_only=operators_only):
                raise HttpError(
                    403, f"this needs the permission {permission}: a superuser can grant it in the admin"
                )
            if scope and not {scope, ADMIN} & who.scopes:
                raise HttpError(
                    403,
                    f"this needs a key with the scope `{scope}`: `manage.py apikey create USER --scope {scope}`",
                )
            return idempotency.once(request, who.person, lambda: view(request, *args, **kwargs))

        checked.permission = permission  # type: ignore[attr-defined]
        contribute_operation_callback(checked, idempotency.document)
        return checked

    return decorate


def page_needs(permission: str) -> Callable[[View], View]:
    """Decorate a page for which staff need `permission`; apply below `login_required`. Raises PermissionDenied."""

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
            403, "this needs a staff user and a key with the scope admin (`manage.py apikey create`)"
        )
