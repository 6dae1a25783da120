"""Find rows by what a person has at hand: a token, an account, an agent, an address, an id or a transaction."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse

from agents.models import Agent, CtAccount, Deployment
from maxxit.access.rows import Person, visible
from maxxit.market.instruments import all_instruments
from maxxit.reports.activity.feed import Filters
from maxxit.reports.activity.rows import url_of
from positions.models import Position
from signals_app.models import CtPost, Signal
from trading.chain.models import ChainAttempt
from trading.models import Order

MOST = 20
"""Results of each kind."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that was found."""

    kind: str
    text: str
    url: str


def search(text: str, person: Person) -> list[Hit]:
    """Return what `text` names among the rows that `person` may see: exact names and ids, no parts of words."""
    text = text.strip()
    if not text or len(text) > 100:
        return []
    hits = []
    if (symbol := text.lstrip("$#").upper()) in all_instruments():
        hits.append(Hit("token", symbol, url_of(Filters(token=symbol))))
    for account in CtAccount.objects.filter(x_username__iexact=text.lstrip("@"))[:MOST]:
        hits.append(Hit("account", str(account), reverse("account", args=[account.x_username])))
        hits.append(Hit("posts of", str(account), url_of(Filters(account=account))))
    for agent in visible(Agent.objects.filter(name__iexact=text), person)[:MOST]:
        hits.append(Hit("agent", agent.name, url_of(Filters(agent=agent))))
    return hits + _by_account(text, person) + _by_id(text, person) + _by_transaction(text, person)


def _by_account(text: str, person: Person) -> list[Hit]:
    """Find deployments by the account that they trade from, its Safe or its owner's wallet."""
    same = Q(account__iexact=text) | Q(safe_wallet__iexact=text) | Q(user_wallet__iexact=text)
    rows = visible(Deployment.objects.filter(same).select_related("agent"), person).order_by("pk")
    return [Hit("account of", str(row), url_of(Filters(agent=row.agent))) for row in rows[:MOST]]


def _by_id(text: str, person: Person) -> list[Hit]:
    """Find rows by our id, the provider's id of a post, or a correlation id."""
    if re.fullmatch(r"[0-9a-fA-F-]{32,36}", text):
        try:
            correlation = UUID(text)
        except ValueError:
            return []
        known = visible(Signal.objects.all(), person).filter(correlation_id=correlation).exists()
        known = known or visible(CtPost.objects.all(), person).filter(correlation_id=correlation).exists()
        return [Hit("trace", str(correlation), reverse("chain", args=[correlation]))] if known else []
    if not text.isdecimal():
        return []
    hits = []
    post = visible(CtPost.objects.select_related("account"), person)
    posts = post.filter(Q(post_id=text) | Q(pk=text)) if len(text) < 19 else post.filter(post_id=text)
    for row in posts[:MOST]:
        hits.append(Hit("post", str(row), reverse("chain", args=[row.correlation_id])))
    if len(text) > 18:
        return hits
    for kind, model in (("trade", Position), ("signal", Signal), ("order", Order)):
        rows: QuerySet[Any] = visible(model._default_manager.all(), person)
        if (found := rows.filter(pk=text).first()) is not None:
            hits.append(Hit(kind, str(found), _page_of(found)))
    return hits


def _page_of(row: Any) -> str:
    if isinstance(row, Position):
        return reverse("trade", args=[row.pk])
    if isinstance(row, Signal):
        return reverse("signal", args=[row.pk])
    return reverse("chain", args=[row.correlation_id])


def _by_transaction(text: str, person: Person) -> list[Hit]:
    """Find the trade of a transaction on a blockchain, by any of its hashes."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", text):
        return []
    sent = ChainAttempt.objects.filter(hash=text.lower()).select_related("transaction").first()
    if sent is None:
        return []
    intent = sent.transaction.idempotency_key
    order = visible(Order.objects.filter(client_order_id=intent), person).first()
    if order is None:
        return []
    position = Position.objects.filter(Q(entry_order=order.closes_id or order.pk)).first()
    return [Hit("transaction", f"of {position or order}", _page_of(position or order))]
