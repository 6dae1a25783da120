"""`manage.py candles`: bring candle files of exchanges and archives into a data folder, and look at what it holds."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from maxxit.core import data_folder
from maxxit.core.commands import OpsCommand, clock_text, count
from maxxit.core.data_folder import CANDLES
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.file_imports import files_in, import_options
from maxxit.core.terminal import Console
from maxxit.market.candle_import import SUFFIXES, FileReport, TokenReport, gaps, import_token
from maxxit.market.candles import Gap
from maxxit.market.feeds.bars import BAR
from maxxit.market.feeds.file import read_bars
from maxxit.market.importers import IMPORTERS
from maxxit.market.importers.detect import instrument_of
from maxxit.market.instruments import Instrument, instrument

WORDS = {
    "rejected": "rejected",
    "duplicates": "repeated",
    "empty": "minutes without a trade",
    "zero_volume": "without volume",
    "incomplete": "unfinished bar left out",
}
"""What an import counts besides the candles that it used."""


class Command(OpsCommand):
    help = (
        "Import candles of exchanges and archives into a data folder, and check it. One-minute candles become "
        "five-minute bars; the formats and where to download them are in docs/data.md."
    )
    epilog = (
        "examples:\n"
        "  manage.py candles import BTCUSDT-1m-2021-01.zip BTCUSDT-1m-2021-02.zip --into DATA\n"
        "  manage.py candles import downloads/ --into DATA\n"
        "  manage.py candles gaps DATA --symbol BTC\n"
        "  manage.py candles verify DATA"
    )
    subcommands = {
        "import": "add candle files to a data folder; a bad row is rejected by line and stops no other",
        "verify": "compare the candle files with the manifest, and read every bar",
        "gaps": "list missing five-minute bars",
        "list": "list the candle files of a data folder and where they came from",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "import":
            import_options(parser, IMPORTERS, "CSV or JSON, also .gz or .zip; or folders of such")
            parser.add_argument(
                "--symbol",
                default="",
                help="token of all the files, for example BTC (default: from each file's name)",
            )
            parser.add_argument(
                "--replace",
                action="store_true",
                help="bars of these files replace different ones that the folder holds",
            )
            return
        parser.add_argument("folder", type=Path, metavar="DATA", help="data folder")
        if action == "gaps":
            parser.add_argument("--symbol", default="", help="one token (default: all)")
            parser.add_argument(
                "--at-least", type=count, default=1, metavar="BARS", help="leave out shorter gaps (default 1)"
            )
            parser.add_argument(
                "--limit",
                type=count,
                default=20,
                help="longest gaps that are printed (default 20; --json has all)",
            )

    def run(self, **options: Any) -> Any:
        """Run a subcommand. Exit code 1 where a file was refused or is not as the manifest states."""
        if options["action"] == "import":
            return self._import(options)
        manifest = data_folder.read(options["folder"])
        if not any(one.kind == CANDLES for one in manifest.values()):
            raise Misconfigured(
                f"{options['folder']} has no candles: import some with `manage.py candles import FILE --into "
                f"{options['folder']}`"
            )
        if options["action"] == "verify":
            return self._verify(options["folder"], manifest)
        if options["action"] == "gaps":
            return self._gaps(options, manifest)
        return self._list(manifest)

    def _import(self, options: dict[str, Any]) -> dict[str, Any]:
        named = instrument(options["symbol"].upper()) if options["symbol"] else None
        groups, refused = _by_token(files_in(options["files"], SUFFIXES), named)
        with (
            data_folder.locked(options["into"]),
            self._progress(sum(map(len, groups.values()))) as (bar, shown),
        ):
            reports = []
            for token, paths in groups.items():
                bar.update(shown, description=token.symbol)
                try:
                    report = import_token(
                        options["into"], token, paths, form=options["format"], replace=options["replace"],
                        progress=lambda rows: bar.advance(shown, rows),
                    )  # fmt: skip
                except (MaxxitError, OSError) as error:  # its held file: the others are imported all the same
                    refused.append(f"{token.symbol}: {error}")
                else:
                    reports.append(report)
        for report in reports:
            self._show(report, replaced=options["replace"])
            refused += [one.refused for one in report.files if one.refused]
        for why in refused:
            self.say(f"refused {why}", "ERROR")
        self.exit_code = 1 if refused else 0
        return {"into": str(options["into"]), "tokens": [_token(one) for one in reports], "refused": refused}

    @contextmanager
    def _progress(self, files: int) -> Iterator[tuple[Progress, Any]]:
        """Show the number of rows read on stderr."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"))
        console = Console(file=sys.stderr, highlight=False)
        with Progress(
            *columns, TimeElapsedColumn(), console=console, disable=self.quiet, transient=True
        ) as bar:
            yield bar, bar.add_task(f"{files} files", total=None)

    def _show(self, report: TokenReport, *, replaced: bool) -> None:
        by_format: dict[tuple[str, int], list[FileReport]] = defaultdict(list)
        for one in report.files:
            if not one.refused:
                by_format[one.format, one.width].append(one)
        for (form, width), files in by_format.items():
            counts = sum((one.counts for one in files), Counter[str]())
            more = "".join(f", {counts[name]:,} {word}" for name, word in WORDS.items() if counts[name])
            named = files[0].path.name if len(files) == 1 else f"{len(files)} files"
            self.say(
                f"{report.symbol}: {named}: {form}, candles of {width} s, {sum(one.rows for one in files):,} used{more}"
            )
            lines = [line for one in files for line in one.rejected]
            for line in lines[:10]:
                self.say(f"  rejected {line}", "WARNING")
            if counts["rejected"] > 10:
                reasons = sum((one.reasons for one in files), Counter[str]())
                self.say(
                    "  " + "; ".join(f"{times:,} × {why}" for why, times in reasons.most_common(5)), "WARNING"
                )
        if report.bars:
            span = f"{report.begins[:16]} to {report.ends[:16]} UTC"
            self.say(
                f"{report.symbol}: {report.bars:,} five-minute bars from {span}, of which {report.added:,} are new"
            )
        if report.conflicts:
            what = "replaced" if replaced else "kept; --replace takes those of the files"
            self.say(
                f"{report.symbol}: {report.conflicts:,} bars differ from those of the folder: {what}",
                "WARNING",
            )

    def _verify(self, folder: Path, manifest: data_folder.Manifest) -> dict[str, Any]:
        problems = data_folder.problems(folder, CANDLES)
        for name, entry in manifest.items():
            if entry.kind != CANDLES or any(one.startswith(f"{name} ") for one in problems):
                continue
            try:
                found = sum(1 for _ in read_bars(folder / name))
            except MaxxitError as error:
                problems.append(str(error))
                continue
            if found != entry.rows:
                problems.append(f"{name} has {found:,} bars, and the manifest states {entry.rows:,}")
        for one in problems:
            self.say(one, "ERROR")
        files = sum(one.kind == CANDLES for one in manifest.values())
        self.exit_code = 1 if problems else 0
        self.say(f"{files} candle files, {len(problems)} problems", "ERROR" if problems else "SUCCESS")
        return {"folder": str(folder), "files": files, "problems": problems}

    def _gaps(self, options: dict[str, Any], manifest: data_folder.Manifest) -> list[dict[str, Any]]:
        wanted = options["symbol"].upper()
        files = {one.symbol: name for name, one in manifest.items() if one.kind == CANDLES}
        if wanted and wanted not in files:
            raise Misconfigured(
                f"{options['folder']} has no candles of {wanted}; it has {', '.join(sorted(files))}"
            )
        result = []
        for symbol in [wanted] if wanted else sorted(files):
            entry = manifest[files[symbol]]
            found = [
                one
                for one in gaps(options["folder"] / files[symbol], symbol)
                if one.bars >= options["at_least"]
            ]
            missing = sum(one.bars for one in found)
            share = missing / (entry.rows + missing) if entry.rows else 0.0
            self.say(
                f"{symbol}: {entry.rows:,} bars from {entry.begins[:16]} to {entry.ends[:16]} UTC, {missing:,} "
                f"missing in {len(found):,} gaps ({share:.2%})"
            )
            longest = sorted(found, key=lambda one: (-one.bars, one.start))[: options["limit"]]
            if longest:
                self.table(["from", "to", "bars", "hours"], [_gap_row(one) for one in longest])
            result.append(
                {
                    "symbol": symbol, "bars": entry.rows, "from": entry.begins, "to": entry.ends, "missing": missing,
                    "gaps": [
                        {"from": one.start.isoformat(), "to": one.end.isoformat(), "bars": one.bars} for one in found
                    ],
                }
            )  # fmt: skip
        return result

    def _list(self, manifest: data_folder.Manifest) -> list[dict[str, Any]]:
        found = data_folder.as_json(manifest, CANDLES)
        self.table(
            ["file", "token", "bars", "from", "to", "sources"],
            [
                (
                    one["file"], one["symbol"], f"{one['rows']:,}", one["begins"][:16], one["ends"][:16],
                    _sources(one["sources"]),
                )
                for one in found
            ],
        )  # fmt: skip
        return found


def _by_token(
    paths: Sequence[Path], named: Instrument | None
) -> tuple[dict[Instrument, list[Path]], list[str]]:
    """Return the files of each token, and why others were refused."""
    groups: dict[Instrument, list[Path]] = defaultdict(list)
    refused = []
    for path in paths:
        try:
            groups[named or instrument_of(path)].append(path)
        except Misconfigured as error:
            refused.append(str(error))
    return dict(groups), refused


def _token(report: TokenReport) -> dict[str, Any]:
    return {
        "symbol": report.symbol, "bars": report.bars, "added": report.added, "conflicts": report.conflicts,
        "from": report.begins, "to": report.ends,
        "files": [
            {
                "file": str(one.path), "format": one.format, "width_seconds": one.width, "rows": one.rows,
                "sha256": one.sha256, **{name: one.counts[name] for name in WORDS}, "rejected_lines": one.rejected,
                "reasons": dict(one.reasons), "refused": one.refused,
            }
            for one in report.files
        ],
    }  # fmt: skip


def _gap_row(one: Gap) -> tuple[str, str, str, str]:
    return (
        clock_text(one.start),
        clock_text(one.end),
        f"{one.bars:,}",
        f"{one.bars * BAR.total_seconds() / 3600:,.1f}",
    )


def _sources(sources: Sequence[dict[str, Any]]) -> str:
    formats = Counter(one["format"] for one in sources)
    return ", ".join(f"{times} {form}" for form, times in formats.items())
