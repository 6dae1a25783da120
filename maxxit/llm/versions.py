"""Named versions of prompts: store, compare, activate and roll back.

The newest `PromptActivation` of a purpose says which version is asked with; without one it is the configuration's file.
A stored text never changes, so that a trace, which names the version and its hash, can be asked again.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from difflib import unified_diff
from pathlib import Path

from django.db import IntegrityError, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.llm import prompts
from maxxit.llm.models import PromptActivation, PromptVersion
from maxxit.llm.policy import policy

FILE = "file"
"""Names the configuration's file, whatever its text is."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
LONGEST_TEXT = 40_000
"""Characters of a prompt."""
LONGEST_NOTE = 300
"""Characters of a note or a reason."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version as people see it: a stored one, or the configuration's file."""

    purpose: str
    name: str
    text: str
    sha256: str
    note: str
    by: str
    at: datetime | None
    """When it was stored, UTC; None for the file."""


def in_use(purpose: str, *, stored: bool = True) -> prompts.Prompt:
    """Return the prompt that a call of `purpose` is made with.

    Args:
        stored: False reads no database: the prompt that `prompts.using` gave, or that of the file.
    """
    if (given := prompts.given(purpose)) is not None:
        return given
    purpose = policy().purpose(purpose).prompt or purpose
    row = _newest(purpose) if stored else None
    if row is None or row.version is None:
        return prompts.of_file(purpose)
    return prompts.parse(row.version.text, row.version.name)


def active(purpose: str) -> str:
    """Return the name of the active version: `file`, or that of a stored one."""
    row = _newest(purpose)
    return row.name if row else FILE


def find(purpose: str, name: str) -> Version:
    """Return a version by name. Raises Rejected for an unknown purpose or name."""
    _check_purpose(purpose)
    if name == FILE:
        return _file(purpose)
    row = PromptVersion.objects.filter(purpose=purpose, name=name).first()
    if row is None:
        raise Rejected(
            f"{purpose} has no version {name!r}: `manage.py prompts list` shows them", code="no_version"
        )
    return _shown(row)


def named(given: str, purpose: str) -> prompts.Prompt:
    """Return the prompt of a file, or of a stored version, for an evaluation or a replay.

    Raises Rejected for an unknown version, Misconfigured for a file that is no prompt.
    """
    path = Path(given)
    if path.suffix or path.exists():
        return prompts.read(path)
    version = find(purpose, given)
    return prompts.parse(version.text, "" if given == FILE else given)


def versions(purpose: str) -> list[Version]:
    """Return the versions of a purpose: the file, then the stored ones, the newest first.

    Raises Rejected for an unknown purpose.
    """
    _check_purpose(purpose)
    return [_file(purpose), *map(_shown, PromptVersion.objects.filter(purpose=purpose))]


def history(purpose: str = "", most: int = 50) -> list[PromptActivation]:
    """Return the changes of the active version, the newest first."""
    rows = PromptActivation.objects.select_related("version")
    return list((rows.filter(purpose=purpose) if purpose else rows)[:most])


def create(purpose: str, name: str, text: str, *, by: str, note: str = "") -> PromptVersion:
    """Store a version; nothing is asked with it until it is activated.

    Raises Rejected for an unknown purpose, a bad or taken name, a text without its sections, and a text that another
    version has.
    """
    _check_purpose(purpose)
    if not NAME.fullmatch(name) or name == FILE or name.startswith(f"{FILE}-"):
        raise Rejected(
            f"the name {name!r} cannot be used: 1 to 60 of a-z, 0-9, dot, hyphen and underscore, the first a letter or "
            "digit; `file` and names that begin with `file-` stand for the configuration's file",
            code="bad_name",
        )
    return _store(purpose, name, text.replace("\r\n", "\n"), by, note.strip())


def activate(purpose: str, name: str, *, by: str, reason: str) -> PromptActivation:
    """Ask with this version from the next call on; `file` returns to the configuration's file.

    Raises Rejected where there is no such version, it is active already, or the reason is missing.
    """
    version = find(purpose, name)
    if active(purpose) == name:
        raise Rejected(f"{purpose} is asked with {name} already", code="no_change")
    row = None if name == FILE else PromptVersion.objects.get(purpose=purpose, name=name)
    return _change(purpose, row, version.sha256, by, reason)


def rollback(purpose: str, *, by: str, reason: str) -> PromptActivation:
    """Return to the version that was active before the present one; a second rollback goes one further back.

    Raises Rejected where nothing was active before, or the reason is missing.
    """
    _check_purpose(purpose)
    target = rollback_target(purpose)
    row = target.version if target else None
    digest = row.sha256 if row else prompts.of_file(purpose).sha256
    return _change(purpose, row, digest, by, reason, rollback=True, restores=target)


def rollback_target(purpose: str) -> PromptActivation | None:
    """Return the change that a rollback repeats; None: the file, as before all changes.

    Raises Rejected where nothing was active before.
    """
    newest = _newest(purpose)
    root = _root(newest) if newest else None
    if root is None:
        raise Rejected(
            f"{purpose} is asked with the configuration's file as before all changes: there is nothing to return to",
            code="no_step",
        )
    before = (
        PromptActivation.objects.filter(purpose=purpose, pk__lt=root.pk).select_related("version").first()
    )
    return _root(before) if before else None


def diff(old: Version, new: Version) -> list[str]:
    """Return the lines of a unified diff, without its two header lines; empty where both texts are equal."""
    lines = unified_diff(old.text.splitlines(), new.text.splitlines(), n=3, lineterm="")
    return list(lines)[2:]


def _newest(purpose: str) -> PromptActivation | None:
    return (
        PromptActivation.objects.filter(purpose=purpose)
        .select_related("version", "restores__version")
        .first()
    )


def _root(row: PromptActivation) -> PromptActivation | None:
    """Return the change that made what is active now active; None: the time before all changes."""
    return row.restores if row.rollback else row


def _change(
    purpose: str,
    row: PromptVersion | None,
    digest: str,
    by: str,
    reason: str,
    *,
    rollback: bool = False,
    restores: PromptActivation | None = None,
) -> PromptActivation:
    """Activate a version, with its event; the text of the file that counted until now is stored, too."""
    if not reason.strip():
        raise Rejected("give the reason: who reads the log will ask", code="no_reason")
    was = active(purpose)
    store_file(purpose)
    with transaction.atomic():
        changed = PromptActivation.objects.create(
            purpose=purpose, version=row, rollback=rollback, restores=restores, by=by[:150],
            reason=reason.strip()[:LONGEST_NOTE], at=clock.now(),
        )  # fmt: skip
        record(
            "prompt.activated", changed, purpose=purpose, version=changed.name, was=was, sha256=digest, by=by,
            reason=changed.reason, rollback=rollback,
        )  # fmt: skip
    return changed


def store_file(purpose: str) -> None:
    """Store the text of the configuration's file, so that a later release's file can be compared with it."""
    prompt = prompts.of_file(purpose)
    if not PromptVersion.objects.filter(purpose=purpose, sha256=prompt.sha256).exists():
        text = prompts.path_of(purpose).read_text(encoding="utf-8")
        _store(purpose, prompt.version, text, "the configuration", "")


def _store(purpose: str, name: str, text: str, by: str, note: str) -> PromptVersion:
    if len(text) > LONGEST_TEXT:
        raise Rejected(
            f"the text has {len(text):,} characters, the limit is {LONGEST_TEXT:,}", code="too_long"
        )
    try:
        prompt = prompts.parse(text, name)
    except ValueError as error:
        raise Rejected(f"the text {error}", code="bad_text") from None
    try:
        with transaction.atomic():
            row = PromptVersion.objects.create(
                purpose=purpose, name=name, text=text, sha256=prompt.sha256, note=note[:LONGEST_NOTE],
                created_by=by[:150], created_at=clock.now(),
            )  # fmt: skip
            record(
                "prompt.created", row, purpose=purpose, version=name, sha256=row.sha256, by=by, note=row.note
            )
    except IntegrityError:
        same = PromptVersion.objects.filter(purpose=purpose, sha256=prompt.sha256).first()
        wrong = f"{same.name} has the same text" if same else f"{purpose} has a version {name!r} already"
        raise Rejected(f"{wrong}; a stored version does not change", code="taken") from None
    return row


def _check_purpose(purpose: str) -> None:
    known = policy().prompted
    if purpose not in known:
        raise Rejected(f"no purpose {purpose!r}; known: {', '.join(known)}", code="no_purpose")


def _file(purpose: str) -> Version:
    prompt, path = prompts.of_file(purpose), prompts.path_of(purpose)
    text = path.read_text(encoding="utf-8")
    return Version(
        purpose, FILE, text, prompt.sha256, f"config/prompts/{path.name}", "the configuration", None
    )


def _shown(row: PromptVersion) -> Version:
    return Version(row.purpose, row.name, row.text, row.sha256, row.note, row.created_by, row.created_at)
