"""The night trainer and the morning deployer killed at ten random moments: the model that serves goes on serving."""

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from django.db import connection

from maxxit.core.config import ROOT
from maxxit.learning.models import Forecast, TrainedModel, TrainingRun
from tests.learning.stored import store_candles, trained


@pytest.mark.django_db(transaction=True)
def test_a_night_and_a_morning_that_are_killed_leave_a_model_that_serves() -> None:
    store_candles()
    serves = trained(state="serving")
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.learning.killed", "3"], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"DATABASE_URL": url.geturl()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, *kills, last = [line.split() for line in done.stdout.splitlines()]
    assert (first[1], last[1], len(kills)) == ("0", "0", 10)
    assert {ended for _, ended, _, _ in kills} == {"-9"}, done.stdout
    serving = [pk for _, _, pk, _ in kills]
    assert "none" not in serving
    assert serving[0] == str(serves.pk)
    assert set(serving[1:]) != {str(serves.pk)}, "no kill came after the successor began to serve"
    successor = TrainedModel.objects.get(state="serving", horizon_hours=6)
    assert str(successor.pk) == last[2]
    assert TrainedModel.objects.get(pk=serves.pk).state == "retired"
    assert set(TrainingRun.objects.values_list("outcome", flat=True)) == {"trained"}
    assert TrainedModel.objects.filter(data_sha256=successor.data_sha256, horizon_hours=6).count() == 1
    assert Forecast.objects.filter(model=successor).count() == 2
