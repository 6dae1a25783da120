"""What is stored of a trade is decided once more: the same, or the first difference is named."""

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.llm.ask import ask
from maxxit.llm.fallback import open_provider
from maxxit.llm.models import LlmTrace
from maxxit.llm.policy import policy as llm_policy
from maxxit.replay import rerun
from signals_app import score
from signals_app.generate import generate
from signals_app.models import CtPost, Signal
from signals_app.policy import policy
from signals_app.reading.proposal import Proposal
from signals_app.tasks import classify_pass
from tests import builders as make
from tests.builders import T0, RecordedClock


@pytest.fixture
def signal(db: None, time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> Signal:
    """A post that the lexical reader read, and the signal that it gave."""
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")
    author = make.account(make.agent(weights={"tweet": 80, "rsi": 20, "volatility": 10}), username="author")
    make.post(author, "buying $ETH here, looks strong")
    rules = open_provider("rules", llm_policy().provider("rules"))
    monkeypatch.setattr("signals_app.classify.ask", partial(ask, provider=rules))
    classify_pass()
    generate(policy().generate)
    return Signal.objects.get()


def stages(of: Signal) -> dict[str, rerun.Stage]:
    return {stage.name: stage for stage in rerun.rerun(of.correlation_id)}


def run(*args: str) -> tuple[int, str]:
    out, code = StringIO(), 0
    try:
        call_command("replay", *args, stdout=out)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, out.getvalue()


def test_the_same_inputs_give_what_is_recorded(signal: Signal) -> None:
    found = stages(signal)
    assert [found[name].equal for name in ("ingest", "classify", "generate")] == [None, True, True]
    assert Decimal(found["generate"].recorded["confidence"]) == signal.confidence


def test_another_record_is_named_by_its_field(signal: Signal) -> None:
    Signal.objects.update(confidence=Decimal("0.4"))
    CtPost.objects.update(sides={"ETH": "short"})
    found = stages(signal)
    assert found["generate"].difference.startswith('confidence: recorded "0.4", now "0.')
    assert found["classify"].difference == 'sides: recorded {"ETH":"short"}, now {"ETH":"long"}'


def test_another_rule_is_found(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "MAX_CONFIDENCE", Decimal("0.5"))
    assert stages(signal)["generate"].difference.startswith("confidence: recorded ")


def test_a_damaged_signal_is_named_and_stops_no_other(signal: Signal) -> None:
    del signal.risk_model["inputs"]["limits"]["min_confidence"]
    signal.save()
    found = stages(signal)
    assert found["generate"].difference == "unreadable: recorded null, now \"KeyError: 'min_confidence'\""
    assert found["classify"].equal


def test_of_two_tokens_each_is_reviewed_by_its_own_answer(
    db: None, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make.agent(tokens=["ETH", "BTC"])
    for token in ("ETH", "BTC"):
        make.hourly_bars(token, make.calm())
        make.price(token, "2000")
    make.candidate(make.account(agent), {"ETH": "long", "BTC": "long"})
    sure = {"ETH": "0.7", "BTC": "0.6"}

    def model(*, data: Mapping[str, Any], **_: Any) -> Any:
        answer = Proposal(
            take=True, confidence=Decimal(sure[data["token"]]), stop_loss_pct=Decimal(5), take_profit_pct=Decimal(15),
            leverage=Decimal(1), reasoning="because",
        )  # fmt: skip
        return SimpleNamespace(answer=answer)

    monkeypatch.setattr("signals_app.generate.ask", model)
    generate(policy().generate.model_copy(update={"proposer": "model"}))

    assert {one.token: f"{one.confidence:.1f}" for one in Signal.objects.all()} == sure
    [corr] = set(Signal.objects.values_list("correlation_id", flat=True))
    decided = [stage for stage in rerun.rerun(corr) if stage.name == "generate"]
    assert [stage.equal for stage in decided] == [True, True]


def test_what_is_not_stored_is_not_decided_again(signal: Signal) -> None:
    LlmTrace.objects.all().delete()
    signal.risk_model.pop("inputs")
    signal.save()
    found = stages(signal)
    assert (found["classify"].equal, found["classify"].why) == (None, rerun.NO_ANSWER)
    assert (found["generate"].equal, found["generate"].why) == (None, rerun.NO_INPUTS)


def test_the_command_ends_with_whether_all_is_equal(signal: Signal, time: RecordedClock) -> None:
    wanted = ("--correlation-id", str(signal.correlation_id))
    code, text = run(*wanted)
    assert (code, text.splitlines()[-1]) == (0, "1 correlation id: 2 equal, 1 not decided again")

    time.move(hours=1)
    span = ("--start-ts", T0.date().isoformat(), "--json-report")
    code, text = run(*span)
    assert (code, json.loads(text)) == (0, {"trades": 1, "not decided again": 1, "equal": 2, "stages": []})

    Signal.objects.update(side="short")
    assert run(*wanted)[0] == 1
    code, text = run(*span)
    [stage] = json.loads(text)["stages"]
    assert (code, stage["stage"], stage["difference"]) == (
        1,
        "generate",
        'side: recorded "short", now "long"',
    )


def test_wrong_options_are_refused(db: None) -> None:
    with pytest.raises(
        CommandError, match="give --posts, --candles, --from, --to, or --correlation-id, or --start-ts"
    ):
        call_command("replay")
    with pytest.raises(CommandError, match="no post or signal has the correlation id"):
        call_command("replay", "--correlation-id", "3f2b8c1e-5d4a-4c7b-9a0e-1b2c3d4e5f60")
    with pytest.raises(CommandError, match="--start-ts 2026-02-01 is not before --end-ts 2026-01-01"):
        call_command("replay", "--start-ts", "2026-02-01", "--end-ts", "2026-01-01")
    assert run("--start-ts", "2020-01-01")[0] == 1, "nothing was compared"
