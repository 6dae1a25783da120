"""Test messages: sent on the same way as real ones, so that the delivery log shows what became of them."""

from django.contrib.auth.models import AbstractBaseUser

from maxxit.core.money import plain
from maxxit.notify import endpoints, kinds, rules
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Alert, PriceRule

NOTIFICATION, RULE = kinds.TESTS[:2]


def send_to_channel(user: AbstractBaseUser, channel: str) -> Alert:
    """Queue a test message to `user` on a channel. Raises Rejected without an address there, or after too many."""
    endpoints.require(user, channel)
    text = CHANNELS.open(channel).test_text(user.get_username())
    row = endpoints.current(user, channel) or user
    return endpoints.queue_message(user, channel, NOTIFICATION, row, text)


def send_of_rule(rule: PriceRule) -> Alert:
    """Queue a test message of a rule on its channel, which says whether it matches now.

    Raises Rejected as above, and for a deleted rule.
    """
    rules.require_kept(rule)
    endpoints.require(rule.user, rule.channel)
    hits = rules.holds_now(rule)
    now = ", ".join(f"{hit.symbol} is at {plain(hit.price)} USD" for hit in hits[:5])
    names = ", ".join(rule.symbols)
    text = f"Test of rule {rule.rule_id}, {names} {rules.condition_text(rule)}: " + (
        f"it matches now, {now}" if hits else "it does not match at the present quotes"
    )
    return endpoints.queue_message(rule.user, rule.channel, RULE, rule, text)
