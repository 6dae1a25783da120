"""Logging in, signing up and linking with a wallet (EIP-4361): the two calls of `wallet.js`.

The first returns the message to sign, the second takes the signature. Both answer JSON; an error has `code`, `message`
and, where a field of the page is meant, `field`.
"""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest
from django.shortcuts import resolve_url
from django.utils.crypto import salted_hmac
from django.utils.http import url_has_allowed_host_and_scheme
from django_otp import devices_for_user, match_token
from pydantic import Field

from maxxit.access import attempts, sign_up, time_zones, wallets
from maxxit.access.auth import address, count
from maxxit.core.errors import Rejected
from maxxit.web.account import BACKEND, welcome
from maxxit.web.json_calls import JsonBody, json_call

PER_MINUTE = 30
"""Messages to sign per address."""


class _Body(JsonBody):
    purpose: str = Field(pattern="|".join(f"^{name}$" for name in wallets.PURPOSES))
    username: str = Field(default="", max_length=150)
    invitation: str = Field(default="", max_length=100)


class MessageBody(_Body):
    """What a message is asked for."""

    address: str = Field(max_length=42)
    chain_id: int = Field(ge=1, le=2**63 - 1)


class AnswerBody(_Body):
    """The signed message."""

    message: str = Field(max_length=4_000)
    signature: str = Field(max_length=200)
    otp_token: str = Field(default="", max_length=20)
    time_zone: str = Field(default="", max_length=60)
    next: str = Field(default="", max_length=2_000)


@json_call(MessageBody)
def message(request: HttpRequest, body: MessageBody) -> dict[str, Any]:
    """Return the message to sign."""
    if count(f"wallet:{address(request)}") > PER_MINUTE:
        raise Rejected("too many tries from your network: wait a minute", code="limited")
    ask = _ask(request, body)
    if ask.purpose == wallets.SIGN_UP:
        _check_sign_up(request, body)
    return {"message": wallets.message(ask, body.address, body.chain_id)}


@json_call(AnswerBody)
def answer(request: HttpRequest, body: AnswerBody) -> dict[str, Any]:
    """Check the signed message and do what it was asked for; return the path of the next page."""
    ask = _ask(request, body)
    counted = attempts.address_subjects(address(request))
    if attempts.begin(counted):
        raise Rejected("too many failed attempts from your network: try again later", code="limited")
    try:
        signer = wallets.signer(ask, body.message, body.signature)
        done = {wallets.SIGN_IN: _log_in, wallets.SIGN_UP: _sign_up, wallets.LINK: _link}[ask.purpose](
            request, body, signer
        )
    except Rejected as error:
        if error.code in ("message", "nonce", "signature", "otp_token"):
            attempts.failed(counted)
        else:  # an honest answer that leads nowhere
            attempts.succeeded(counted)
        raise
    attempts.succeeded(counted)
    return done


def _ask(request: HttpRequest, body: _Body) -> wallets.Ask:
    """Return what the message must be for: this site, this browser, this purpose and account."""
    username = body.username
    if body.purpose == wallets.LINK:
        if not request.user.is_authenticated:
            raise Rejected("your session has ended: log in again", code="anonymous")
        username = request.user.get_username()
    elif body.purpose == wallets.SIGN_IN:
        username = ""
    return wallets.Ask(
        domain=request.get_host(),
        uri=f"{request.scheme}://{request.get_host()}",
        browser=salted_hmac("maxxit.wallet", request.META.get("CSRF_COOKIE", "")).hexdigest(),
        purpose=body.purpose,
        username=username,
    )


def _check_sign_up(request: HttpRequest, body: _Body) -> None:
    """Refuse before anything is signed what sign-up would refuse after it; limited, because it tells taken names."""
    if attempts.begin(attempts.sign_up_subjects(address(request))):
        raise Rejected("too many sign-ups from your network: try again later", code="limited")
    if problem := sign_up.refusal(body.invitation):
        raise Rejected(problem, code="invitation")
    if problem := sign_up.name_problem(body.username):
        raise Rejected(problem, code="username")


def _log_in(request: HttpRequest, body: AnswerBody, signer: str) -> dict[str, Any]:
    user = wallets.user_of(signer)
    if user is None:
        raise Rejected(
            "no account has this wallet: sign up with it, or log in with your password and link it in your settings",
            code="no_account",
        )
    if any(devices_for_user(user)):
        counted = attempts.account_subjects(user.get_username())
        if attempts.begin(counted):
            raise Rejected("too many wrong codes: try again later", code="limited")
        user.otp_device = match_token(user, body.otp_token.strip())
        if user.otp_device is None:
            attempts.failed(counted)
            raise Rejected(
                "this account has a second factor: enter the code of your app and sign again",
                code="otp_token",
            )
        attempts.succeeded(counted)
    login(request, user, backend=BACKEND)  # rotates the session
    wallets.note_login(signer)
    time_zones.learn(user, body.time_zone)
    return {"next": _next(request, body.next)}


def _sign_up(request: HttpRequest, body: AnswerBody, signer: str) -> dict[str, Any]:
    user = sign_up.create_customer(body.username, password=None, wallet=signer, invitation=body.invitation)
    welcome(request, user, body.time_zone)
    wallets.note_login(signer)
    return {"next": _next(request, "")}


def _link(request: HttpRequest, body: AnswerBody, signer: str) -> dict[str, Any]:
    wallets.link(request.user, signer)
    messages.success(request, f"{signer} is linked: you can log in with it.")
    return {"next": _next(request, body.next)}


def _next(request: HttpRequest, path: str) -> str:
    """Return the page to show next: `path` where it is of this site, else the first page."""
    own = url_has_allowed_host_and_scheme(
        path, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return path if own else resolve_url(settings.LOGIN_REDIRECT_URL)
