"""Template tags of forms: a field with its label, help and errors, and the token of forms that take effect once."""

from typing import Any

from django import template
from django.forms import BoundField
from django.utils.html import format_html
from django.utils.safestring import SafeString

from maxxit.web import once as once_tokens

register = template.Library()


@register.inclusion_tag("web/field.html")
def field(field: BoundField) -> dict[str, Any]:
    """Render a field with its label, help text and errors, connected for screen readers."""
    return {"field": field}


@register.simple_tag
def once() -> SafeString:
    """Render the hidden token with which `maxxit.web.once` recognises a form that is sent twice."""
    return format_html(
        '<input type="hidden" name="{}" value="{}">', once_tokens.FIELD, once_tokens.new_token()
    )
