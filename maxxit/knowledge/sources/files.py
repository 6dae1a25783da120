"""Source of local files: text, Markdown and saved HTML."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from django.conf import settings

from maxxit.core.config import ROOT
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.knowledge.sources.base import Offer, Text
from maxxit.knowledge.sources.html import text_of

MAX_BYTES = 5_000_000


class Files:
    """Files that match `paths`: glob patterns, `**` for any depth; `{data_dir}` is the data folder."""

    def __init__(self, paths: Sequence[str]) -> None:
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise Misconfigured("config/knowledge.yaml: `paths` of a files source is a list of patterns")
        self._patterns = [str(ROOT / path.replace("{data_dir}", str(settings.DATA_DIR))) for path in paths]

    def offers(self) -> Iterable[Offer]:
        """List every matching file once, sorted by path."""
        paths = {path for pattern in self._patterns for path in glob.glob(pattern, recursive=True)}
        for path in sorted(paths):
            if Path(path).is_file():
                yield Offer(path, lambda path=path: read(Path(path)))  # type: ignore[misc]


def read(path: Path) -> Text:
    """Return the text and title of a file.

    Raises Rejected for a file that is not UTF-8 or larger than `MAX_BYTES`, Retryable when it cannot be read now.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Rejected(f"{path} is larger than {MAX_BYTES} bytes: split it", code="too_large")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Retryable(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Rejected(f"{path} is not UTF-8 text ({error.reason}): convert it", code="not_text") from error
    if path.suffix.lower() in {".html", ".htm"}:
        return text_of(text)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return Text(text, first.lstrip("# ").strip() if first.startswith("#") else path.name)
