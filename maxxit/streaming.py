"""A download that is sent while it is made, with bounded memory."""

from collections.abc import Iterable, Iterator
from itertools import islice

from django.http import StreamingHttpResponse

LINES = 500
"""Lines of CSV sent together."""


class StreamedFile(StreamingHttpResponse):
    """A file whose pieces are made while they are sent."""

    def __init__(self, pieces: Iterable[str] | Iterable[bytes], name: str, content_type: str) -> None:
        super().__init__(
            pieces,
            content_type=content_type,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


class CsvResponse(StreamedFile):
    """A download of CSV lines."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        super().__init__(_joined(lines), name, "text/csv; charset=utf-8")


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while chunk := list(islice(lines, LINES)):
        yield "".join(chunk)
