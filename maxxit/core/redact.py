"""Redaction: mask secrets before anything is stored or logged. The steps, from the most to the least certain:

1. typed secrets (`pydantic.SecretStr`, `SecretBytes`): masked whole;
2. field names (`password`, `api_key`, `authorization` …): masked whole;
3. registered values (`know`, `know_environment`) in every encoding of `maxxit.core.secret_encodings`;
4. patterns (`sk-…`, `Bearer …`, e-mail, `OPENAI_API_KEY=…`).

There is no pattern for "long numbers" or "64 hex digits": post ids, amounts in wei and transaction hashes look the
same and must stay readable. A private key is recognised by its field name or because its value is registered.
"""

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from pydantic import SecretBytes, SecretStr

from maxxit.core import untrusted
from maxxit.core.secret_encodings import forms

MASK = "[redacted]"
MIN_KNOWN = 8
"""Characters; a shorter value is too common to search for."""

_ALWAYS = {
    *(
        "secret",
        "secrets",
        "password",
        "passwd",
        "passphrase",
        "authorization",
        "mnemonic",
        "cookie",
        "cookies",
    ),
    *("apikey", "privatekey", "secretkey", "pem", "signature", "credential", "credentials"),
}
_LAST = {"key", "keys", "token", "pwd", "seed"}
_HARMLESS = {
    *("idempotency", "public", "primary", "foreign", "sort", "cache", "routing", "partition", "recording"),
    *("cancel", "continuation", "next", "page", "pagination", "base", "quote", "chosen"),
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SYMBOL = re.compile(r"[$#]?[A-Z0-9.]{1,10}")
_ENV_NAME = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|PASSPHRASE|MNEMONIC|CREDENTIALS?|SEED|DSN|AUTH)$")
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_WEB_ADDRESS = re.compile(r"\b(?:https?|wss?)://[^\s,\"']+")
_URL_TOKEN = re.compile(r"[/=]((?=[^/?&=]*\d)(?=[^/?&=]*[A-Za-z])[A-Za-z0-9_-]{20,})(?=[/?&]|$)")
"""The API key that RPC and webhook providers put into the URL path."""
_EMAIL = ("@",)
_NAMES = r"(?:api_?key|secret(?:_?key)?|access_?token|password|passwd|passphrase|private_?key|mnemonic)"
_PATTERNS: list[tuple[tuple[str, ...], re.Pattern[str], str]] = [
    (needles, re.compile(pattern, flags), MASK)
    for needles, pattern, flags in (
        (("-----begin",), r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL),
        (("k-",), r"\b(?:sk|rk|pk)-(?:ant-|proj-|or-|lf-|svcacct-)?[A-Za-z0-9_-]{12,}", 0),
        (("k_",), r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{10,}", 0),
        (
            ("pplx", "apx", "xai", "gsk", "hf", "glpat", "xox"),
            r"\b(?:pplx|apx|xai|gsk|hf|glpat|xox[abeprs])[-_][A-Za-z0-9_-]{12,}",
            0,
        ),
        (("mxk_", "mxi_"), r"\bmx[ki]_[A-Za-z0-9_-]{20,}", 0),
        (("gh", "github_pat"), r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}", 0),
        (("akia", "asia", "aiza"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}", 0),
        (("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", 0),
        ((":",), r"\b\d{8,10}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", 0),
        (
            ("bearer ", "basic "),
            r"(?<=Bearer )(?=\S*\d|\S{20})[\w.~+/=-]{8,}|(?<=Basic )(?=\S*[\d=]|\S{20})[\w+/=-]{8,}",
            re.IGNORECASE,
        ),
        (
            _EMAIL,
            r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b",
            0,
        ),
        (("://",), r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)", 0),
    )
]
_PATTERNS += [
    (
        ("_key", "_token", "_secret"),
        re.compile(r"(?P<name>\b[A-Z][A-Z0-9_]*_(?:KEY|TOKEN|SECRET)\s*=\s*[\"']?)[^\s\"',;&}]+"),
        rf"\g<name>{MASK}",
    ),
    (
        (
            *(
                "apikey",
                "api_key",
                "secret",
                "accesstoken",
                "access_token",
                "password",
                "passwd",
                "passphrase",
            ),
            *("privatekey", "private_key", "mnemonic"),
        ),
        re.compile(
            rf"(?P<name>\b\w*{_NAMES}\w*[\"']?\s*[=:]\s*[\"']?)(?P<value>[^\s\"',;&}}]{{4,}})", re.IGNORECASE
        ),
        rf"\g<name>{MASK}",
    ),
]
"""(substrings of the lower-case text, one of which must occur before the pattern, which is slow, is tried; pattern;
what replaces a match)."""

_known: dict[str, tuple[str, ...]] = {}
"""Registered secret -> its encodings, in lower case."""


def know(value: str | bytes | SecretStr | SecretBytes) -> None:
    """Register a secret: from now on `value` is masked in every encoding. Call this wherever a secret is loaded."""
    if isinstance(value, SecretStr | SecretBytes):
        know(value.get_secret_value())
        return
    text = value.hex() if isinstance(value, bytes) else value.strip()
    if len(text) >= MIN_KNOWN and text not in _known:
        lowered = {form.lower() for form in forms(text) if len(form) >= MIN_KNOWN}
        _known[text] = tuple(sorted(lowered, key=lambda form: (-len(form), form)))


def is_secret_variable(name: str) -> bool:
    """Return whether the name of an environment variable says that its value is a secret."""
    return bool(_ENV_NAME.search(name.upper()))


def know_environment() -> None:
    """Register every secret of the environment: variables by name, passwords and tokens inside URLs."""
    for name, value in os.environ.items():
        if is_secret_variable(name):
            know(value)
        for password in _URL_PASSWORD.findall(value):
            know(password)
            know(unquote(password))
        for address in _WEB_ADDRESS.findall(value):
            for token in _URL_TOKEN.findall(address):
                know(token)


def forget() -> None:
    """Clear all registered secrets (for tests)."""
    _known.clear()


@lru_cache(maxsize=4096)
def secret_name(name: str) -> bool:
    """Return whether a field of this name holds a secret; `tokens`, `prompt_tokens` and `public_key` do not."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    if _ALWAYS.intersection(words):
        return True
    return words[-1] in _LAST and not _HARMLESS.intersection(words[:-1])


def text(value: str, *, addresses: bool = True) -> str:
    """Mask registered secrets and secret-like patterns in `value`; e-mail stays when `addresses` is False."""
    if len(value) < MIN_KNOWN:
        return value
    lowered = value.lower()
    for known in tuple(_known.values()):  # another thread may add one
        for form in known:
            if form in lowered:
                value = re.sub(re.escape(form), MASK, value, flags=re.IGNORECASE)
    for needles, pattern, mask in _PATTERNS:
        for needle in needles:  # not any(): this runs over every text that is stored
            if needle in lowered:
                if addresses or needles is not _EMAIL:
                    value = pattern.sub(mask, value)
                break
    return value


def repeated(value: str) -> str:
    """Return `text` of a long text that comes again and again, such as a prompt; it is searched once."""
    return _repeated(value, tuple(_known))


@lru_cache(maxsize=64)
def _repeated(value: str, _secrets: tuple[str, ...]) -> str:
    return text(value)


def value(given: Any) -> Any:
    """Return a redacted copy of `given`. Numbers, booleans and None pass unchanged."""
    if isinstance(given, str):
        return text(given)
    if given is None or isinstance(given, bool | int | float):
        return given
    if isinstance(given, SecretStr | SecretBytes):
        return MASK
    if isinstance(given, Mapping):
        return {text(str(name)): field(str(name), item) for name, item in given.items()}
    if isinstance(given, list | tuple | set | frozenset):
        items = list(given)
        if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], str):
            items = [items[0], field(items[0], items[1])]  # a header as a pair
        return [value(item) for item in items]
    if isinstance(given, bytes | bytearray | memoryview):
        return text(bytes(given).decode("utf-8", "backslashreplace"))
    return text(str(given))


def document(given: str) -> str:
    """Redact text that may be JSON: JSON is parsed first, because its escapes could hide a secret."""
    try:
        inside = untrusted.loads(given)
    except ValueError:
        return text(given)
    shown = value(inside)
    return text(given) if shown == inside else json.dumps(shown, ensure_ascii=False)


def strings(given: Any) -> Any:
    """Return a copy of `given` with its strings redacted, ignoring field names and keeping e-mail addresses.

    For events and task results: there `token` is a crypto token, and users may be named by e-mail.
    """
    if isinstance(given, str):
        return text(given, addresses=False)
    if isinstance(given, Mapping):
        return {strings(name): strings(item) for name, item in given.items()}
    if isinstance(given, list | tuple):
        return [strings(item) for item in given]
    return given


def failure(error: BaseException) -> BaseException:
    """Redact the message of `error` and of its causes.

    It is changed in place and returned. An exception whose message does not come from its arguments is replaced by a
    `RuntimeError` that names it.
    """
    return _redact_error(error, set())


def _redact_error(error: BaseException, seen: set[int]) -> BaseException:
    seen.add(id(error))
    cause, context = error.__cause__, error.__context__
    if cause is not None and id(cause) not in seen:
        error.__cause__ = _redact_error(cause, seen)
    if context is not None and id(context) not in seen:
        error.__context__ = _redact_error(context, seen)
    message = str(error)
    if strings(message) == message:
        return error
    error.args = tuple(strings(list(error.args)))
    if strings(shown := str(error)) == shown:
        return error
    other = RuntimeError(f"{type(error).__name__}: {strings(message)}").with_traceback(error.__traceback__)
    other.__cause__, other.__suppress_context__ = error.__cause__, True
    return other


def field(name: str, given: Any) -> Any:
    """Redact `given` as the value of a field called `name`."""
    if given is None or isinstance(given, bool) or not secret_name(name):
        return value(given)
    bare = name.lower() in {"key", "token"}
    if bare and isinstance(given, Mapping | list | tuple):
        return value(given)
    if bare and isinstance(given, str) and _SYMBOL.fullmatch(given):
        return value(given)  # `token` is nearly always a ticker such as BTC
    return MASK


def processor(_logger: Any, _method: str, event: Any) -> Any:
    """structlog processor that redacts a line; the last before the renderer, after tracebacks became values."""
    return {
        name: item if name.startswith("_") or name == "exc_info" else field(name, item)
        for name, item in event.items()
    }
