"""Differences between ledger and venues, each with its cause and a proposed fix, which an operator can apply."""

from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from django.db.models import Max

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO, plain
from maxxit.events.record import record
from trading import ledger, reconcile
from trading.ledger import account_of
from trading.models import JournalKind, LedgerEntry, Order
from trading.reconciliation.holdings import MEANINGS, Origin, Seen, origin_of
from trading.states import IN_FLIGHT

LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """One asset of one account that differs."""

    venue: str
    account: str
    asset: str
    amount: Decimal
    """Venue minus ledger, whole units."""
    origin: Origin

    @property
    def cause(self) -> str:
        """Return whether the account holds `more` or `less` than is booked."""
        return "more" if self.amount > 0 else "less"

    @property
    def likely(self) -> str:
        """Return in words what explains it."""
        return MEANINGS[self.origin].text

    @property
    def fix(self) -> str:
        """Return the proposed fix in words."""
        return MEANINGS[self.origin].fix

    def as_json(self) -> dict[str, str]:
        """Return it for JSON; the amount as text in whole units."""
        return {
            "venue": self.venue, "account": self.account, "asset": self.asset, "amount": plain(self.amount),
            "cause": self.cause, "likely": self.likely, "fix": self.fix,
        }  # fmt: skip


@dataclass(frozen=True)
class Differences:
    """The result of comparing now."""

    compared: int
    """Accounts that were compared."""
    rows: list[Difference]
    unread: list[tuple[str, str]]
    """(venue, account) that could not be read."""
    under_way: int
    """Accounts with orders under way: what those may change is not compared."""

    @property
    def ok(self) -> bool:
        """Return whether everything could be read and agrees."""
        return not (self.rows or self.unread)

    def as_json(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "ok": self.ok,
            "compared": self.compared,
            "under_way": self.under_way,
            "differences": [row.as_json() for row in self.rows],
            "unread": [{"venue": venue, "account": account} for venue, account in self.unread],
        }


def compare(account: str = "") -> Differences:
    """Compare every account, or one, with its venue now, except what orders under way may change.

    Owners' transfers that the venue identifies are booked, as the job `reconcile` does.
    """
    only = None
    if account:
        of_account = Deployment.objects.filter(account=account).order_by()
        only = set(of_account.values_list("agent__venue", "account").distinct())
    settled = reconcile.compare_settled(only)
    rows = [
        Difference(
            *key, asset, amount, origin_of(asset, Seen(ZERO, settled.booked[key].get(asset, ZERO), amount))
        )
        for key, assets in sorted(settled.differences.items())
        for asset, amount in sorted(assets.items())
    ]
    under_way = Order.objects.filter(state__in=IN_FLIGHT).order_by().values("account").distinct().count()
    unread = sorted(settled.unread)
    return Differences(sum(settled.accounts.values()), rows, unread, under_way)


def apply(account: str, asset: str, amount: Decimal, *, by: str, reason: str) -> Difference:
    """Book a difference as a transfer by the owner, after comparing again; record who and why.

    Args:
        amount: venue minus ledger as it was shown, whole units.

    Raises:
        Rejected: no reason, or the account does not differ by this amount any more.
    """
    why = checked_reason(reason)
    newest = newest_line(account, asset)
    difference = present(account, asset, amount)
    _book(difference, newest, by=by, reason=why)
    return difference


def checked_reason(reason: str) -> str:
    """Return the reason without blanks around it. Raises Rejected where it is too short or too long."""
    why = reason.strip()
    if not 3 <= len(why) <= LONGEST_REASON:
        raise Rejected(
            f"booking a difference needs a reason of 3 to {LONGEST_REASON} characters", code="reason_missing"
        )
    return why


def present(account: str, asset: str, amount: Decimal) -> Difference:
    """Compare the account again and return its difference. Raises Rejected where it is not `amount` any more."""
    rows = [row for row in compare(account).rows if (row.account, row.asset) == (account, asset)]
    if not rows or rows[0].amount != amount:
        now = plain(rows[0].amount) if rows else "0"
        raise Rejected(
            f"{account} differs by {now} {asset} now, not by {plain(amount)}: compare again", code="changed"
        )
    return rows[0]


def newest_line(account: str, asset: str) -> int | None:
    """Return the id of the newest ledger line of an account's asset."""
    lines = LedgerEntry.objects.filter(deployment__account=account, asset=asset)
    newest: int | None = lines.aggregate(newest=Max("pk"))["newest"]
    return newest


@transaction.atomic
def _book(difference: Difference, newest: int | None, *, by: str, reason: str) -> None:
    deployment = lock_deployment(difference, newest)
    event = record(
        "reconcile.applied", deployment, by=by, reason=reason, account=difference.account, asset=difference.asset,
        amount=plain(difference.amount), cause=difference.cause,
    )  # fmt: skip
    move = ledger.external_move(account_of(deployment.pk), difference.asset, difference.amount)
    ledger.post(JournalKind.UNEXPLAINED, f"operator:{event.pk}", [move])


def lock_deployment(difference: Difference, newest: int | None) -> Deployment:
    """Return the deployment to book to: the active one of the account, else the newest; locked.

    Args:
        newest: the account's newest ledger line of the asset before it was compared.

    Raises:
        Rejected: no deployment trades from the account, or the asset was booked since it was compared.
    """
    rows = Deployment.objects.select_for_update(no_key=True).filter(
        account=difference.account, agent__venue=difference.venue
    )
    standing = list(rows.exclude(state=DeploymentState.DRAFT).order_by("pk"))
    if not standing:
        raise Rejected(f"no deployment trades from {difference.account}", code="unknown_account")
    if newest_line(difference.account, difference.asset) != newest:
        raise Rejected(
            f"{difference.account} had {difference.asset} booked meanwhile: compare again", code="changed"
        )
    active = [row for row in standing if row.state == DeploymentState.ACTIVE]
    return (active or standing)[-1]
