"""Output for people in a terminal."""

from contextlib import suppress

from rich import console


class Console(console.Console):
    """Rich's console, which ends quietly as a shell reports it when its reader (`head`) has had enough."""

    def on_broken_pipe(self) -> None:
        """Exit code 141 instead of 1: nothing failed."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(141)
