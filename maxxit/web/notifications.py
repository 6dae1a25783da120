"""The page Notifications: channels with a test, kinds, quiet hours, price rules and the delivery log."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from maxxit.access import time_zones
from maxxit.access.permissions import allowed, page_needs
from maxxit.core.errors import MaxxitError, Rejected, Retryable
from maxxit.market.instruments import all_instruments
from maxxit.notify import endpoints, preferences, rules, trials
from maxxit.notify.channels import CHANNELS
from maxxit.notify.channels.base import AddressField
from maxxit.notify.kinds import KINDS
from maxxit.notify.models import Condition, Endpoint, PriceRule
from maxxit.reports import notifications
from maxxit.web.once import first_time

PAGE = "notifications"
CHANGE = "notify.change_pricerule"
"""What a member of staff needs to change their own notifications; customers need nothing."""


class AddressForm(forms.Form):
    """The address of the user on one channel, with the field that the channel describes."""

    address = forms.CharField(max_length=500)

    def __init__(self, channel: str, about: AddressField, data: Any = None) -> None:
        super().__init__(data, auto_id=f"id_{channel}_%s")
        field = self.fields["address"]
        field.label, field.help_text = about.label, about.help_text
        field.widget = forms.TextInput(
            attrs={
                "type": about.kind, "placeholder": about.placeholder, "maxlength": 500, "autocomplete": "off",
                "autocapitalize": "none", "spellcheck": "false",
            }
        )  # fmt: skip


class SettingsForm(forms.Form):
    """Kinds of messages and quiet hours."""

    kinds = forms.MultipleChoiceField(
        label="Send to my channels",
        required=False,
        choices=[(name, kind.title) for name, kind in KINDS.items()],
        widget=forms.CheckboxSelectMultiple,
    )
    quiet_from = forms.TimeField(
        label="Quiet from", required=False, widget=forms.TimeInput({"type": "time"}, "%H:%M")
    )
    quiet_to = forms.TimeField(
        label="Quiet to", required=False, widget=forms.TimeInput({"type": "time"}, "%H:%M")
    )
    time_zone = forms.CharField(
        label="Time zone",
        max_length=60,
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off"}),
    )


class RuleForm(forms.Form):
    """A new price rule."""

    symbols = forms.CharField(
        label="Tokens",
        max_length=500,
        help_text="Such as BTC, ETH; * for all.",
        widget=forms.TextInput(
            attrs={"list": "symbols", "autocomplete": "off", "autocapitalize": "characters"}
        ),
    )
    condition = forms.ChoiceField(label="When", choices=Condition.choices)
    threshold = forms.DecimalField(
        label="USD, or percent",
        required=False,
        max_digits=38,
        decimal_places=18,
        help_text="Percent where the price changes by percent; empty for any new price.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    window_minutes = forms.IntegerField(
        label="Within minutes",
        required=False,
        min_value=1,
        max_value=rules.LONGEST_WINDOW // timedelta(minutes=1),
        help_text="For changes by percent; 60 where it is empty.",
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    channel = forms.ChoiceField(label="Send it to")

    def __init__(self, channels: list[notifications.ChannelState], data: Any = None) -> None:
        super().__init__(data)
        field: Any = self.fields["channel"]
        field.choices = [(one.name, one.title) for one in channels if one.usable]

    def add(self, person: Any) -> PriceRule:
        """Create the rule. Raises Rejected with the reason."""
        values = self.cleaned_data
        names = [
            name.strip().upper() for name in values["symbols"].replace(" ", ",").split(",") if name.strip()
        ]
        endpoints.require(person, values["channel"])
        return rules.add(
            person,
            names,
            values["condition"],
            threshold=values["threshold"],
            window=timedelta(minutes=values["window_minutes"] or 60),
            channel=values["channel"],
        )


@never_cache
@login_required(login_url="login")
@page_needs("notify.view_ruledelivery")
@require_http_methods(["GET", "HEAD", "POST"])
def notifications_page(request: HttpRequest) -> HttpResponse:
    """Show channels, kinds, quiet hours, rules and log; do what the sent form asks."""
    if request.method != "POST":
        return _show(request)
    if not allowed(request.user, CHANGE):
        raise PermissionDenied(f"this needs the permission {CHANGE}")
    action = ACTIONS.get(request.POST.get("do", ""))
    if action is None:
        raise Http404("there is no such form")
    return action(request)


@never_cache
@login_required(login_url="login")
@page_needs("notify.view_ruledelivery")
@require_safe
def notifications_log(request: HttpRequest) -> HttpResponse:
    """Render the newest rows of the delivery log alone, for its script to refresh."""
    return render(request, "web/notifications_log.html", _log(request))


def _show(request: HttpRequest, *, status: int = 200, **sent: Any) -> HttpResponse:
    """Render the page; `sent` holds the form that was refused, or a new secret."""
    person: Any = request.user
    channels = notifications.channels_of(person)
    row = preferences.of(person)
    zone = row.time_zone if row.quiet_from else _own_zone(person)
    chosen = {"kinds": row.kinds, "quiet_from": row.quiet_from, "quiet_to": row.quiet_to, "time_zone": zone}
    refused: tuple[str, AddressForm] = sent.pop("address_form", ("", None))
    cards = [
        {
            "state": one,
            "form": (refused[1] if refused[0] == one.name else AddressForm(one.name, one.field))
            if one.field
            else None,
        }
        for one in channels
    ]
    context = {
        "cards": cards,
        "settings_form": SettingsForm(initial=chosen),
        "rule_form": RuleForm(channels),
        "rules": [(rule, rules.condition_text(rule)) for rule in notifications.rules_of(person)],
        "symbols": sorted(all_instruments()),
        "zones": time_zones.names(),
        "per_hour": trials.PER_HOUR,
    }
    return render(request, "web/notifications.html", context | _log(request) | sent, status=status)


def _own_zone(person: Any) -> str:
    row = getattr(person, "user_settings", None)
    return (row and row.time_zone) or time_zones.UTC


def _log(request: HttpRequest) -> dict[str, Any]:
    before = request.GET.get("before", "")
    try:
        page = notifications.log_of(request.user, before=before)
    except Rejected:
        page, before = notifications.log_of(request.user), ""
    return {"log": page, "before": before, "under_way": not before and notifications.under_way(page)}


def _channel(request: HttpRequest) -> str:
    name = request.POST.get("channel", "")
    if name not in CHANNELS.known:
        raise Http404(f"there is no channel {name[:20]}")
    return name


def _set_address(request: HttpRequest) -> HttpResponse:
    """Store the address and show the signing secret once."""
    person: Any = request.user
    channel = _channel(request)
    about = CHANNELS.open(channel).address_field
    if about is None:
        raise Http404(f"{channel} needs no address")
    form = AddressForm(channel, about, request.POST)
    if not form.is_valid():
        return _show(request, status=422, address_form=(channel, form))
    if not first_time(request):
        messages.info(
            request,
            "This form was sent before. Its secret was shown then: send the address again for another.",
        )
        return redirect(PAGE)
    try:
        endpoint = endpoints.set_endpoint(person, channel, form.cleaned_data["address"])
    except (Rejected, Retryable) as error:
        form.add_error("address", str(error))
        return _show(request, status=422, address_form=(channel, form))
    return _show(request, new=endpoint, secret=_secret(endpoint))


def _secret(endpoint: Endpoint) -> str:
    return endpoints.secret_of(endpoint) if CHANNELS.open(endpoint.channel).signs else ""


def _remove_address(request: HttpRequest) -> HttpResponse:
    channel = _channel(request)
    title = CHANNELS.open(channel).title
    if endpoints.forget(request.user, channel):  # type: ignore[arg-type]  # logged in
        messages.success(
            request,
            f"The address of the channel {title} is removed; messages that waited for it are not sent.",
        )
    else:
        messages.info(request, f"The channel {title} had no address.")
    return redirect(PAGE)


def _test_channel(request: HttpRequest) -> HttpResponse:
    channel = _channel(request)
    return _tested(request, lambda: trials.send_to_channel(request.user, channel))  # type: ignore[arg-type]


def _test_rule(request: HttpRequest) -> HttpResponse:
    rule = _rule(request)
    return _tested(request, lambda: trials.send_of_rule(rule))


def _tested(request: HttpRequest, send: Callable[[], Any]) -> HttpResponse:
    """Queue a test message and go to the log, which shows what becomes of it."""
    if first_time(request):
        try:
            alert = send()
        except MaxxitError as error:
            messages.error(request, f"Nothing was sent: {error}.")
        else:
            messages.success(
                request, f"On its way: {alert.event.data['text']}. The log below shows what becomes of it."
            )
    return redirect(f"/{PAGE}#log")


def _save_settings(request: HttpRequest) -> HttpResponse:
    form = SettingsForm(request.POST)
    if form.is_valid():
        values = form.cleaned_data
        try:
            row = preferences.choose(
                request.user, values["kinds"], values["quiet_from"], values["quiet_to"], values["time_zone"]
            )
        except Rejected as error:
            field = {"time_zone": "time_zone", "quiet_hours": "quiet_to"}.get(error.code)
            form.add_error(field, f"{str(error)[:1].upper()}{str(error)[1:]}.")
        else:
            quiet = preferences.quiet_text(row)
            text = f"Saved. Quiet hours are {quiet}." if quiet else "Saved. There are no quiet hours."
            messages.success(request, text, "notification-settings")
            return redirect(PAGE)
    return _show(request, status=422, settings_form=form)


def _add_rule(request: HttpRequest) -> HttpResponse:
    form = RuleForm(notifications.channels_of(request.user), request.POST)
    if form.is_valid():
        try:
            if first_time(request):
                rule = form.add(request.user)
                messages.success(request, f"Rule {rule.rule_id} is active.", "price-rule")
        except Rejected as error:
            field = {
                "unknown_symbol": "symbols",
                "bad_threshold": "threshold",
                "bad_window": "window_minutes",
            }
            form.add_error(field.get(error.code), f"{str(error)[:1].upper()}{str(error)[1:]}.")
        else:
            return redirect(PAGE)
    return _show(request, status=422, rule_form=form)


def _rule(request: HttpRequest) -> PriceRule:
    person: Any = request.user
    rule = (
        PriceRule.objects.filter(user=person, rule_id=request.POST.get("rule", "")[:10])
        .select_related("user")
        .first()
    )
    if rule is None:
        raise Http404("you have no such rule")
    return rule


def _change_rule(change: Callable[[PriceRule], bool], done: str) -> Callable[[HttpRequest], HttpResponse]:
    """Return an action that applies `change` to the rule of the form and says what was done."""

    def act(request: HttpRequest) -> HttpResponse:
        rule = _rule(request)
        try:
            change(rule)
        except Rejected as error:
            messages.error(request, f"{str(error)[:1].upper()}{str(error)[1:]}.")
        else:
            messages.success(request, f"Rule {rule.rule_id} is {done}.")
        return redirect(PAGE)

    return act


ACTIONS: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "address": _set_address,
    "remove": _remove_address,
    "test": _test_channel,
    "settings": _save_settings,
    "rule": _add_rule,
    "pause-rule": _change_rule(rules.pause, "paused"),
    "resume-rule": _change_rule(rules.resume, "active again"),
    "delete-rule": _change_rule(rules.remove, "deleted"),
    "test-rule": _test_rule,
}
