"""Rich console for terminal output."""

from contextlib import suppress

from rich import console


class Console(console.Console):
    """Rich's console; exits quietly when its output is piped into a program that stops reading (`head`)."""

    def on_broken_pipe(self) -> None:
        """Exit with 141 (SIGPIPE) instead of 1: nothing failed."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(141)
