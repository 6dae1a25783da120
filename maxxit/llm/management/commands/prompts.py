"""`manage.py prompts list|show|diff|create|activate|rollback|history`: named versions of prompts."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, by_option, count, operator
from maxxit.core.errors import Rejected
from maxxit.llm import versions
from maxxit.llm.models import PromptActivation
from maxxit.llm.policy import policy


class Command(OpsCommand):
    help = "List, compare, activate and roll back the versions of prompts."
    subcommands = {
        "list": "list the versions of each purpose, with the active one",
        "show": "print the text of a version (default: the active one)",
        "diff": "compare two versions (default: with the active one); exit code 1 where they differ",
        "create": "store a text as a version; nothing is asked with it until it is activated",
        "activate": "ask with this version from the next call on; `file` is the configuration's file",
        "rollback": "return to the version that was active before",
        "history": "list the changes of the active versions, the newest first",
    }
    epilog = """examples:
  manage.py prompts create classify careful-2 --file careful.md --note "names exits"
  manage.py prompts diff classify careful-2
  manage.py prompts activate classify careful-2 --reason "better on the set of May"
  manage.py prompts rollback classify --reason "half the calls of yesterday"
"""

    def options(self, parser: CommandParser, action: str) -> None:
        given: dict[str, Any] = {"nargs": "?", "default": ""} if action in ("list", "history") else {}
        parser.add_argument("purpose", help="classify or generate", **given)
        if action in ("show", "diff", "create", "activate"):
            given = {"nargs": "?", "default": ""} if action == "show" else {}
            parser.add_argument("name", help="of the version", **given)
        if action == "diff":
            parser.add_argument("against", nargs="?", default="", help="the older version")
        if action == "create":
            parser.add_argument(
                "--file", type=Path, required=True, help="text with `# system`, `# user` and {data}"
            )
            parser.add_argument("--note", default="", help="what is different")
        if action in ("activate", "rollback"):
            parser.add_argument("--reason", required=True, help="why, for the record")
        if action in ("create", "activate", "rollback"):
            by_option(parser)
        if action == "history":
            parser.add_argument("-n", type=count, default=20, help="how many (default 20)")

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        data = []
        for purpose in [options["purpose"]] if options["purpose"] else policy().prompted:
            found, used = versions.versions(purpose), versions.active(purpose)
            data += [_row(one) | {"active": one.name == used} for one in found]
        heads = ("purpose", "name", "active", "sha256", "by", "at", "note")
        shown = [
            row | {"active": "yes" if row["active"] else "", "sha256": row["sha256"][:8]} for row in data
        ]
        self.table(heads, [[row[name] for name in heads] for row in shown])
        return data

    def _show(self, options: dict[str, Any]) -> dict[str, Any]:
        name = options["name"] or versions.active(options["purpose"])
        found = versions.find(options["purpose"], name)
        self.say(found.text.rstrip("\n"))
        return _row(found) | {"text": found.text}

    def _diff(self, options: dict[str, Any]) -> dict[str, Any]:
        purpose = options["purpose"]
        new = versions.find(purpose, options["name"])
        old = versions.find(purpose, options["against"] or versions.active(purpose))
        lines = versions.diff(old, new)
        self.say(f"{purpose}: {old.name} → {new.name}" + ("" if lines else ": the same text"))
        for line in lines:
            self.say(line, {"+": "SUCCESS", "-": "ERROR"}.get(line[:1], ""))
        self.exit_code = 1 if lines else 0
        return {"purpose": purpose, "old": old.name, "new": new.name, "diff": lines}

    def _create(self, options: dict[str, Any]) -> dict[str, Any]:
        try:
            text = options["file"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Rejected(f"--file {options['file']} cannot be read: {error}", code="bad_file") from None
        row = versions.create(
            options["purpose"], options["name"], text, by=operator(options["by"]), note=options["note"]
        )
        self.say(f"{row} is stored; `manage.py prompts activate` puts it to use", "SUCCESS")
        return _row(versions.find(row.purpose, row.name))

    def _activate(self, options: dict[str, Any]) -> dict[str, Any]:
        return self._changed(
            versions.activate(
                options["purpose"], options["name"], by=operator(options["by"]), reason=options["reason"]
            )
        )

    def _rollback(self, options: dict[str, Any]) -> dict[str, Any]:
        return self._changed(
            versions.rollback(options["purpose"], by=operator(options["by"]), reason=options["reason"])
        )

    def _changed(self, row: PromptActivation) -> dict[str, Any]:
        self.say(f"{row.purpose} is asked with {row.name} from the next call on", "SUCCESS")
        return _change(row)

    def _history(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        data = [_change(row) for row in versions.history(options["purpose"], options["n"])]
        heads = ("at", "purpose", "version", "rollback", "by", "reason")
        shown = [row | {"rollback": "yes" if row["rollback"] else ""} for row in data]
        self.table(heads, [[row[name] for name in heads] for row in shown])
        return data


def _row(version: versions.Version) -> dict[str, Any]:
    names = ("purpose", "name", "sha256", "by", "at", "note")
    return {name: getattr(version, name) for name in names}


def _change(row: PromptActivation) -> dict[str, Any]:
    names = ("at", "purpose", "rollback", "by", "reason")
    return {"version": row.name} | {name: getattr(row, name) for name in names}
