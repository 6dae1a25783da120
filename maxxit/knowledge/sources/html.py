"""Extract title and visible text from HTML. No script runs and no linked resource is loaded."""

from selectolax.lexbor import LexborHTMLParser

from maxxit.knowledge.sources.base import Text

_IGNORED_TAGS = [
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "iframe",
    "nav",
    "footer",
    "form",
    "button",
    "select",
]
_BLOCK_TAGS = {
    *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "table"),
    *("tr", "ul"),
}


def text_of(html: str) -> Text:
    """Return the title and text of a page: one line per block element, table cells separated by spaces."""
    tree = LexborHTMLParser(html)
    title = node.text(strip=True) if (node := tree.css_first("title")) else ""
    tree.strip_tags(_IGNORED_TAGS)
    parts: list[str] = []
    root = tree.body
    for element in root.traverse(include_text=True) if root else ():
        if element.tag == "-text":
            parts.append(element.text(deep=False))
        elif element.tag in _BLOCK_TAGS:
            parts.append("\n\n" if element.tag in {"p", "h1", "h2", "h3", "section", "article"} else "\n")
        elif element.tag in {"td", "th"}:
            parts.append(" ")
    return Text("".join(parts), " ".join(title.split()))
