"""A progress bar of recorded time."""

import sys
from collections.abc import Callable
from datetime import datetime

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from maxxit.core.terminal import Console


class ProgressBar:
    """A progress bar on stderr; a context that returns the function to call with each moment."""

    def __init__(self, start: datetime, end: datetime, *, quiet: bool) -> None:
        self._quiet = quiet
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        console = Console(file=sys.stderr, highlight=False)
        self._bar = Progress(*columns, TimeElapsedColumn(), console=console, disable=quiet)
        self._start, self._total = start, (end - start).total_seconds()

    def __enter__(self) -> Callable[[datetime], None]:
        if self._quiet:
            return lambda _: None
        self._bar.start()
        shown = self._bar.add_task("preparing", total=self._total)
        return lambda moment: self._bar.update(
            shown, completed=(moment - self._start).total_seconds(), description=f"{moment:%d %b %H:%M}"
        )

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
