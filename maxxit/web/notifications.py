"""The page Notifications: channels with a test, kinds, quiet hours, price rules and the delivery log."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.staticfiles import finders
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from maxxit.access.permissions import allowed, page_needs
from maxxit.core import time_zones
from maxxit.core.errors import InvalidInput, MaxxitError, Misconfigured, Rejected, Retryable
from maxxit.core.money import ZERO
from maxxit.market.instruments import all_instruments
from maxxit.notify import endpoints, preferences, rules, trials
from maxxit.notify.channels import CHANNELS, push
from maxxit.notify.channels.base import AddressField
from maxxit.notify.kinds import KINDS, SEVERITIES
from maxxit.notify.models import Condition, Endpoint, NotificationSettings, PriceRule
from maxxit.reports import notifications
from maxxit.web.once import first_time
from maxxit.web.sentences import sentence
from trading.chain import chains, transfers
from trading.chain.models import WatchedAddress

log = structlog.get_logger(__name__)
PAGE = "notifications"
CHANGE = "notify.change_pricerule"
"""What a member of staff needs to change their own notifications; customers need nothing."""


class AddressForm(forms.Form):
    """The address of the user on one channel, with the field that the channel describes."""

    address = forms.CharField(max_length=endpoints.MAX_ADDRESS)

    def __init__(self, channel: str, about: AddressField, data: Any = None) -> None:
        super().__init__(data, auto_id=f"id_{channel}_%s")
        field = self.fields["address"]
        field.label, field.help_text = about.label, about.help_text
        field.widget = forms.TextInput(
            attrs={
                "type": "hidden" if about.kind == "push" else about.kind,
                "placeholder": about.placeholder, "maxlength": endpoints.MAX_ADDRESS, "autocomplete": "off",
                "autocapitalize": "none", "spellcheck": "false",
            }
        )  # fmt: skip


class CodeForm(forms.Form):
    """The code that was sent to an address."""

    code = forms.CharField(max_length=endpoints.CODE_DIGITS + 2, label="Code")

    def __init__(self, channel: str, data: Any = None) -> None:
        super().__init__(data, auto_id=f"id_{channel}_%s")
        self.fields["code"].widget.attrs |= {"inputmode": "numeric", "autocomplete": "one-time-code"}


class SettingsForm(forms.Form):
    """Kinds and lowest severity of each channel, quiet hours, and the fallback channel."""

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
    fallback = forms.ChoiceField(
        label="If a channel fails", required=False, help_text="Where a message goes that a channel gave up."
    )

    def __init__(
        self,
        channels: list[notifications.ChannelState],
        row: NotificationSettings,
        data: Any = None,
        **given: Any,
    ) -> None:
        super().__init__(data, **given)
        self.channels = [one for one in channels if one.usable and one.field]
        fallback: Any = self.fields["fallback"]
        fallback.choices = [("", "The inbox alone"), *((one.name, one.title) for one in self.channels)]
        for one in self.channels:
            choice = row.by_channel.get(one.name, {})
            self.fields[f"kinds_{one.name}"] = forms.MultipleChoiceField(
                label=one.title,
                required=False,
                choices=[(name, kind.title) for name, kind in KINDS.items()],
                initial=choice.get("kinds", row.kinds),
                widget=forms.CheckboxSelectMultiple,
            )
            self.fields[f"severity_{one.name}"] = forms.ChoiceField(
                label=f"{one.title}: from severity",
                required=False,
                choices=[(name, name) for name in SEVERITIES],
                initial=choice.get("severity", SEVERITIES[0]),
            )

    @property
    def by_channel(self) -> dict[str, Any]:
        """Return the choices for each channel, of a valid form."""
        values = self.cleaned_data
        return {
            one.name: {
                "kinds": values[f"kinds_{one.name}"],
                "severity": values[f"severity_{one.name}"] or SEVERITIES[0],
            }
            for one in self.channels
        }

    @property
    def matrix(self) -> list[tuple[str, list[tuple[str, Any]]]]:
        """Return each kind with (channel, box) for each channel."""
        columns = [(one.title, list(self[f"kinds_{one.name}"])) for one in self.channels]
        return [
            (kind.title, [(title, boxes[place]) for title, boxes in columns])
            for place, kind in enumerate(KINDS.values())
        ]

    @property
    def severities(self) -> list[Any]:
        """Return the field of the lowest severity of each channel."""
        return [self[f"severity_{one.name}"] for one in self.channels]


SIMPLE = [(kind, label) for kind, label in Condition.choices if kind not in rules.COMPOSITE]
"""Conditions that the form offers; it combines two, the API and the command up to five."""


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
    condition = forms.ChoiceField(label="When", choices=SIMPLE)
    threshold = forms.DecimalField(
        label="USD, or percent",
        required=False,
        max_digits=38,
        decimal_places=18,
        help_text="Percent of a change or a funding rate, basis points of a spread; empty for any new price.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    window_minutes = forms.IntegerField(
        label="Within minutes",
        required=False,
        min_value=1,
        max_value=rules.LONGEST_WINDOW // timedelta(minutes=1),
        help_text="For changes by percent; 60 where it is empty, 1440 for a day.",
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    combine = forms.ChoiceField(
        label="And", required=False, choices=[("", "nothing else"), ("all", "also"), ("any_of", "or instead")]
    )
    condition_2 = forms.ChoiceField(
        label="Second condition", required=False, choices=[one for one in SIMPLE if one[0] != Condition.ANY]
    )
    threshold_2 = forms.DecimalField(
        label="USD, or percent",
        required=False,
        max_digits=38,
        decimal_places=18,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    window_minutes_2 = forms.IntegerField(
        label="Within minutes",
        required=False,
        min_value=1,
        max_value=rules.LONGEST_WINDOW // timedelta(minutes=1),
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
        parts = [
            rules.Part(
                values[f"condition{place}"],
                values[f"threshold{place}"],
                timedelta(minutes=values[f"window_minutes{place}"] or 60),
            )
            for place in ("", "_2")
        ]
        if values["combine"]:
            return rules.add(person, names, values["combine"], channel=values["channel"], parts=parts)
        first = parts[0]
        return rules.add(
            person,
            names,
            first.condition,
            threshold=first.threshold,
            window=first.window,
            channel=values["channel"],
        )


class WatchedForm(forms.Form):
    """An address whose transfers the user wants to hear of."""

    chain = forms.ChoiceField(label="Chain")
    address = forms.CharField(
        label="Address to watch",
        max_length=42,
        help_text="As an explorer shows it, with capitals.",
        widget=forms.TextInput(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "none",
                "spellcheck": "false",
                "placeholder": "0x…",
            }
        ),
    )
    label = forms.CharField(
        label="Name in messages",
        required=False,
        max_length=transfers.MAX_LABEL,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    min_usd = forms.DecimalField(
        label="From USD",
        required=False,
        max_digits=20,
        decimal_places=2,
        help_text="Smaller transfers are not reported; empty for all.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        field: Any = self.fields["chain"]
        field.choices = [(name, chains.title(one.chain_id)) for name, one in transfers.watchable().items()]

    def add(self, person: Any) -> WatchedAddress:
        """Watch it. Raises InvalidInput with the field."""
        values = self.cleaned_data
        return transfers.add_own(
            person,
            values["chain"],
            values["address"],
            label=values["label"],
            min_usd=values["min_usd"] or ZERO,
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
    chosen = {
        "quiet_from": row.quiet_from,
        "quiet_to": row.quiet_to,
        "time_zone": zone,
        "fallback": row.fallback,
    }
    refused: tuple[str, AddressForm] = sent.pop("address_form", ("", None))
    wrong: tuple[str, CodeForm] = sent.pop("code_form", ("", None))
    cards = [
        {
            "state": one,
            "form": (refused[1] if refused[0] == one.name else AddressForm(one.name, one.field))
            if one.field and one.offered
            else None,
            "code": (wrong[1] if wrong[0] == one.name else CodeForm(one.name))
            if one.waits_for_code
            else None,
        }
        for one in channels
    ]
    context = {
        "cards": cards,
        "settings_form": SettingsForm(channels, row, initial=chosen),
        "snoozed_until": preferences.snoozed(row),
        "rule_form": RuleForm(channels),
        "rules": [(rule, rules.condition_text(rule)) for rule in notifications.rules_of(person)],
        "watched": [(row, chains.title(row.chain_id)) for row in transfers.of_user(person)],
        "watched_form": WatchedForm(),
        "symbols": sorted(all_instruments()),
        "zones": time_zones.names(),
        "push_key": _push_key(channels),
    }
    return render(request, "web/notifications.html", context | _log(request) | sent, status=status)


def _push_key(channels: list[notifications.ChannelState]) -> str:
    """Return the key that browsers subscribe with; empty where push is not offered."""
    if not any(one.offered and one.field and one.field.kind == "push" for one in channels):
        return ""
    try:
        return push.public_key()
    except Misconfigured as error:
        log.error("push_is_not_set_up", reason=str(error))
        return ""


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
    about = CHANNELS.open(channel).form
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
    except Misconfigured as error:
        log.error("addresses_cannot_be_stored", reason=str(error))
        form.add_error("address", "This installation cannot store addresses yet: ask its operator.")
        return _show(request, status=422, address_form=(channel, form))
    return _show(request, new=endpoint, new_title=CHANNELS.open(channel).title, secret=_secret(endpoint))


def _confirm_address(request: HttpRequest) -> HttpResponse:
    channel = _channel(request)
    form = CodeForm(channel, request.POST)
    if form.is_valid():
        try:
            endpoints.confirm(request.user, channel, form.cleaned_data["code"])  # type: ignore[arg-type]
        except Rejected as error:
            form.add_error("code", f"{str(error)[:1].upper()}{str(error)[1:]}.")
        else:
            messages.success(
                request, f"The address of the channel {CHANNELS.open(channel).title} is confirmed."
            )
            return redirect(PAGE)
    return _show(request, status=422, code_form=(channel, form))


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
    before = preferences.of(request.user)
    form = SettingsForm(notifications.channels_of(request.user), before, request.POST)
    if form.is_valid():
        values = form.cleaned_data
        try:
            row = preferences.choose(
                request.user,
                before.kinds,
                values["quiet_from"],
                values["quiet_to"],
                values["time_zone"],
                by_channel=before.by_channel | form.by_channel,
                fallback=values["fallback"],
            )
        except Rejected as error:
            field = {"time_zone": "time_zone", "quiet_hours": "quiet_to"}.get(error.code)
            form.add_error(field, sentence(error))
        else:
            quiet = preferences.quiet_text(row)
            text = f"Saved. Quiet hours are {quiet}." if quiet else "Saved. There are no quiet hours."
            messages.success(request, text, "notification-settings")
            return redirect(PAGE)
    return _show(request, status=422, settings_form=form)


def _snooze(request: HttpRequest) -> HttpResponse:
    try:
        row = preferences.snooze(request.user, int(request.POST.get("hours", "")))
    except ValueError:
        raise Http404("there is no such form") from None
    except Rejected as error:
        messages.error(request, f"{str(error)[:1].upper()}{str(error)[1:]}.")
    else:
        done = (
            "Only critical messages are sent until the snooze ends."
            if row.snoozed_until
            else "The snooze is over."
        )
        messages.success(request, done)
    return redirect(PAGE)


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
            form.add_error(field.get(error.code), sentence(error))
        else:
            return redirect(PAGE)
    return _show(request, status=422, rule_form=form)


def _watch_address(request: HttpRequest) -> HttpResponse:
    form = WatchedForm(request.POST)
    if form.is_valid():
        try:
            if first_time(request):
                row = form.add(request.user)
                messages.success(request, f"Transfers of {row} are reported from now on.", "watched-address")
        except InvalidInput as error:
            for field, text in error.problems.items():
                form.add_error(field, sentence(text))
        else:
            return redirect(PAGE)
    return _show(request, status=422, watched_form=form)


def _end_watch(request: HttpRequest) -> HttpResponse:
    number = request.POST.get("watched", "")
    own = transfers.of_user(request.user)
    row = (
        own.filter(pk=number).first() if number.isascii() and number.isdigit() and len(number) < 19 else None
    )
    if row is None:
        raise Http404("you watch no such address")
    try:
        transfers.remove_own(row)
    except Rejected as error:
        messages.error(request, sentence(error))
    else:
        messages.success(request, f"Transfers of {row} are reported no more.")
    return redirect(PAGE)


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
            messages.error(request, sentence(error))
        else:
            messages.success(request, f"Rule {rule.rule_id} is {done}.")
        return redirect(PAGE)

    return act


ACTIONS: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "address": _set_address,
    "confirm": _confirm_address,
    "remove": _remove_address,
    "test": _test_channel,
    "settings": _save_settings,
    "snooze": _snooze,
    "rule": _add_rule,
    "pause-rule": _change_rule(rules.pause, "paused"),
    "resume-rule": _change_rule(rules.resume, "active again"),
    "delete-rule": _change_rule(rules.remove, "deleted"),
    "test-rule": _test_rule,
    "watch": _watch_address,
    "end-watch": _end_watch,
}


@csrf_exempt  # mail programs post from their own servers; the token is the permission
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """End the digest, or remove the address, that an unsubscribe link names.

    By POST alone, because mail scanners open every link.
    """
    endpoint, kind = endpoints.unsubscribed(token)
    context = {"endpoint": endpoint, "kind": KINDS[kind].title if kind in KINDS else ""}
    if request.method == "POST" and endpoint is not None:
        if kind:
            preferences.end_kind(endpoint.user, endpoint.channel, kind)
        else:
            endpoints.forget(endpoint.user, endpoint.channel, why="unsubscribed")
        return render(request, "web/unsubscribe.html", context | {"done": True})
    return render(request, "web/unsubscribe.html", context, status=200 if endpoint else 404)


@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """Serve the script that shows notifications; at the top, so that its scope is every page."""
    found = finders.find("web/push-worker.js")
    response = HttpResponse(Path(str(found)).read_text(), content_type="text/javascript")
    response.headers["Cache-Control"] = "no-cache"
    return response
