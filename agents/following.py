"""Follow and unfollow accounts: each name of a list is checked on its own, and each gets its answer."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from django.db import connection, transaction
from django.db.models.functions import Lower

from agents.models import Agent, CtAccount, Subscription
from agents.policy import policy, post_sources
from maxxit.core.errors import InvalidInput
from maxxit.events.record import record

X_NAME = re.compile(r"[A-Za-z0-9_]{1,15}")
"""A user name of X."""
X_LETTERS = re.compile(r"[A-Za-z0-9_]+")
PROFILE_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.|mobile\.|m\.)?(?:x|twitter)\.com/@?([A-Za-z0-9_]{1,15})/?(?:(?:status/\d+/?)?[?#].*|status/\d+/?)?",
    re.IGNORECASE,
)
"""The address of an account's profile at X, or of one of its posts."""
PAGES = frozenset(
    {"compose", "explore", "hashtag", "home", "i", "intent", "jobs", "login", "messages", "notifications", "privacy",
     "search", "settings", "share", "signup", "tos"}
)  # fmt: skip
"""First parts of addresses at X that are no account."""
X_SOURCE = "x"
LOCK_NAMES = (
    "SELECT pg_advisory_xact_lock(hashtextextended('ct_account:' || name, 0)) FROM unnest(%s::text[]) AS name"
)

Outcome = Literal[
    "followed", "followed_already", "unfollowed", "not_followed", "added", "known", "unknown", "invalid_name",
    "unknown_source", "not_read", "too_many",
]  # fmt: skip
DONE: frozenset[Outcome] = frozenset(
    {"followed", "followed_already", "unfollowed", "not_followed", "added", "known"}
)
"""Outcomes after which the account stands as was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one name."""

    name: str
    """As it was given."""
    outcome: Outcome
    message: str = ""
    """What is wrong and what to do; empty where nothing is."""
    account: CtAccount | None = None

    @property
    def ok(self) -> bool:
        return self.outcome in DONE

    def as_json(self) -> dict[str, object]:
        """Return the answer for the API and `--json`."""
        return {
            "name": self.name,
            "account": self.account.x_username if self.account else None,
            "account_id": self.account.pk if self.account else None,
            "ok": self.ok,
            "outcome": self.outcome,
            "message": self.message,
        }


def clean_name(given: str) -> str:
    """Return a user name without spaces around it and without its @; of a profile's address at X its name."""
    text = given.strip()
    address = PROFILE_ADDRESS.fullmatch(text)
    if address and address[1].lower() not in PAGES:
        return address[1]
    return text.removeprefix("@")


def name_problem(name: str) -> str:
    """Return why `name` (cleaned) is no user name of X, or an empty string."""
    if X_NAME.fullmatch(name):
        return ""
    rule = "a user name of X has 1 to 15 letters, digits or underscores"
    if "/" in name or ":" in name:
        return f"{rule}: give the name, or the address of the profile, such as https://x.com/name"
    return f"{rule}; this one has {len(name)}" if X_LETTERS.fullmatch(name) else rule


def default_source(sources: Collection[str]) -> str:
    """Return the source that reads a new account where none is named: `x`, or the only one; empty where it is open."""
    return X_SOURCE if X_SOURCE in sources else next(iter(sources)) if len(sources) == 1 else ""


def check_names(names: Sequence[str], source: str = "") -> list[Answer]:
    """Say for each name whether it is known, could be added, or what is wrong with it. Changes nothing."""
    return _each(names, lambda unique: [answer for answer, _ in _examine(unique, source)])


def add_accounts(names: Sequence[str], source: str = "", *, by: str) -> list[Answer]:
    """Create the accounts that are not known yet; return an answer for each name, in the order given."""

    def add(unique: Sequence[str]) -> list[Answer]:
        _lock(unique)
        return [_added(answer, wanted, by) for answer, wanted in _examine(unique, source)]

    with transaction.atomic():
        return _each(names, add)


def follow(agent: Agent, names: Sequence[str], source: str = "", *, by: str) -> list[Answer]:
    """Let `agent` follow accounts, which are created where they are not known; return an answer for each name.

    Accounts that are not read (switched off, or of a source that is not configured) are refused, and so is each name
    beyond `max_followed_accounts` of config/customers.yaml.

    Args:
        source: the post source of new accounts; empty: see `default_source`.
    """
    with transaction.atomic():
        return _each(names, lambda unique: _follow(agent, unique, source, by))


def _follow(agent: Agent, names: Sequence[str], source: str, by: str) -> list[Answer]:
    _lock(names)
    Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
    followed = set(agent.subscriptions.values_list("account_id", flat=True))
    most = policy().max_followed_accounts
    new: list[CtAccount] = []
    answers = []
    for answer, wanted in _examine(names, source):
        if (not answer.account and wanted == NOTHING) or answer.outcome == "not_read":
            answers.append(answer)
        elif answer.account and answer.account.pk in followed:
            answers.append(replace(answer, outcome="followed_already"))
        elif len(followed) >= most:
            text = f"{agent} follows {len(followed)} accounts, and {most} are allowed: unfollow one first"
            answers.append(Answer(answer.name, "too_many", text))
        else:
            added = _added(answer, wanted, by)
            if added.account:
                followed.add(added.account.pk)
                new.append(added.account)
            answers.append(replace(added, outcome="followed"))
    Subscription.objects.bulk_create([Subscription(agent=agent, account=account) for account in new])
    if new:
        record("agent.followed", agent, by=by, accounts=[account.x_username for account in new])
    return answers


def unfollow(agent: Agent, names: Sequence[str], *, by: str) -> list[Answer]:
    """Let `agent` no longer follow accounts; return an answer for each name. Posts that counted already still count."""
    with transaction.atomic():
        return _each(names, lambda unique: _unfollow(agent, unique, by))


def _unfollow(agent: Agent, names: Sequence[str], by: str) -> list[Answer]:
    Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
    rows = agent.subscriptions.select_related("account")
    followed = {row.account.x_username.lower(): row.account for row in rows}
    answers, gone = [], []
    for name in names:
        account = followed.get(clean_name(name).lower())
        if account is None:
            answers.append(Answer(name, "not_followed", f"{agent} does not follow {clean_name(name)}"))
            continue
        gone.append(account)
        answers.append(Answer(name, "unfollowed", account=account))
    agent.subscriptions.filter(account__in=gone).delete()
    if gone:
        record("agent.unfollowed", agent, by=by, accounts=[account.x_username for account in gone])
    return answers


def _each(names: Sequence[str], step: Callable[[Sequence[str]], list[Answer]]) -> list[Answer]:
    """Run `step` on the names, each account once, and return its answers for all of them, in the order given."""
    _check_number(names)
    keys = [clean_name(name).lower() for name in names]
    first = dict(zip(reversed(keys), reversed(names), strict=True))
    unique = list(dict.fromkeys(keys))
    answers = dict(zip(unique, step([first[key] for key in unique]), strict=True))
    return [replace(answers[key], name=name) for key, name in zip(keys, names, strict=True)]


def _check_number(names: Sequence[str]) -> None:
    most = policy().max_names_per_request
    if not names:
        raise InvalidInput({"names": "give at least one account name"})
    if len(names) > most:
        raise InvalidInput({"names": f"{len(names)} names are given, {most} at a time are allowed"})


def _lock(names: Iterable[str]) -> None:
    """Let one transaction at a time create an account of one of these names, in whatever case they are written."""
    keys = sorted({clean_name(name).lower() for name in names})
    with connection.cursor() as cursor:
        cursor.execute(LOCK_NAMES, [keys])


Wanted = tuple[str, str]
"""Name and source of an account that may be created; both empty where it may not."""
NOTHING: Wanted = ("", "")


def _examine(names: Sequence[str], source: str) -> list[tuple[Answer, Wanted]]:
    """Return for each name whether it is known (with the account) or unknown, and what may be created."""
    sources = post_sources()
    keys = {clean_name(name).lower() for name in names}
    rows = CtAccount.objects.annotate(lower=Lower("x_username")).filter(lower__in=keys).order_by("-pk")
    known = {account.x_username.lower(): account for account in rows}
    return [
        _examine_known(name, account, sources)
        if (account := known.get(clean_name(name).lower()))
        else _examine_new(name, clean_name(name), source, sources)
        for name in names
    ]


def _examine_known(given: str, account: CtAccount, sources: Collection[str]) -> tuple[Answer, Wanted]:
    if not account.is_active:
        return Answer(given, "not_read", f"{account} is switched off: ask an operator", account), NOTHING
    if account.source not in sources:
        text = f"{account} is read from {account.source!r}, which is not configured: ask an operator"
        return Answer(given, "not_read", text, account), NOTHING
    return Answer(given, "known", account=account), NOTHING


def _examine_new(given: str, name: str, source: str, sources: Collection[str]) -> tuple[Answer, Wanted]:
    if problem := name_problem(name):
        return Answer(given, "invalid_name", problem), NOTHING
    chosen = source or default_source(sources)
    if chosen not in sources:
        known = ", ".join(sources) or "none: an operator sets ingest.sources in config/signals.yaml"
        text = (
            f"no post source {chosen!r}; known: {known}" if chosen else f"name a post source; known: {known}"
        )
        return Answer(given, "unknown_source", text), NOTHING
    return Answer(given, "unknown"), (name, chosen)


def _added(answer: Answer, wanted: Wanted, by: str) -> Answer:
    """Create the account of an answer that allows it; return the answer with it."""
    name, source = wanted
    if not name:
        return answer
    account = CtAccount.objects.create(x_username=name, source=source)
    record("account.added", account, by=by, source=source)
    return Answer(answer.name, "added", account=account)
