"""A response that streams CSV lines to a slow reader with bounded memory, under ASGI and WSGI."""

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

LINES = 500
"""Lines sent together."""


class CsvResponse(StreamingHttpResponse):
    """A CSV download. Django itself would read all lines before it sends the first one under ASGI."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        super().__init__(
            _joined(lines),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield parts, each read in the request's own thread, which has its database connection."""
        parts: Iterator[bytes] = iter(self)
        read = sync_to_async(lambda: next(parts, b""))
        while part := await read():
            yield part


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while chunk := list(islice(lines, LINES)):
        yield "".join(chunk)
