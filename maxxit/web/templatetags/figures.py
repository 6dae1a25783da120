"""Template filters that format amounts, prices, fractions and times."""

from datetime import datetime
from decimal import Decimal

from django import template
from django.urls import NoReverseMatch, reverse

from maxxit.core import clock
from maxxit.core.money import brief

register = template.Library()


@register.filter
def usd(value: Decimal | None) -> str:
    """Format with two decimals and thousands separators: 12,345.60."""
    return "–" if value is None else f"{value:,.2f}"


@register.filter
def usdc(value: Decimal | None) -> str:
    """Format to the base unit, with two decimals at least: 1,234.50, 0.123456."""
    if value is None or value == "":
        return "–"
    whole, _, places = f"{value:,.6f}".partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


@register.filter
def signed(value: Decimal | None) -> str:
    """Format with two decimals and the sign: +3.20."""
    return "–" if value is None else f"{value:+,.2f}"


@register.filter
def tone(value: Decimal | None) -> str:
    """Return the CSS class of a figure's sign: `up`, `down` or nothing."""
    return "" if not value else "up" if value > 0 else "down"


@register.filter
def quantity(value: Decimal | None) -> str:
    """Format with eight significant digits, without trailing zeros."""
    return "–" if value is None else brief(value)


@register.filter
def price(value: Decimal | None) -> str:
    """Format USD with decimals by magnitude: 64,012.35, 148.2010, 0.619490."""
    if value is None:
        return "–"
    return f"{value:,.{2 if abs(value) >= 1000 else 4 if abs(value) >= 1 else 6}f}"


@register.filter
def percent(value: Decimal) -> str:
    """Format a fraction as a percentage: 0.4211 is 42.1 %."""
    return f"{value * 100:.1f} %"


register.filter("duration", clock.duration_text)


@register.filter
def words(text: str) -> list[str]:
    """Split a comma-separated list."""
    return text.split(",")


@register.filter
def milliseconds(at: datetime) -> str:
    """Format the milliseconds of a time: .125."""
    return f".{at.microsecond // 1000:03d}"


@register.simple_tag
def admin_url(model: str, pk: int) -> str:
    """Return the admin URL of a row, `model` as in `trading.order`; empty where there is none."""
    try:
        return reverse(f"admin:{model.replace('.', '_')}_change", args=[pk])
    except NoReverseMatch:
        return ""
