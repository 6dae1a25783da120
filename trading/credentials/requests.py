"""Let the workers that have the private key test the keys that customers send, and store those that may be used.

A web process only seals what a customer typed, and stores it as a request. A worker opens it, asks the venue what the
keys may do, and stores them in place of those in use, or refuses them with the reason. A request that is answered keeps
no keys.
"""

from collections.abc import Mapping

import structlog
from django.db import transaction

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock, redact
from maxxit.core.errors import InvalidInput, MaxxitError, Misconfigured, Rejected, Retryable, Unknown
from maxxit.events import wake
from maxxit.events.record import advance, record
from trading.credentials import sealing, store
from trading.credentials.models import CredentialRequest
from trading.credentials.states import RequestState
from trading.passes import TimeBudget, ends_the_pass
from trading.wiring import venue

log = structlog.get_logger(__name__)

TRIES = 5
"""Tries while a request cannot be answered, whatever the error; then it fails."""
AT_ONCE = 50
"""Requests that one run answers."""
ANSWER_SECONDS = 5.0
"""How long one run begins to answer another request: the worker has other tasks, and a venue may hang."""
ASKED = "credentials.asked"


def fields_of(deployment: Deployment) -> tuple[str, ...]:
    """Return the names of the keys that the deployment's venue wants; empty where it needs none."""
    return venue(deployment.agent.venue).credential_fields


def ask_to_store(deployment: Deployment, fields: Mapping[str, str], *, by: str) -> CredentialRequest:
    """Seal keys and let a worker test and store them; a request of the account that still waits is replaced.

    Raises InvalidInput naming each wrong field, Rejected where the deployment takes no keys.
    """
    _must_be_open(deployment)
    name, account = deployment.agent.venue, deployment.account
    values = store.checked_fields(name, fields)
    row = CredentialRequest(venue=name, account=account, hint=store.hint_of(name, values))
    sealed = sealing.seal(values, row.context)
    row.content, row.key_id = sealed.content, sealed.key_id
    return _save(row, by)


def ask_to_test(deployment: Deployment, *, by: str) -> CredentialRequest:
    """Let a worker ask the venue what the stored keys may do. Raises Rejected where none are stored."""
    name, account = deployment.agent.venue, deployment.account
    stored = store.credential_of(name, account)
    if stored is None:
        raise Rejected(f"no keys of {account} at {name} are stored: store them first", code="no_credentials")
    waiting = newest(name, account)
    if waiting is not None and waiting.state == RequestState.WAITING:
        return waiting
    return _save(CredentialRequest(venue=name, account=account, hint=stored.hint, only_test=True), by)


def newest(venue_name: str, account: str) -> CredentialRequest | None:
    """Return the newest request of an account."""
    return CredentialRequest.objects.filter(venue=venue_name, account=account).order_by("-pk").first()


def remove(deployment: Deployment, *, by: str) -> bool:
    """Delete the keys of a deployment's account and what waits for it; return whether there were any keys.

    Raises Rejected (`credentials_in_use`) under open positions and orders.
    """
    name, account = deployment.agent.venue, deployment.account
    with transaction.atomic():
        _replace_waiting(name, account)
        return store.remove(name, account, by=by)


def answer_due() -> int:
    """Answer requests that wait, those tried least first; return how many were answered.

    One request's error stops no other, nor does a venue that hangs: a request left untried wakes the next run.
    """
    answered = 0
    budget = TimeBudget(ANSWER_SECONDS)
    waiting = CredentialRequest.objects.filter(state=RequestState.WAITING).order_by("tries", "pk")
    for pk, tries in list(waiting.values_list("pk", "tries")[:AT_ONCE]):
        if not budget.left():
            if not tries:
                wake.after_commit(ASKED)
            break
        try:
            answered += _answer(pk)
        except Exception as error:
            if ends_the_pass(error):
                raise
            log.error("credentials_not_answered", request=pk, error=type(error).__name__)
    return answered


def _answer(pk: int) -> bool:
    """Answer one request; return whether it is finished. The venue is asked outside of a transaction."""
    row = CredentialRequest.objects.filter(pk=pk, state=RequestState.WAITING).first()
    if row is None:
        return False
    if row.tries >= TRIES:  # the worker ended while it tried for the last time
        return _finish(row, RequestState.REFUSED, f"it could not be answered in {TRIES} tries")
    CredentialRequest.objects.filter(pk=pk).update(tries=row.tries + 1)
    try:
        if row.only_test:
            permissions = store.test(row.venue, row.account)
        else:
            values = sealing.unseal(sealing.Sealed(bytes(row.content), row.key_id), row.context)
            permissions = store.store(row.venue, row.account, values, by=row.asked_by).permissions
    except (Rejected, InvalidInput) as error:
        return _finish(row, RequestState.REFUSED, str(error))
    except (Retryable, Unknown, Misconfigured) as error:
        log.warning("credentials_not_tested", request=pk, error=str(error))
        return _failed(row, error)
    except Exception as error:
        if ends_the_pass(error):
            raise
        log.exception("credentials_not_tested", request=pk)
        return _failed(row, error)
    return _finish(row, RequestState.ACCEPTED, "", permissions)


def _failed(row: CredentialRequest, error: Exception) -> bool:
    """Let a later run try the request again, or refuse it after the last try; return whether it is finished."""
    if isinstance(error, Retryable | Unknown):
        text = f"{row.venue} could not be asked: {error}"
    elif isinstance(error, Misconfigured):
        text = "this installation cannot open keys at present: its operator has to look"
    else:
        text = f"the test failed unexpectedly ({type(error).__name__}): the operator of this installation has to look"
    if row.tries + 1 >= TRIES:
        return _finish(row, RequestState.REFUSED, text)
    waiting = CredentialRequest.objects.filter(pk=row.pk, state=RequestState.WAITING)
    waiting.update(message=redact.text(text)[:300])
    return False


def _finish(
    row: CredentialRequest, state: RequestState, message: str, permissions: list[str] | None = None
) -> bool:
    """Store the answer and forget the keys; return whether the request still waited."""
    try:
        advance(
            row,
            state,
            data={"account": row.account},
            message=redact.text(message)[:300],
            permissions=permissions or [],
            content=b"",
            finished_at=clock.now(),
        )
    except MaxxitError:
        return False  # it was replaced meanwhile
    return True


def _must_be_open(deployment: Deployment) -> None:
    if deployment.state == DeploymentState.REVOKED:
        raise Rejected(
            f"deployment {deployment.pk} is revoked for good: start another agent", code="not_allowed_now"
        )


@transaction.atomic
def _save(row: CredentialRequest, by: str) -> CredentialRequest:
    _replace_waiting(row.venue, row.account)
    row.asked_by, row.asked_at = by[:150], clock.now()
    row.save()
    record(ASKED, row, by=by, account=row.account, test=row.only_test)
    wake.after_commit(ASKED)
    return row


def _replace_waiting(venue_name: str, account: str) -> None:
    """Forget a request that still waits."""
    rows = CredentialRequest.objects.select_for_update().filter(
        venue=venue_name, account=account, state=RequestState.WAITING
    )
    for row in rows:
        advance(row, RequestState.REPLACED, content=b"", finished_at=clock.now())
