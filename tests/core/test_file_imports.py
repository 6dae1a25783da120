"""What the imports of candles and of posts share."""

from pathlib import Path

import pytest

from maxxit.core.errors import Misconfigured
from maxxit.core.file_imports import SHOWN, FileReport, files_in, iso


def test_files_of_folders_are_found_by_their_ending_and_each_once(tmp_path: Path) -> None:
    (tmp_path / "in/deep.csv").mkdir(parents=True)
    for name in ("in/b.CSV", "in/a.csv.gz", "in/deep.csv/c.csv", "in/notes.txt", "named.any"):
        (tmp_path / name).touch()
    found = files_in([tmp_path / "named.any", tmp_path / "in", tmp_path / "in/b.CSV"], (".csv", ".gz"))
    assert [str(one.relative_to(tmp_path)) for one in found] == [
        "named.any", "in/a.csv.gz", "in/b.CSV", "in/deep.csv/c.csv",
    ]  # fmt: skip
    with pytest.raises(Misconfigured, match=r"in has no file that ends with \.json, \.zip"):
        files_in([tmp_path / "in"], (".json", ".zip"))
    with pytest.raises(Misconfigured, match="no such file or folder"):
        files_in([tmp_path / "none"], (".csv",))


def test_all_rejected_rows_are_counted_and_the_first_kept() -> None:
    report = FileReport(Path("a.csv"), "kraken", rows=2, begins=0, ends=60, sha256="f00")
    for line in range(SHOWN + 5):
        report.reject(f"a.csv:{line}", f"open is not a number: 'x{line}' at 2021-01-01 00:0{line % 10}")
    assert report.reasons == {"open is not a number: … at … …": SHOWN + 5}
    assert (len(report.rejected), report.rejected[3].split(": ")[0]) == (SHOWN, "a.csv:3")
    source = report.source()
    assert (source.name, source.rows, source.counts) == ("a.csv", 2, {"rejected": SHOWN + 5})
    assert (source.begins, source.ends) == ("1970-01-01T00:00:00+00:00", "1970-01-01T00:01:00+00:00")
    assert iso(None) == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [("a.csv:3: damaged", "a.csv:3: damaged"), ("no permission", "a.csv: no permission")],
)
def test_a_refused_file_is_always_named(error: str, told: str) -> None:
    report = FileReport(Path("a.csv"))
    report.refuse(Misconfigured(error))
    assert report.refused == told
