"""Every failure answers one question: did it happen?

* MaxxitError
  - Retryable       no, and it may work later    -> the sweep tries again
  - Rejected        no, and it never will        -> the row goes to a terminal state with the reason
  - Unknown         we cannot tell               -> ask the venue; never resend blindly
  - Misconfigured   the operator must act        -> refuse to start, naming the setting and the fix
  - StaleState      another worker was first     -> nothing to do
    - IllegalMove   the state table has no such move: a bug, never an accident of timing

A verdict of risk is a value (`trading.risk.Verdict`), not an exception.
"""


class MaxxitError(Exception):
    """The root of everything that this project raises on purpose."""


class Retryable(MaxxitError):
    """It did not happen and may work later. `after` is the provider's hint in seconds, if it gave one; `limited` says
    that it wants fewer requests (HTTP 429)."""

    def __init__(self, message: str, *, after: float | None = None, limited: bool = False) -> None:
        super().__init__(message)
        self.after, self.limited = after, limited


class Rejected(MaxxitError):
    """It did not happen and never will: the other side said no. `code` is the reason to persist.

    `body` is what an HTTP server answered with its refusal, redacted, for whoever can read that server's errors.
    """

    def __init__(self, message: str, *, code: str = "rejected", body: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.body = body


class Unknown(MaxxitError):
    """It may have happened. Ask before doing anything else."""


class Misconfigured(MaxxitError):
    """A setting is missing or wrong. The message names the setting, its file and the fix."""


class StaleState(MaxxitError):
    """The row is no longer in the state we read: another worker moved it first."""


class IllegalMove(MaxxitError):
    """The transition table beside the model has no such move."""
