"""`/metrics` for Prometheus."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from ninja.errors import HttpError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.exposition import generate_latest

from maxxit.access.auth import address, caller_of, given_key, has_key
from maxxit.reports.metrics.collector import MaxxitCollector

LOOPBACK = {"127.0.0.1", "::1"}


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer staff, an API key of staff, or a request from this machine that came through no proxy."""
    if not _allowed(request):
        message = "metrics need a staff session, a key of staff (Authorization: Bearer), or this machine"
        return JsonResponse({"code": "unauthenticated", "message": message}, status=401)
    registry = CollectorRegistry()
    registry.register(MaxxitCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _allowed(request: HttpRequest) -> bool:
    from django.conf import settings

    if has_key(request):  # a key decides alone, as in the API
        try:
            who = caller_of(given_key(request), address(request))
        except HttpError:  # too many refused keys from this address
            return False
        return who is not None and _operates(who.person)
    if not settings.ENV.behind_proxy and address(request) in LOOPBACK:
        return True
    return _operates(request.user)


def _operates(person: Any) -> bool:
    return bool(person.is_authenticated and person.is_staff and person.has_perm("pipeline.view_pipelinerun"))
