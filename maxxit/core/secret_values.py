"""Resolve the secrets of this process's environment once, when it starts, before anything reads them.

* `NAME_FILE=/run/secrets/name` sets NAME to what the file holds, also where NAME is set, as `secret_files.secret` does:
  the processes that `make up` starts inherit NAME, and read the file anew. Private keys and their passwords are left to
  those who use them.
* `NAME=vault:…` and `NAME=aws:…` are references into a store (`maxxit.core.secret_sources`).

Both for our variables alone (`our_variables`): others in the environment may look alike and mean something else.
A store or a file that cannot be read stops the start: there is no fallback.
"""

import os
import re
from collections.abc import Mapping, MutableMapping

from maxxit.core import redact
from maxxit.core.config import ROOT, config_dir
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.secret_files import FILE, read_secret_file
from maxxit.core.secret_sources import SOURCES

REFERENCE = re.compile(rf"({'|'.join(SOURCES)}):([^#\s]+)(?:#(\S+))?")
EXAMPLE = ROOT / "config" / "env.example"
DESCRIBED = re.compile(r"^#?([A-Z][A-Z0-9_]*)=", re.MULTILINE)
CONFIGURED = re.compile(r"""\w_env:\s*["']?([A-Za-z_]\w*)""")
KEYSTORE = "_KEYSTORE"
NO_FILE = re.compile(r"\{|[a-z]+-kms:")
"""How the value of a keystore's variable begins that names no file: its JSON, or a key of a service."""
BY_USERS = re.compile(
    r"(PRIVATE_KEY|KEYSTORE|PASSPHRASE|(EXECUTOR|PREVIOUS|DEPLOYER)_PASSWORD|^(VAULT|AWS)_\w+)$"
)
"""Names whose files are read where they are used, by the process that may: not every one that has the name."""


def our_variables() -> set[str]:
    """Return the variables that config/env.example describes, and those that keys ending in `_env` in config/ name."""
    found = set(DESCRIBED.findall(EXAMPLE.read_text()))
    for path in config_dir().rglob("*.yaml"):
        found.update(CONFIGURED.findall(path.read_text(errors="replace")))
    return found


def key_files(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return variable -> path of each of our variables that names a file: `NAME_FILE`, and the keystores."""
    ours = our_variables()
    return {
        name: value.strip()
        for name, value in sorted(environ.items())
        if (name in ours and name.endswith(KEYSTORE) and not NO_FILE.match(value.strip()))
        or (name.endswith(FILE) and name.removesuffix(FILE) in ours)
        if value.strip()
    }


def resolve(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Set every variable that names a file or a place in a store; return the names of those that were set.

    Raises Misconfigured naming the variable, never its value.
    """
    ours = our_variables()
    found = {
        name.removesuffix(FILE): read_secret_file(name, path)
        for name, path in key_files(environ).items()
        if name.endswith(FILE) and not BY_USERS.search(name.removesuffix(FILE))
    }
    read: dict[tuple[str, str], Mapping[str, str]] = {}
    for name, value in sorted({**environ, **found}.items()):
        if name in ours and (match := REFERENCE.fullmatch(value.strip())):
            found[name] = _from_store(name, match[1], match[2], match[3] or "", read)
    for name, value in found.items():
        redact.know(value)
        environ[name] = value
    return sorted(found)


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
