"""Texts of errors as pages show them."""


def sentence(text: object) -> str:
    """Return the text of an error with a capital letter and a full stop."""
    words = str(text).rstrip(".")
    return f"{words[:1].upper()}{words[1:]}."
