"""`manage.py labels list|show|create|add|export|import|disagreements`: sets of posts that people label."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, by_option, count, operator
from signals_app.inputs import wrong_input
from signals_app.labels import sets
from signals_app.models import CtPost, LabelledSet


class Command(OpsCommand):
    help = "Fill, export and import the sets of posts that people label."
    subcommands = {
        "list": "list the sets",
        "show": "show how many posts are labelled, and how far the labels agree",
        "create": "make an empty set",
        "add": "add posts of production, the newest first",
        "export": "write NAME.csv and NAME.jsonl for `evaluate-classifier --labelled … --posts …`",
        "import": "add labels and posts from such files",
        "disagreements": "list the posts whose labels differ",
    }
    epilog = """examples:
  manage.py labels create may --note "posts of May, by hand"
  manage.py labels add may --outcome not_candidate -n 100
  manage.py labels export may --out sets
  manage.py labels import december --labelled labels.csv --posts posts.jsonl --labelled-by ann
"""

    def options(self, parser: CommandParser, action: str) -> None:
        if action != "list":
            parser.add_argument("name", help="of the set")
        if action == "create":
            parser.add_argument("--note", default="", help="what is in it")
        if action == "add":
            parser.add_argument("--post", action="append", default=[], help="the provider's id; repeatable")
            parser.add_argument(
                "--outcome", default="", help="only posts with this outcome, such as not_candidate"
            )
            parser.add_argument("--account", default="", help="only posts of this account, without @")
            parser.add_argument("-n", type=count, default=50, help="at most so many (default 50)")
        if action == "export":
            parser.add_argument("--out", type=Path, default=Path(), help="folder (default: .)")
            parser.add_argument("--twice", action="store_true", help="leave out posts with one label")
        if action == "import":
            parser.add_argument(
                "--labelled", type=Path, required=True, help="CSV: id,username,label,token,side"
            )
            parser.add_argument("--posts", type=Path, required=True, help="JSON lines with those posts")
            parser.add_argument(
                "--labelled-by",
                default=sets.IMPORTED,
                help=f"who gave these labels (default {sets.IMPORTED})",
            )
        if action in ("create", "add", "import"):
            by_option(parser)

    def run(self, **options: Any) -> Any:
        with wrong_input():
            return getattr(self, f"_{options['action']}")(options)

    def _list(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        data = [
            {
                "name": one.name,
                "posts": found.posts,
                "once": found.once,
                "twice": found.twice,
                "disagreements": found.disagreements,
                "note": one.note,
            }
            for one, found in sets.standings()
        ]
        self.table(
            ("name", "posts", "one label", "two labels", "disagreements", "note"),
            [list(row.values()) for row in data],
        )
        return data

    def _show(self, options: dict[str, Any]) -> dict[str, Any]:
        found = sets.standing(sets.named(options["name"]).posts.prefetch_related("labels"))
        data = {"name": options["name"]} | asdict(found)
        self.rows({name: value for name, value in data.items() if name != "agreement"})
        one = found.agreement
        if one.kappa is not None:
            low_high = f" ({one.kappa_95[0]:.2f} to {one.kappa_95[1]:.2f})" if one.kappa_95 else ""
            self.say(f"{one.same} of {one.pairs} pairs agree; Cohen's kappa {one.kappa:.2f}{low_high}")
        return data

    def _create(self, options: dict[str, Any]) -> dict[str, Any]:
        made = sets.create(options["name"], by=operator(options["by"]), note=options["note"])
        self.say(f"the set {made.name} is made", "SUCCESS")
        return {"name": made.name, "note": made.note}

    def _add(self, options: dict[str, Any]) -> dict[str, Any]:
        chosen = sets.named(options["name"])
        posts = CtPost.objects.select_related("account").order_by("-pk")
        if options["post"]:
            posts = posts.filter(post_id__in=options["post"])
        if options["outcome"]:
            posts = posts.filter(outcome=options["outcome"])
        if options["account"]:
            posts = posts.filter(account__x_username__iexact=options["account"])
        added = sets.add_posts(chosen, posts[: options["n"]], by=operator(options["by"]))
        self.say(f"{added} posts added to {chosen.name}")
        return {"name": chosen.name, "added": added}

    def _export(self, options: dict[str, Any]) -> dict[str, Any]:
        chosen: LabelledSet = sets.named(options["name"])
        folder = options["out"]
        folder.mkdir(parents=True, exist_ok=True)
        stem = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in chosen.name)
        labels, posts = folder / f"{stem}.csv", folder / f"{stem}.jsonl"
        done = sets.export(chosen, labels, posts, twice=options["twice"])
        self.say(f"{done.posts} posts ({done.calls} calls) in {labels} and {posts}; {done.left_out} left out")
        return asdict(done) | {"labelled": str(labels), "posts_file": str(posts)}

    def _import(self, options: dict[str, Any]) -> dict[str, Any]:
        done = sets.import_files(
            sets.named(options["name"]), options["labelled"], options["posts"],
            labelled_by=options["labelled_by"], by=operator(options["by"]),
        )  # fmt: skip
        self.say(f"{done.posts} posts and {done.labels} labels added, {done.kept} labels kept")
        return asdict(done)

    def _disagreements(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        data = [
            {
                "post_id": post.post_id,
                "text": post.text,
                "labels": {one.by: one.sides for one in post.labels.all()},
            }
            for post in sets.disagreements(sets.named(options["name"]))
        ]
        return list(self.rows(data))
