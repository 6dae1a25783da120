"""The demo's world is there once, however often it is loaded; beside the local chain it opens paper only."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.market.venues import venues
from maxxit.ops import demo
from maxxit.ops.devchain import local
from trading import gate
from trading.models import Approval

pytestmark = pytest.mark.django_db


def test_the_command_refuses_outside_the_demo_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxxit.ops.management.commands.demo.profile", lambda: "production")
    monkeypatch.setattr(demo, "load", lambda: pytest.fail("loaded"))
    with pytest.raises(CommandError, match="MAXXIT_PROFILE=demo"):
        call_command("demo")


def test_loading_it_again_changes_nothing_and_only_paper_is_open(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR = tmp_path
    for outside in ("start_run", "refresh_quotes"):
        monkeypatch.setattr(demo, outside, lambda *args, **kwargs: None)
    monkeypatch.setattr(local, "available", lambda: False)
    monkeypatch.setattr(demo, "_history", lambda *args: ())
    first = demo.load()
    approvals = Approval.objects.count()
    again = demo.load()

    assert first["posts"] > 0
    assert approvals == Approval.objects.count() > 0
    assert again["deployments"] == 0
    assert set(gate.open_venues()) == {name for name, one in venues().items() if one.paper}
