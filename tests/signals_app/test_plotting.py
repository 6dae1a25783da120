"""Without matplotlib, plots are refused with the fix before any work."""

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from signals_app import plotting


def test_a_plot_without_matplotlib_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plotting, "find_spec", lambda name: None)

    with pytest.raises(CommandError, match="make install"):
        call_command(
            "evaluate-classifier", "--labelled=l.csv", "--posts=p.jsonl", f"--plot={tmp_path / 'plot.png'}"
        )
