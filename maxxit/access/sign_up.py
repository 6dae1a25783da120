"""Create the account of a customer, with a password or with a wallet."""

import re
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from maxxit.access import groups, invitations
from maxxit.access.models import WalletLogin
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record

OPEN, INVITATION, CLOSED = "open", "invitation", "closed"
"""Values of the setting SIGN_UP."""
USER_NAME = re.compile(r"(?!deleted-)[A-Za-z][A-Za-z0-9._-]{2,29}")
"""ASCII, so that no two names look alike; never like an address or like the name of a deleted account."""
USER_NAME_RULE = "3 to 30 letters, digits, dots, hyphens or underscores, beginning with a letter"


def name_problem(username: str) -> str:
    """Return what is wrong with a new user name; empty for a good one."""
    if not USER_NAME.fullmatch(username):
        return f"Choose another name: {USER_NAME_RULE}."
    if get_user_model()._default_manager.filter(**{"username__iexact": username}).exists():
        return "This name is taken: choose another one."
    return ""


def refusal(invitation: str) -> str:
    """Return why no account can be created with this code, empty where one can. No code where sign-up is open."""
    if settings.SIGN_UP == CLOSED:
        return "New accounts are not accepted at the moment."
    if settings.SIGN_UP == OPEN and not invitation:
        return ""
    if not invitation:
        return "Maxxit is open by invitation: use the link of your invitation."
    return "" if invitations.is_open(invitation) else invitations.REFUSED


@transaction.atomic
def create_customer(username: str, *, password: str | None, wallet: str = "", invitation: str = "") -> Any:
    """Create the account and return its user, a member of the group `customers`.

    Args:
        password: validated by the caller; None: login with `wallet` alone.
        wallet: checksummed address whose holder has signed.
    Raises Rejected with the code of the field that is refused: invitation, username or wallet.
    """
    if problem := refusal(invitation):
        raise Rejected(problem, code="invitation")
    if problem := name_problem(username):
        raise Rejected(problem, code="username")
    if wallet and WalletLogin.objects.filter(address=wallet).exists():
        raise Rejected("This wallet belongs to an account: log in with it.", code="wallet")
    users: Any = get_user_model()._default_manager
    try:
        with transaction.atomic():
            user = users.create_user(username=username, password=password)
    except IntegrityError:  # another sign-up took the name a moment ago
        raise Rejected("This name is taken: choose another one.", code="username") from None
    user.groups.add(Group.objects.get_or_create(name=groups.CUSTOMERS)[0])
    if invitation:
        invitations.use(invitation, user)
    if wallet:
        WalletLogin.objects.create(user=user, address=wallet, linked_at=clock.now())
    record("account.created", user, by="sign-up", with_wallet=bool(wallet), invited=bool(invitation))
    return user
