"""Resolve the secrets of this process's environment once, when it starts, before anything reads them.

* `NAME_FILE=/run/secrets/name` sets NAME to what the file holds, for every name that the redaction knows as a secret,
  and for the addresses with a password (`ADDRESSES`). Private keys and their passwords are left to those who use them.
* `NAME=vault:…` and `NAME=aws:…` are references into a store (`maxxit.core.secret_sources`).

A store or a file that cannot be read stops the start: there is no fallback.
"""

import os
import re
from collections.abc import Mapping, MutableMapping

from maxxit.core import redact
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.secret_files import FILE, read_secret_file
from maxxit.core.secret_sources import SOURCES

REFERENCE = re.compile(rf"({'|'.join(SOURCES)}):([^#\s]+)(?:#(\S+))?")
ADDRESSES = ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "BUS_REDIS_URL", "EMAIL_URL", "HEARTBEAT_URL")
"""Variables whose values hold a password or a token though their names do not say so."""
BY_USERS = re.compile(
    r"(PRIVATE_KEY|KEYSTORE|PASSPHRASE|(EXECUTOR|PREVIOUS|DEPLOYER)_PASSWORD|^(VAULT|AWS)_\w+)$"
)
"""Names whose files are read where they are used, by the process that may: not every one that has the name."""


def resolve(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Set every variable that names a file or a place in a store; return the names of those that were set.

    Raises Misconfigured naming the variable, never its value.
    """
    found = {}
    for name, value in sorted(environ.items()):
        if name.endswith(FILE) and value.strip():
            secret = name.removesuffix(FILE)
            if _has_files(secret) and not environ.get(secret, "").strip():
                found[secret] = read_secret_file(name, value.strip())
    read: dict[tuple[str, str], Mapping[str, str]] = {}
    for name, value in sorted({**environ, **found}.items()):
        if match := REFERENCE.fullmatch(value.strip()):
            found[name] = _from_store(name, match[1], match[2], match[3] or "", read)
    for name, value in found.items():
        redact.know(value)
        environ[name] = value
    return sorted(found)


def _has_files(name: str) -> bool:
    known = name in ADDRESSES or redact.is_secret_variable(name)
    return known and not BY_USERS.search(name)


def _from_store(
    name: str, scheme: str, place: str, key: str, read: dict[tuple[str, str], Mapping[str, str]]
) -> str:
    try:
        if (scheme, place) not in read:
            read[scheme, place] = SOURCES.open(scheme).read(place)
    except MaxxitError as error:
        raise Misconfigured(f"{name}: the secret {scheme}:{place} cannot be read: {error}") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Misconfigured(
            f"{name}: {scheme}:{place} gave no answer of its kind ({type(error).__name__})"
        ) from error
    fields = read[scheme, place]
    if not fields.get(key):
        known = ", ".join(sorted(fields)) or "none"
        raise Misconfigured(f"{name}: the secret {scheme}:{place} has no field {key!r}; it has: {known}")
    return fields[key]
