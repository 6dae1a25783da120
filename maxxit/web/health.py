"""For load balancers and supervisors: is the process there, and may it get traffic?"""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from maxxit.reports import checks


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process answers. Asks nobody: a database that is away must not get the process restarted."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Postgres, Redis, migrations, beat and a worker for each queue: 200 when all are well, otherwise 503."""
    found = [checks.postgres(), checks.broker(), checks.migrations(), *checks.canaries()]
    well = all(check.ok for check in found)
    told = {check.name: {"ok": check.ok, "detail": _public(check)} for check in found}
    return JsonResponse(
        {"status": "ok" if well else "not ready", "checks": told}, status=200 if well else 503
    )


def _public(check: checks.Check) -> str:
    """What a stranger may read: no addresses or names that an error message may hold."""
    return check.detail if check.ok else f"not well: see `manage.py doctor`, line {check.name}"
