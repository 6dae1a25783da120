"""Tell a database that is away from one statement that failed: Django raises OperationalError for both."""

from django.db import InterfaceError, OperationalError
from psycopg import errors

OF_A_STATEMENT = (
    errors.QueryCanceled,  # statement_timeout
    errors.LockNotAvailable,  # lock_timeout
    errors.DeadlockDetected,
    errors.SerializationFailure,
)


def timed_out(error: BaseException) -> bool:
    """Return whether one statement failed by a time limit or by the locks of others, on a connection that works."""
    return isinstance(error, OperationalError) and isinstance(error.__cause__, OF_A_STATEMENT)


def database_is_away(error: BaseException) -> bool:
    """Return whether the database cannot be reached or cannot work, whatever the statement."""
    return isinstance(error, (OperationalError, InterfaceError)) and not timed_out(error)
