"""New kind: users get drift from the paper twin wherever they have chosen kinds; where they chose none, none."""

from collections.abc import Callable
from typing import Any

from django.db import migrations

NEW = {"twins"}


def change(apps: Any, chosen: Callable[[set[str]], set[str]]) -> None:
    """Replace each non-empty list of kinds, that of all channels and those of single channels."""
    for row in apps.get_model("notify", "NotificationSettings").objects.iterator():
        row.kinds = row.kinds and sorted(chosen(set(row.kinds)))
        for choice in row.by_channel.values():
            if choice.get("kinds"):
                choice["kinds"] = sorted(chosen(set(choice["kinds"])))
        row.save(update_fields=["kinds", "by_channel"])


def add(apps: Any, schema_editor: Any) -> None:
    """Add the new kind."""
    change(apps, lambda kinds: kinds | NEW)


def remove(apps: Any, schema_editor: Any) -> None:
    """Remove the new kind."""
    change(apps, lambda kinds: kinds - NEW)


class Migration(migrations.Migration):

    dependencies = [("notify", "0017_funding_rules")]

    operations = [migrations.RunPython(add, remove)]
