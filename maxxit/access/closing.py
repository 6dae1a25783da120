"""Close a customer's account: what stands in the way, and what is deleted, anonymised and kept."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from agents.lifecycle import change_state
from agents.models import Agent, Deployment
from agents.states import AgentState, DeploymentState
from maxxit.access import sessions
from maxxit.access.models import ApiKey, Invitation, LoginAttempts, UserSettings, WalletLogin
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.notify.models import Endpoint, NotificationSettings, PriceRule
from positions.models import Position
from trading.chain import transfers
from trading.models import Order
from trading.states import IN_FLIGHT, OrderState

LISTED = 10
"""Obstacles of one kind that are listed one by one."""


def obstacles(user: Any) -> list[str]:
    """Return what stands in the way of closing the account, each with what to do; empty when nothing does."""
    if user.is_staff or user.is_superuser:
        return ["Staff accounts are closed by a superuser in the admin."]
    mine = Deployment.objects.filter(owner=user).select_related("agent")
    working = mine.filter(state__in=[DeploymentState.ACTIVE, DeploymentState.PAUSED])
    found = [f"{row} is {row.state}: close its positions, then revoke it." for row in working[:LISTED]]
    found += [
        f"{row.quantity.normalize():f} {row.symbol} is held by {row.deployment}: close this position first."
        for row in Position.objects.filter(deployment__in=mine)
        .exclude(state="closed")
        .select_related("deployment__agent")[:LISTED]
    ]
    under_way = Order.objects.filter(deployment__in=mine, state__in=[*IN_FLIGHT, OrderState.PLANNED]).count()
    if under_way:
        found.append(f"{under_way} orders are under way: wait until they have ended.")
    found += [
        f"The trading module is still enabled in the Safe {deployment.safe_wallet}: revoke it there with a signature "
        "of the Safe's owners."
        for deployment in mine.filter(module_enabled=True)[:LISTED]
    ]
    return found


@transaction.atomic
def close(user: Any) -> None:
    """Deactivate and anonymise the account. Raises Rejected while something stands in the way.

    Deleted: wallets, sessions, second factor, addresses of channels, watched addresses, settings; API keys are revoked,
    price rules stop, and agents are paused, except those that other owners' deployments trade with.
    Kept without the name: agents, deployments, orders, positions and the ledger, which the books need.
    """
    row = get_user_model()._default_manager.select_for_update().get(pk=user.pk)
    person: Any = row
    if problems := obstacles(person):
        raise Rejected(" ".join(problems), code="obstacles")
    name = person.get_username()
    ApiKey.objects.filter(owner=person, revoked_at=None).update(revoked_at=clock.now())
    for model in (WalletLogin, UserSettings, Endpoint, NotificationSettings, TOTPDevice, StaticDevice):
        model._default_manager.filter(user=person).delete()
    PriceRule.objects.filter(user=person, removed_at=None).update(active=False, removed_at=clock.now())
    for watched in transfers.of_user(person).filter(private=True):
        transfers.remove(watched)
    _pause_agents(person)
    Invitation.objects.filter(used_by=person).update(email="")
    LoginAttempts.objects.filter(subject=f"account:{name}").delete()
    sessions.end(person)
    person.username = f"deleted-{person.pk}"
    person.first_name = person.last_name = person.email = ""
    person.is_active = False
    person.set_unusable_password()
    person.save()
    person.groups.clear()
    person.user_permissions.clear()
    record("account.closed", person)


def _pause_agents(person: Any) -> None:
    """Pause the agents of a closed account that no started deployment of another owner trades with."""
    started = Deployment.objects.filter(state__in=[DeploymentState.ACTIVE, DeploymentState.PAUSED])
    used = started.exclude(owner=person).values("agent")
    for agent in Agent.objects.filter(owner=person, state=AgentState.ACTIVE).exclude(pk__in=used):
        change_state(agent, AgentState.PAUSED, by=f"deleted-{person.pk}", why="account closed")
