"""Health checks for load balancers and supervisors: liveness and readiness."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from maxxit.reports import checks


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Answer 200 without looking at any dependency: a database outage must not restart the web process."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Check Postgres, Redis, migrations, beat and a worker for each queue: 200 when all pass, otherwise 503."""
    results = [checks.postgres(), checks.broker(), checks.migrations(), *checks.canaries()]
    ready = all(check.ok for check in results)
    details = {check.name: {"ok": check.ok, "detail": _public(check)} for check in results}
    return JsonResponse(
        {"status": "ok" if ready else "not ready", "checks": details}, status=200 if ready else 503
    )


def _public(check: checks.Check) -> str:
    """Return a detail without the addresses and names that an error message may hold."""
    return check.detail if check.ok else f"failed: see `manage.py doctor`, line {check.name}"
