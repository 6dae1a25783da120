"""A download that is sent while it is made, with bounded memory, under ASGI and WSGI."""

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

LINES = 500
"""Lines of CSV sent together."""


class StreamedFile(StreamingHttpResponse):
    """A file whose pieces are made while they are sent. Under ASGI Django would make all of them before the first."""

    def __init__(self, pieces: Iterable[str] | Iterable[bytes], name: str, content_type: str) -> None:
        super().__init__(
            pieces,
            content_type=content_type,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces, each made in the request's own thread, which has its database connection."""
        pieces: Iterator[bytes] = iter(self)
        following = sync_to_async(lambda: next(pieces, None))
        while (piece := await following()) is not None:
            yield piece


class CsvResponse(StreamedFile):
    """A download of CSV lines."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        super().__init__(_joined(lines), name, "text/csv; charset=utf-8")


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while chunk := list(islice(lines, LINES)):
        yield "".join(chunk)
