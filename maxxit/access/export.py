"""Export of everything that belongs to a user: a zip of CSV files, written while it is sent."""

import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from django.apps import apps
from django.db.models import Field, Model, QuerySet

from maxxit.access.rows import OWNER_PATHS, owned
from maxxit.core import clock, csv_text, redact
from maxxit.core.csv_text import CHUNK

PATHS = OWNER_PATHS | {
    "agents.ctaccount": ("subscriptions__agent__owner",),
    "agents.subscription": ("agent__owner",),
    "chat.chatcode": ("user",),
    "chat.chatupdate": ("user",),
    "console.browsersession": ("user",),
    "console.usersettings": ("user",),
    "notify.digestslot": ("user",),
    "console.walletlogin": ("user",),
    "notify.alert": ("user",),
    "notify.endpoint": ("user",),
    "notify.notificationsettings": ("user",),
    "notify.rulematch": ("rule__user",),
    "positions.dailysummary": ("deployment:owner",),
    "positions.equitypoint": ("deployment:owner",),
    "positions.pnlpart": ("deployment:owner",),
    "positions.pnlsnapshot": ("deployment:owner",),
    "positions.profitmark": ("deployment:owner",),
    "positions.twindrift": ("deployment:owner",),
    "positions.twinfill": ("deployment:owner",),
    "trading.fundingpayment": ("deployment:owner",),
    "trading.ledgerentry": ("deployment:owner",),  # withdrawals have no order
}
"""Model -> lookup paths to its owner, as in `OWNER_PATHS`."""
SECRET = frozenset(
    {"sha256", "salt", "lookup", "content", "key_id", "session_key", "session_data", "password"}
)
"""Columns that are never exported; nor are those whose name `redact.secret_name` knows."""
README = """Everything that belongs to the account {name} at Maxxit, as of {at}.

account.json holds the account itself; each CSV file is one table, with a line of column names first.
Times are UTC (ISO 8601). Amounts are in USD, USDC or tokens as the column says, exact, without thousands separators.
Lists and nested values are JSON. A cell of text that begins with = + - @ has an apostrophe before it, so that
spreadsheets do not compute it. Passwords, keys and other secrets are not included.
"""


def models() -> list[type[Model]]:
    """Return the exported models, in the order of their files."""
    return [apps.get_model(label) for label in sorted(PATHS)]


def file_name(model: type[Model]) -> str:
    """Return the name of the file with the rows of `model`."""
    return f"{model._meta.db_table}.csv"


def rows_of(person: Any, model: type[Model]) -> QuerySet[Any]:
    """Return the rows of `model` that belong to `person`; staff get their own, too."""
    rows: QuerySet[Any] = model._default_manager.order_by("pk")
    return owned(rows, person, PATHS[model._meta.label_lower])


def counts(person: Any) -> list[tuple[str, int]]:
    """Return (file, rows) of each file that has rows."""
    numbers = ((file_name(model), rows_of(person, model).count()) for model in models())
    return [(name, number) for name, number in numbers if number]


def archive(person: Any) -> Iterator[bytes]:
    """Yield the zip in pieces. Memory holds one chunk of rows, whatever the size of the whole."""
    at = clock.now()
    sink = _Sink()
    with ZipFile(sink, "w", ZIP_DEFLATED) as zipped:
        name = person.get_username()
        zipped.writestr("README.txt", README.format(name=name, at=clock.iso_utc(at)))
        zipped.writestr("account.json", json.dumps(account(person), indent=2, ensure_ascii=False))
        for model in models():
            with zipped.open(file_name(model), "w", force_zip64=True) as file:
                for lines in _lines(person, model):
                    file.write(lines)
                    yield sink.taken()
    yield sink.taken()


def account(person: Any) -> dict[str, Any]:
    """Return the user's own data: name, e-mail, dates, groups, how they log in."""
    return {
        "username": person.get_username(),
        "email": person.email,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "joined": clock.iso_utc(person.date_joined),
        "last_login": clock.iso_utc(person.last_login) if person.last_login else None,
        "groups": sorted(person.groups.values_list("name", flat=True)),
        "has_password": person.has_usable_password(),
        "has_second_factor": person.totpdevice_set.filter(confirmed=True).exists(),
    }


def _lines(person: Any, model: type[Model]) -> Iterator[bytes]:
    """Yield the lines of a file, a chunk of rows at a time."""
    columns = [field.attname for field in model._meta.concrete_fields if _is_open(field)]
    yield csv_text.lines([columns]).encode()
    rows = rows_of(person, model).values_list(*columns).iterator(chunk_size=CHUNK)
    while chunk := list(islice(rows, CHUNK)):
        yield csv_text.lines(chunk).encode()


def _is_open(field: "Field[Any, Any]") -> bool:
    return field.name not in SECRET and not redact.secret_name(field.name)


class _Sink(io.RawIOBase):
    """Where the zip is written: keeps what was written since it was last taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
