"""Source of web pages, fetched by the SSRF-safe client (`maxxit.core.egress`)."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from maxxit.core import egress
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.knowledge.sources.base import Offer, Text
from maxxit.knowledge.sources.html import text_of

RULES = egress.Rules()


class Web:
    """Pages at `urls` (public, https); each is fetched again after `refresh_minutes`."""

    def __init__(self, urls: Sequence[str], refresh_minutes: int = 360) -> None:
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise Misconfigured("config/knowledge.yaml: `urls` of a web source is a list of URLs")
        if not isinstance(refresh_minutes, int) or refresh_minutes < 5:
            raise Misconfigured("config/knowledge.yaml: `refresh_minutes` of a web source must be 5 or more")
        for url in urls:
            try:
                egress.parse(url, RULES)
            except Rejected as error:
                raise Misconfigured(f"config/knowledge.yaml: urls: {error}") from error
        self._urls, self._refresh = urls, timedelta(minutes=refresh_minutes)

    def offers(self) -> Iterable[Offer]:
        """List the configured URLs; a page is fetched when its offer is read."""
        for url in self._urls:
            yield Offer(url, lambda url=url: read(url), self._refresh)  # type: ignore[misc]


def read(url: str) -> Text:
    """Fetch a page and return its visible text. Raises what `egress.fetch` raises."""
    page = egress.fetch(url, RULES)
    if page.content_type in {"text/html", "application/xhtml+xml"}:
        return text_of(page.text())
    return Text(page.text(), page.url)
