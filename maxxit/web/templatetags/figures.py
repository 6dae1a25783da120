"""How pages write figures."""

from datetime import datetime
from decimal import Decimal

from django import template
from django.urls import NoReverseMatch, reverse

from maxxit.core import clock
from maxxit.core.money import brief

register = template.Library()


@register.filter
def usd(value: Decimal | None) -> str:
    """Two decimals, thousands apart: 12,345.60."""
    return "–" if value is None else f"{value:,.2f}"


@register.filter
def signed(value: Decimal | None) -> str:
    """Two decimals with the sign: +3.20."""
    return "–" if value is None else f"{value:+,.2f}"


@register.filter
def tone(value: Decimal | None) -> str:
    """`up`, `down` or nothing: the class that colours it."""
    return "" if not value else "up" if value > 0 else "down"


@register.filter
def quantity(value: Decimal | None) -> str:
    """Eight significant digits, no trailing zeros."""
    return "–" if value is None else brief(value)


@register.filter
def price(value: Decimal | None) -> str:
    """USD with as many decimals as its size asks for: 64,012.35, 148.2010, 0.619490."""
    if value is None:
        return "–"
    return f"{value:,.{2 if abs(value) >= 1000 else 4 if abs(value) >= 1 else 6}f}"


@register.filter
def percent(value: Decimal) -> str:
    """A fraction as a percentage: 0.4211 is 42.1 %."""
    return f"{value * 100:.1f} %"


register.filter("duration", clock.duration_text)


@register.filter
def words(text: str) -> list[str]:
    """A list written with commas."""
    return text.split(",")


@register.filter
def milliseconds(at: datetime) -> str:
    """The part of a moment behind the second: .125."""
    return f".{at.microsecond // 1000:03d}"


@register.simple_tag
def admin_url(model: str, pk: int) -> str:
    """The admin page of a row; `model` as in `trading.order`."""
    try:
        return reverse(f"admin:{model.replace('.', '_')}_change", args=[pk])
    except NoReverseMatch:
        return ""
