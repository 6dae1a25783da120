"""Template filters that format amounts, prices, fractions, and times in the zone of the viewer."""

from datetime import UTC, datetime
from decimal import Decimal

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.dateformat import format as date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from maxxit.core import clock
from maxxit.core.config import profile
from maxxit.core.money import brief, plain, trimmed

register = template.Library()


@register.filter
def usd(value: Decimal | float | None) -> str:
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
def tone(value: Decimal | float | None) -> str:
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
def rate(value: Decimal | float | None) -> str:
    """Format a fraction as a percentage with two decimals, a dash for None: 0.42117 is 42.12 %."""
    return "–" if value is None else f"{value * 100:,.2f} %"


@register.filter
def signed_percent(value: float | None) -> str:
    """Format a fraction as a percentage with its sign: 0.0312 is +3.12 %."""
    return "–" if value is None else f"{value * 100:+.2f} %"


@register.filter
def basis_points(value: float | None) -> str:
    """Format basis points with their sign: 12.34 is +12.3 bp."""
    return "–" if value is None else f"{value:+.1f} bp"


@register.filter
def exact(value: Decimal | None) -> str:
    """Format with every digit, for the title of a rounded figure."""
    return "–" if value is None else plain(value)


@register.filter
def figure(value: float | None, form: str) -> str:
    """Format a measured figure: `percent` is of percents with the sign, `rate` of a fraction."""
    if value is None:
        return "–"
    return f"{value:.0%}" if form == "rate" else f"{value:+.2f} %"


@register.filter
def limit_value(value: Decimal | str | bool | None) -> str:
    """Format the value of a risk limit: a number exactly with thousands separators, on, off or none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, Decimal):
        return str(value)
    whole, point, places = plain(value).partition(".")
    return f"{int(whole):,}{point}{places}"


@register.filter
def percent_of(value: float | None) -> str:
    """Format a percentage: 1.5 is 1.5 %."""
    return "–" if value is None else f"{value:g} %"


@register.filter
def whole(value: Decimal | float | None) -> str:
    """Format rounded to a whole number with thousands separators."""
    return "–" if value is None else f"{value:,.0f}"


@register.filter
def spaced(text: str) -> str:
    """Write a code for people: `no_call` is "no call"."""
    return text.replace("_", " ")


register.filter("duration", clock.duration_text)
register.filter("trimmed", trimmed)


@register.filter
def words(text: str) -> list[str]:
    """Split a comma-separated list."""
    return text.split(",")


@register.filter
def local_time(at: datetime | str | None, form: str = "") -> SafeString | str:
    """Show a time in the viewer's zone (`maxxit.web.zones`), and in UTC on hover.

    `form` is in Django's date format; without one the date, the time and the zone are shown: 2026-03-02 10:15:00 CET.
    """
    if not isinstance(at, datetime):
        return "–"
    local = timezone.localtime(at)
    text = date_format(local, form) if form else f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
    utc = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>', utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S}", text
    )


@register.simple_tag
def sample_data() -> bool:
    """Return whether posts and prices are the demo's sample data."""
    return profile() == "demo"


@register.simple_tag
def zone_text() -> str:
    """Return the viewer's zone with its present offset, as in `Europe/Berlin (UTC+02:00)`; `UTC` for UTC."""
    name = timezone.get_current_timezone_name()
    offset = timezone.localtime(clock.now()).strftime("%z")
    return name if name == "UTC" else f"{name} (UTC{offset[:3]}:{offset[3:]})"


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
