"""Pages of stored backtests: list, one run of each kind, two side by side, save as agent; and in a browser."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from agents.models import Agent
from maxxit.backtest.models import BacktestRun
from maxxit.web.evaluation import backtests
from tests.backtest.stored import (
    CONFIDENCE,
    TRAILING,
    store_refused,
    store_run,
    store_sweep,
    store_walk_forward,
)
from tests.browser import Page
from tests.surface.test_browser_operators import enter, look

LIST = "/admin/backtests"


@pytest.fixture
def staff(admin_user: Any) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def text_of(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, path
    return str(answer.content.decode())


@pytest.mark.django_db
def test_an_empty_list_says_which_command_fills_it(staff: Client) -> None:
    assert "manage.py backtest run --tape month.tape" in text_of(staff, LIST)
    assert "No stored run is like this" in text_of(staff, f"{LIST}?kind=sweep")
    assert "digits and a to f" in text_of(staff, f"{LIST}?tape=xyz", 422)


@pytest.mark.django_db
def test_the_list_is_filtered_and_read_in_pages(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtests, "LISTED", 2)
    runs = [store_run({TRAILING: "2"}, note="wider"), store_refused(), store_sweep()]

    first = text_of(staff, LIST)
    assert "generate.bars is recorded on the tape" in first
    assert f"?before={runs[1].pk}" in first
    older = text_of(staff, f"{LIST}?before={runs[1].pk}")
    assert "wider" in older
    assert "generate.bars" not in older
    assert f"Compare run {runs[0].pk}" in text_of(staff, f"{LIST}?text=wider&by=OLGA&kind=run&tape=")
    with monkeypatch.context() as counted:
        counted.setattr(BacktestRun, "details", property(lambda _: pytest.fail("the list reads details")))
        text_of(staff, LIST)


@pytest.mark.django_db
def test_a_run_shows_figures_parts_trades_and_what_monte_carlo_does_not_show(staff: Client) -> None:
    run = store_run({TRAILING: "2"})

    text = text_of(staff, f"{LIST}/{run.pk}")

    for part in (
        "posts.jsonl", "ab" * 32, run.tape.digest, f"{TRAILING}=2", "By exit reason", "By token", "Sharpe ratio",
        "Monte Carlo, 2,000 draws", "It does not show orders that would not have been filled", "Profit factor",
        "Max drawdown from, to", 'class="mx-plot"', "backtest-data",
    ):  # fmt: skip
        assert part in text, part
    assert text.count('data-head="Exit reason"') == min(run.figures["closed"], backtests.TRADES)
    second = text_of(staff, f"{LIST}/{run.pk}?token=ETH&page=2")
    assert second.count('data-head="Exit reason"') == min(
        run.figures["closed"] - backtests.TRADES, backtests.TRADES
    )
    text_of(staff, f"{LIST}/{run.pk}?token=nothing&page=99999999999999999999")
    text_of(staff, f"{LIST}/999999", 404)
    assert "Refused: generate.bars" in text_of(staff, f"{LIST}/{store_refused().pk}")


@pytest.mark.django_db
def test_a_sweep_shows_its_map_with_luck_and_a_walk_forward_its_windows(staff: Client) -> None:
    swept, tested = store_sweep(), store_walk_forward()

    text = text_of(staff, f"{LIST}/{swept.pk}")
    assert text.count(f"<title>{TRAILING}=") == 6
    assert "without skill is expected to reach" in text
    assert "settings tried on 30 days" in text
    turned = text_of(staff, f"{LIST}/{swept.pk}?across={CONFIDENCE}&down={TRAILING}")
    assert turned.count(f"<title>{CONFIDENCE}=") == 6
    text_of(staff, f"{LIST}/{swept.pk}?across=nothing")
    one_key = text_of(staff, f"{LIST}/{store_sweep({TRAILING: ['0.5', '2']}).pk}")
    assert "The dashed line" in one_key
    windows = text_of(staff, f"{LIST}/{tested.pk}")
    assert windows.count('data-head="In the test"') == 2
    assert "% on the test days" in windows


@pytest.mark.django_db
def test_two_runs_are_compared(staff: Client) -> None:
    one, other, swept = store_run(), store_run({TRAILING: "0.5"}), store_sweep()

    text = text_of(staff, f"{LIST}/compare?run={one.pk}&run={other.pk}")

    for part in ("as recorded", TRAILING, "First difference:", "Closed differently", 'class="two"'):
        assert part in text, part
    assert "First run" in text_of(staff, f"{LIST}/compare")
    assert "Choose two runs" in text_of(staff, f"{LIST}/compare?run={one.pk}", 422)
    assert "which has no trades" in text_of(staff, f"{LIST}/compare?run={one.pk}&run={swept.pk}", 422)


@pytest.mark.django_db
def test_a_run_is_saved_as_an_agent_after_a_look(staff: Client, admin_user: Any) -> None:
    run = store_run({CONFIDENCE: "0.45", TRAILING: "2"})
    path, form = f"{LIST}/{run.pk}", {"agent": "Follower", "name": "Careful"}

    shown = staff.post(path, form | {"do": "check"}).content.decode()

    assert "Create the draft Careful" in shown
    assert f"{TRAILING}=2" in shown
    assert "the values of an exit preset" in shown
    assert not Agent.objects.exists()
    sent = form | {"do": "save", "once": "a-token-of-this-form"}
    answer = staff.post(path, sent)
    made = Agent.objects.get()
    assert answer["Location"] == reverse("admin:agents_agent_change", args=[made.pk])
    assert (made.name, made.state, made.owner, str(made.min_confidence)) == (
        "Careful",
        "draft",
        admin_user,
        "0.450000",
    )
    again = staff.post(path, form | {"do": "save"})
    assert again.status_code == 422
    assert "The owner has another agent named" in again.content.decode()
    assert staff.post(path, form | {"do": "check", "agent": "nobody"}).status_code == 422


@pytest.mark.django_db
def test_who_may_not_add_agents_saves_none(django_user_model: Any) -> None:
    from django.contrib.auth.models import Group

    from maxxit.access import groups

    person = django_user_model.objects.create_user("clerk", is_staff=True)
    client, run = Client(), store_run()
    client.force_login(person)
    assert client.get(LIST).status_code == 403
    person.groups.add(Group.objects.get(name=groups.SUPPORT))
    assert "Save as agent" not in text_of(client, f"{LIST}/{run.pk}")
    assert client.post(f"{LIST}/{run.pk}", {"do": "save", "agent": "Follower"}).status_code == 403


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
@pytest.mark.limit(600)
def test_each_page_fits_a_phone_and_draws_its_trades(tab: Page, live_server: Any, admin_user: Any) -> None:
    enter(tab, live_server, admin_user)
    one, other = store_run({TRAILING: "2"}), store_run({TRAILING: "0.5"}, note="tighter")
    store_refused()
    pages = {
        "list": LIST, "run": f"{LIST}/{one.pk}", "sweep": f"{LIST}/{store_sweep().pk}",
        "walk-forward": f"{LIST}/{store_walk_forward().pk}",
        "compare": f"{LIST}/compare?run={one.pk}&run={other.pk}",
    }  # fmt: skip
    wrong = []
    for name, path in pages.items():
        tab.open(f"{live_server.url}{path}")
        if name == "run":
            tab.wait("document.querySelector('#backtest-chart').dataset.markers")
            markers = tab.evaluate("document.querySelector('#backtest-chart').dataset.markers")
            assert int(markers) == 2 * one.figures["closed"]
        wrong += look(tab, f"backtest-{name}")
    tab.open(f"{live_server.url}{LIST}")
    for run in (one, other):
        tab.click(f"input[value='{run.pk}']")
    tab.following(lambda: tab.click("form[action$=compare] button"))
    tab.wait_text("First difference:")
    tab.open(f"{live_server.url}{LIST}/{one.pk}")
    tab.following(lambda: tab.click("button[value=check]"))
    tab.wait_text("Left out, because it is no setting of an agent")
    wrong += look(tab, "backtest-agent")
    tab.following(lambda: tab.click("button[value=save]"))
    tab.wait_text("is a draft: it trades nothing")
    assert not wrong, "\n".join(wrong)
