"""Errors that end a pass, because none of them is the fault of the row or account that it is working on."""

from celery.exceptions import SoftTimeLimitExceeded

from maxxit.postgres.failures import database_is_away


def ends_the_pass(error: BaseException) -> bool:
    """Return whether the pass ends, no failure is counted, and the next pass continues.

    True without the database and at the task's time limit. (A worker's shutdown raises SystemExit, which is not caught
    anyway.) A statement that timed out is a failure of its row: a row whose statement always does would end every pass.
    """
    return database_is_away(error) or isinstance(error, SoftTimeLimitExceeded)
