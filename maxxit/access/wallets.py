"""Log in, sign up and link a wallet by signing a message (EIP-4361).

The server writes the message and keeps its nonce in the cache for five minutes. An answer takes the nonce out, so that
it works once, and every field of the signed message must be what was asked for.
"""

import secrets
import string
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import IntegrityError, transaction
from eth_utils.address import is_address, to_checksum_address

from maxxit.access import siwe
from maxxit.access.models import WalletLogin
from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable
from maxxit.events.record import record
from trading.chain import chains
from trading.venues.safe.plans import signer_of

log = structlog.get_logger(__name__)

VALID_FOR = timedelta(minutes=5)
SIGN_IN, SIGN_UP, LINK = "sign-in", "sign-up", "link"
PURPOSES = (SIGN_IN, SIGN_UP, LINK)
NONCE_LENGTH = 20
ETHEREUM = 1
"""Chain id of Ethereum's main network."""


@dataclass(frozen=True)
class Ask:
    """What a message is asked for: the site, the browser and the purpose that its answer must come from."""

    domain: str
    """Host and port of the page, as in the browser's address bar."""
    uri: str
    browser: str
    """A secret of the browser (its CSRF cookie), so that another browser cannot use the nonce."""
    purpose: str
    username: str = ""
    """Of the account that is created or that the wallet is linked to."""

    @property
    def statement(self) -> str:
        """Return the sentence that the wallet shows."""
        name = quote(self.username, safe="@+._-")
        return {
            SIGN_IN: "Log in to Maxxit.",
            SIGN_UP: f"Create the Maxxit account {name}.",
            LINK: f"Link this wallet to the Maxxit account {name}.",
        }[self.purpose]


def accepted_chains() -> dict[int, str]:
    """Return chain id -> name of the chains on which a wallet may be when it signs.

    Those of config/chains.yaml, in production without the local one; Ethereum where that leaves none.
    """
    known = {
        stanza.chain_id: chains.title(stanza.chain_id)
        for stanza in chains.all_chains().values()
        if not (settings.PRODUCTION and stanza.chain_id == chains.LOCAL_CHAIN_ID)
    }
    return known or {ETHEREUM: "Ethereum"}


def message(ask: Ask, address: str, chain_id: int) -> str:
    """Return the text to sign, whose nonce works once within five minutes.

    Raises Rejected for a wrong address or chain, Retryable while the cache is down.
    """
    if not is_address(address):
        raise Rejected("your wallet gave no Ethereum address: choose an account in it", code="address")
    if chain_id not in accepted_chains():
        wanted = ", ".join(f"{name} ({number})" for number, name in accepted_chains().items())
        raise Rejected(f"your wallet is on chain {chain_id}: switch it to {wanted}", code="chain")
    now, nonce = clock.now(), _new_nonce()
    # to the millisecond, as the message writes it
    issued = now.replace(microsecond=now.microsecond // 1000 * 1000)
    wanted_fields = siwe.SignInMessage(
        domain=ask.domain,
        address=to_checksum_address(address),
        statement=ask.statement,
        uri=ask.uri,
        chain_id=chain_id,
        nonce=nonce,
        issued_at=issued,
        expiration_time=issued + VALID_FOR,
    )
    text = wanted_fields.text()
    _cached("set", f"siwe:{nonce}", {"text": text, "browser": ask.browser}, VALID_FOR.seconds)
    return text


def signer(ask: Ask, text: str, signature: str) -> str:
    """Return the checksummed address that signed the message of `ask`; the nonce is used up.

    Raises Rejected when the message is not the one that was asked for, has expired or was not signed by its address.
    """
    signed = siwe.parse(text)
    kept = _take(signed.nonce)
    siwe.check_times(signed, clock.now())
    if kept is None:
        raise Rejected("this message was used before or has expired: sign a new one", code="nonce")
    if not secrets.compare_digest(kept["browser"], ask.browser):
        raise Rejected("this message was made for another browser: sign a new one", code="nonce")
    wanted = siwe.parse(kept["text"])
    for field, given, expected in (
        ("domain", signed.domain, ask.domain),
        ("URI", signed.uri, ask.uri),
        ("statement", signed.statement, ask.statement),
        ("chain id", signed.chain_id, wanted.chain_id),
        ("address", signed.address, wanted.address),
        ("times", (signed.issued_at, signed.expiration_time), (wanted.issued_at, wanted.expiration_time)),
    ):
        if given != expected:
            raise Rejected(f"the {field} of the signed message is not the one of this page", code="message")
    if signed != wanted:
        raise Rejected("the signed message is not the one of this page", code="message")
    if signer_of(text, signature) != signed.address:
        raise Rejected(
            f"the signature is not of {signed.address}: choose this account in your wallet and sign again",
            code="signature",
        )
    return signed.address


def user_of(address: str) -> Any:
    """Return the active user who logs in with this wallet, or None."""
    users = get_user_model()._default_manager
    return users.filter(**{"wallets__address": address, "is_active": True}).first()


def note_login(address: str) -> None:
    """Save when the wallet was used."""
    WalletLogin.objects.filter(address=address).update(last_used=clock.now())


def link(user: Any, address: str) -> WalletLogin:
    """Let the holder of `address` log in as `user`. Raises Rejected where another account has this wallet."""
    try:
        with transaction.atomic():
            row, created = WalletLogin.objects.get_or_create(
                address=address, defaults={"user": user, "linked_at": clock.now()}
            )
            if created:
                record("wallet.linked", row, by=user.get_username(), address=address)
    except IntegrityError:  # linked by another request a moment ago
        row = WalletLogin.objects.get(address=address)
    if row.user_id != user.pk:
        raise Rejected("this wallet belongs to another account: unlink it there first", code="wallet")
    return row


@transaction.atomic
def unlink(user: Any, pk: int) -> str:
    """Remove a wallet of `user` and return its address.

    Raises Rejected for an unknown one, and for the last way to log in.
    """
    rows = list(WalletLogin.objects.select_for_update().filter(user=user))
    row = next((row for row in rows if row.pk == pk), None)
    if row is None:
        raise Rejected("this wallet is not linked to your account", code="wallet")
    if len(rows) == 1 and not user.has_usable_password():
        raise Rejected(
            "this wallet is the only way to log in: set a password or link another wallet first",
            code="last_login",
        )
    record("wallet.unlinked", row, by=user.get_username(), address=row.address)
    row.delete()
    return row.address


def _new_nonce() -> str:
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(NONCE_LENGTH))


def _take(nonce: str) -> dict[str, str] | None:
    """Return what is kept under the nonce and remove it; None when there is nothing or another answer took it."""
    kept: dict[str, str] | None = _cached("get", f"siwe:{nonce}")
    return kept if kept is not None and _cached("delete", f"siwe:{nonce}") else None


def _cached(what: str, *arguments: Any) -> Any:
    try:
        return getattr(cache, what)(*arguments)
    except Exception as error:  # any error of the cache backend
        log.warning("nonce_not_kept", error=str(error))
        raise Retryable(
            "logging in with a wallet does not work at the moment: try again in a minute"
        ) from None
