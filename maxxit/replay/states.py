"""States and transitions of a preview: queued -> running -> done, failed, canceled; running -> queued to try again."""

from enum import StrEnum


class PreviewState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


UNDER_WAY = (PreviewState.QUEUED, PreviewState.RUNNING)

PREVIEW = {
    # queued -> done: the same inputs were played before
    PreviewState.QUEUED: frozenset({PreviewState.RUNNING, PreviewState.DONE, PreviewState.CANCELED}),
    PreviewState.RUNNING: frozenset(
        {PreviewState.QUEUED, PreviewState.DONE, PreviewState.FAILED, PreviewState.CANCELED}
    ),
    PreviewState.DONE: frozenset(),
    PreviewState.FAILED: frozenset(),
    PreviewState.CANCELED: frozenset(),
}
