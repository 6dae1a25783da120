"""Tasks that say every secret there is, in every way a task has: run by a worker of tests/llm/test_sinks.py only."""

import logging

import structlog
from pydantic import BaseModel

from maxxit.celery import app
from maxxit.events.record import record
from maxxit.pipeline.runs import Counts, run_stage
from signals_app.models import CtPost
from tests.llm.canaries import KNOWN
from trading.models import Order
from trading.quarantine import quarantine_on_error

SAID = [encoded for _, encoded in KNOWN.values()]
ALL = " | ".join(SAID)


class Typed(BaseModel):
    """Its errors quote what was given."""

    amount: int


@app.task(name="tests.leak.tell", ignore_result=False)
def tell() -> dict[str, object]:
    """In a result, in an event, and in log lines of ours and of a library."""
    structlog.get_logger("maxxit.leak").warning("leak", said=SAID, password=SAID[0], deep={"list": [ALL]})
    logging.getLogger("some.library").warning("connecting with %s", ALL)
    if (post := CtPost.objects.first()) is not None:
        record("ctpost.leak", post, said=ALL, deep=[{"said": SAID}])
    return {"said": SAID, "deep": {"said": ALL}}


@app.task(name="tests.leak.fail", ignore_result=False)
def fail() -> None:
    """In an error, in its cause, and in the log line that tells of both."""
    try:
        try:
            raise ValueError(ALL)
        except ValueError as error:
            raise RuntimeError(f"while signing: {ALL}") from error
    except RuntimeError:
        logging.getLogger("some.library").exception("failed with %s", ALL)
        raise


@app.task(name="tests.leak.validate", ignore_result=False)
def validate() -> None:
    """In an error whose text is not its arguments'."""
    for said in SAID:
        try:
            Typed.model_validate({"amount": said})
        except ValueError:
            logging.getLogger("some.library").exception("no number")
    Typed.model_validate({"amount": SAID[0]})


@app.task(name="tests.leak.stage", ignore_result=False)
def stage() -> None:
    """In the counts of a pass, and in a pass that fails."""

    def failing() -> Counts:
        raise RuntimeError(ALL)

    run_stage("classify", lambda: Counts(1, 0, {"failed": {"account": ALL}}))
    run_stage("classify", failing)


@app.task(name="tests.leak.order", ignore_result=False)
def order() -> int:
    """In a step of an order that fails."""
    with quarantine_on_error(Order.objects.get()):
        raise RuntimeError(ALL)
    return 1
