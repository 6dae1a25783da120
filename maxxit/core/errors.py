"""The exceptions of the project. Each says whether the attempted action happened.

* MaxxitError
  - Retryable       no, and it may work later    -> the sweep tries again
  - Rejected        no, and it never will        -> the row goes to a terminal state with the reason
    - InvalidInput  a field of a request is wrong -> the answer names it and the reason
  - Unknown         it may have                  -> ask the venue; never resend blindly
  - Misconfigured   the operator must act        -> refuse to start, naming the setting and the fix
  - StaleState      another worker was first     -> nothing to do
    - IllegalMove   the state table has no such transition: a bug, never a race

A risk verdict is a value (`trading.risk.checks.Verdict`), not an exception.
"""

from collections.abc import Mapping


class MaxxitError(Exception):
    """Base of every exception that this project raises on purpose."""


class Retryable(MaxxitError):
    """It did not happen and may work later.

    `after`: the provider's Retry-After in seconds, if it gave one; `limited`: whether it was a rate limit (HTTP 429);
    `body`: the redacted body of a rate limit, for code that can read that server's errors.
    """

    def __init__(
        self, message: str, *, after: float | None = None, limited: bool = False, body: str = ""
    ) -> None:
        super().__init__(message)
        self.after, self.limited, self.body = after, limited, body


class Rejected(MaxxitError):
    """It did not happen and never will. `code` is the reason to store.

    `body` is the redacted body of an HTTP error, for code that can read that server's errors.
    """

    def __init__(self, message: str, *, code: str = "rejected", body: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.body = body


class InvalidInput(Rejected):
    """Fields of a request are wrong. `problems`: field -> what is wrong with it and what is allowed."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in problems.items()), code="invalid")
        self.problems = dict(problems)


class Unknown(MaxxitError):
    """It may have happened. Ask the other side before doing anything else."""


class Misconfigured(MaxxitError):
    """A setting is missing or wrong. The message names the setting, its file and the fix."""


class StaleState(MaxxitError):
    """The row is no longer in the state that was read: another worker moved it first."""


class IllegalMove(MaxxitError):
    """The transition table in `states.py` has no such transition."""
