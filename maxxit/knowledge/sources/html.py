"""A web page -> what a reader sees of it. Nothing in it is run, and nothing that it names is loaded."""

from selectolax.lexbor import LexborHTMLParser

from maxxit.knowledge.sources.base import Text

_NO_TEXT = [
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
_LINES = {
    *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "table"),
    *("tr", "ul"),
}


def text_of(html: str) -> Text:
    """Its title and text: a paragraph each on a line of its own, cells of a table side by side."""
    tree = LexborHTMLParser(html)
    title = node.text(strip=True) if (node := tree.css_first("title")) else ""
    tree.strip_tags(_NO_TEXT)
    said: list[str] = []
    root = tree.body
    for part in root.traverse(include_text=True) if root else ():
        if part.tag == "-text":
            said.append(part.text(deep=False))
        elif part.tag in _LINES:
            said.append("\n\n" if part.tag in {"p", "h1", "h2", "h3", "section", "article"} else "\n")
        elif part.tag in {"td", "th"}:
            said.append(" ")
    return Text("".join(said), " ".join(title.split()))
