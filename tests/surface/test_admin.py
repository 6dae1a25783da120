"""The admin: every list with rows, in a number of queries that does not grow; and every action."""

from decimal import Decimal

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.evidence import EVIDENCE
from agents.models import CtAccount, Deployment
from agents.states import AgentState
from maxxit.access.models import ApiKey
from maxxit.adminkit import subject_link
from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.pipeline.models import PipelineRun
from positions.models import Position
from tests import builders
from tests.surface.conftest import World, trade
from trading import gate, ledger
from trading.chain.models import SafePlan, TransferScan, WatchedAddress
from trading.models import Gate, KillSwitch

admin.autodiscover()
OURS = ("agents", "signals_app", "trading", "positions", "events", "pipeline", "market", "console")
OF_RULES = ("notify.PriceRule", "notify.RuleMatch", "notify.RuleDelivery")
MODELS = sorted(
    (
        model
        for model in admin.site._registry
        if model._meta.app_label in OURS or model._meta.label in OF_RULES
    ),
    key=lambda one: one._meta.label,
)
READ_ONLY = {
    "trading.order", "trading.fill", "trading.ledgerentry", "trading.ledgerbalance", "events.event",
    "trading.paperorder", "trading.paperfill", "trading.paperbalance", "pipeline.pipelinerun", "pipeline.stagerun",
    "market.quote", "market.candle", "positions.position", "signals_app.ctpost", "signals_app.signal",
    "trading.chaintransaction", "trading.gate", "trading.approval", "trading.killswitch", "console.apikey",
    "trading.safeplan",
}  # fmt: skip


def _list_url(model: type) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")  # type: ignore[attr-defined]


def test_every_model_of_the_pipeline_has_an_admin() -> None:
    """Except chain bookkeeping, queued prices, sessions (their keys are secret), settings, seals."""
    missing = {
        model._meta.label
        for label in OURS
        for model in apps.get_app_config(label).get_models()
        # Django's admin cannot show a model with a composite key
        if model not in admin.site._registry and len(model._meta.pk_fields) == 1
    }
    chain = ("ChainAttempt", "ChainScan", "Signer", "TransferScan")
    unseen = {f"trading.{name}" for name in chain} | {"market.QuoteMove"}
    unseen |= {"console.BrowserSession", "console.UserSettings", "events.EventSeal"}
    assert missing - unseen == set()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_lists_and_pages_show_rows_in_a_steady_number_of_queries(world: World, model: type) -> None:
    world.key(world.alice)
    browser = world.logged_in(world.staff)
    browser.get(_list_url(model))  # warms what is cached for the life of the process
    with CaptureQueriesContext(connection) as few:
        answer = browser.get(_list_url(model))
    assert answer.status_code == 200
    assert answer.context["cl"].result_count > 0, "the test's world has no such row"
    row = model._default_manager.first()  # type: ignore[attr-defined]
    name = _list_url(model).replace("changelist", "")
    assert browser.get(f"{name}{row.pk}/change/").status_code == 200
    for _ in range(3):
        trade(world.alice)
    with CaptureQueriesContext(connection) as many:
        browser.get(_list_url(model))
    assert len(many) <= len(few) + 1, [query["sql"][:120] for query in many.captured_queries]


def test_a_safe_s_page_shows_the_permission_card(world: World) -> None:
    plan = SafePlan.objects.get()
    page = world.logged_in(world.staff).get(f"/admin/trading/safeplan/{plan.pk}/change/").content.decode()
    assert "The module CANNOT" in page
    assert "in any 24 hours: 50.00 USDC" in page


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_list_can_be_searched(world: World, model: type) -> None:
    browser = world.logged_in(world.staff)
    for term in ("ETH", "17", str(world.of_alice.post.correlation_id), "%_'"):
        answer = browser.get(_list_url(model), {"q": term})
        assert answer.status_code == 200, term


def test_a_correlation_id_finds_its_rows_everywhere(world: World) -> None:
    browser, corr = world.logged_in(world.staff), str(world.of_alice.post.correlation_id)
    for label, count in (("signals_app_ctpost", 1), ("signals_app_signal", 1), ("trading_order", 2),
                         ("trading_fill", 2), ("positions_position", 1), ("trading_ledgerentry", 16)):  # fmt: skip
        answer = browser.get(reverse(f"admin:{label}_changelist"), {"q": corr})
        assert answer.context["cl"].result_count == count, label


@pytest.mark.parametrize("label", sorted(READ_ONLY))
def test_books_cannot_be_written(world: World, label: str) -> None:
    world.key(world.alice)
    browser, name = world.logged_in(world.staff), label.replace(".", "_")
    model = next(one for one in admin.site._registry if one._meta.label_lower == label)
    row = model._default_manager.first()
    assert row is not None
    assert browser.get(reverse(f"admin:{name}_add")).status_code == 403
    assert browser.post(reverse(f"admin:{name}_change", args=[row.pk]), {}).status_code == 403
    assert browser.post(reverse(f"admin:{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def _act(world: World, name: str, action: str, *ids: object) -> None:
    chosen = {"action": action, "_selected_action": [str(one) for one in ids], "index": 0}
    answer = world.logged_in(world.staff).post(reverse(f"admin:{name}_changelist"), chosen)
    assert answer.status_code == 302, answer.content[:500]


def test_pausing_and_activating_goes_by_the_state_table(world: World) -> None:
    agent = world.of_alice.agent
    _act(world, "agents_agent", "pause", agent.pk)
    agent.refresh_from_db()
    assert agent.state == AgentState.PAUSED
    assert Event.objects.filter(name="agent.paused", data__by="root").count() == 1
    _act(world, "agents_agent", "pause", agent.pk)  # not a move: says so and changes nothing
    assert Event.objects.filter(name="agent.paused").count() == 1
    _act(world, "agents_agent", "activate", agent.pk)
    _act(world, "agents_deployment", "pause", world.of_alice.deployment.pk)
    assert LogEntry.objects.filter(user=world.staff).count() == 3


def test_activating_in_the_admin_runs_the_plan_check_and_shows_its_problems(world: World) -> None:
    agent = builders.agent(owner=world.alice, sizing_preset="conservative")
    sound = builders.deployment(agent, account="paper:sound", state="draft", owner=world.alice, funded=False)
    builders.account(agent)
    small = builders.deployment(
        agent, usdc="20", account="paper:small", state="draft", owner=world.alice, funded=False
    )
    chosen = {"action": "activate", "_selected_action": [str(small.pk), str(sound.pk)], "index": 0}
    page = world.logged_in(world.staff).post(
        reverse("admin:agents_deployment_changelist"), chosen, follow=True
    )
    said = [str(message) for message in page.context["messages"]]
    assert any("paper:small is not activated: " in text and "minimum" in text for text in said), said
    assert "1 now active" in said
    for row, state in ((small, "draft"), (sound, "active")):
        row.refresh_from_db()
        assert row.state == state
    assert ledger.balance(ledger.account_of(sound.pk), "USDC") == sound.starting_balance
    assert Event.objects.filter(name="deployment.active", data__by="root").count() == 1


def _errors(world: World, name: str, fields: dict[str, str], pk: int | None = None) -> dict[str, list[str]]:
    """The errors of an admin form; empty where it was saved."""
    url = reverse(f"admin:{name}_change", args=[pk]) if pk else reverse(f"admin:{name}_add")
    page = world.logged_in(world.staff).post(url, fields)
    return {} if page.status_code == 302 else dict(page.context["adminform"].form.errors)


ACCOUNT = {"followers_count": "0", "impact_factor": "0.5", "is_active": "on", "source": "x"}


@pytest.mark.parametrize(
    ("fields", "wrong", "why"),
    [
        ({"x_username": "@new_one"}, "", ""),
        ({"x_username": "https://x.com/new_one"}, "", ""),
        ({"x_username": "sixteen_letters_"}, "x_username", "this one has 16"),
        ({"x_username": "no spaces"}, "x_username", "letters, digits or underscores"),
        ({"x_username": "https://evil.com/new_one"}, "x_username", "such as https://x.com/name"),
        ({"x_username": "KNOWN"}, "x_username", "@known is known already"),
        (
            {"x_username": "new_one", "source": "nowhere"},
            "source",
            "there is no post source nowhere; known: x",
        ),
    ],
)
def test_an_account_of_the_admin_obeys_the_rules_of_x_and_has_a_known_source(
    world: World, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], wrong: str, why: str
) -> None:
    monkeypatch.setattr("agents.admin.post_sources", lambda: ("x",))
    builders.account(username="known")
    errors = _errors(world, "agents_ctaccount", ACCOUNT | fields)
    assert list(errors) == ([wrong] if wrong else [])
    assert why in str(errors.get(wrong, ""))
    assert CtAccount.objects.filter(x_username="new_one").exists() is not bool(wrong)


def test_an_account_that_stands_can_be_edited_whatever_its_name_and_source(world: World) -> None:
    old = builders.account(username="an old and long name", source="gone")
    fields = ACCOUNT | {"x_username": old.x_username, "source": "gone", "followers_count": "7"}
    assert _errors(world, "agents_ctaccount", fields, old.pk) == {}
    old.refresh_from_db()
    assert (old.x_username, old.followers_count) == ("an old and long name", 7)


@pytest.mark.parametrize(
    ("venue", "balance", "why"),
    [
        ("paper", "500", ""),
        ("paper", "0", "enter more than 0"),
        ("paper", "-1", "enter more than 0"),
        ("paper", "99999999999", "at most"),
        ("paper", "1.0000001", "six decimals"),
        ("safe", "0", ""),
        ("safe", "5", "only paper accounts start with play money: enter 0 at safe"),
    ],
)
def test_a_starting_balance_of_the_admin_is_positive(
    world: World, venue: str, balance: str, why: str
) -> None:
    agent = builders.agent(venue=venue)
    fields = {"agent": str(agent.pk), "account": "new", "starting_balance": balance}
    errors = _errors(world, "agents_deployment", fields)
    assert list(errors) == (["starting_balance"] if why else [])
    assert why in str(errors.get("starting_balance", ""))


def test_the_database_refuses_a_negative_starting_balance(world: World) -> None:
    with pytest.raises(IntegrityError, match="no_negative_starting_balance"), transaction.atomic():
        Deployment.objects.filter(pk=world.of_alice.deployment.pk).update(starting_balance=-1)


def test_closing_a_position_writes_its_closing_order(world: World) -> None:
    position = world.of_alice.open_position
    _act(world, "positions_position", "close", position.pk, world.of_alice.position.pk)
    position.refresh_from_db()
    assert (position.state, position.exit_reason) == ("closing", "manual")
    assert position.exit_order is not None
    assert position.exit_order.state == "planned"
    assert LogEntry.objects.get().object_id == str(position.pk)


def test_a_position_is_closed_from_its_page_only_by_a_post(world: World) -> None:
    browser = world.logged_in(world.staff)
    url = reverse("admin:positions_position_close_one", args=[world.of_alice.open_position.pk])
    assert browser.get(url).status_code == 200
    assert Position.objects.get(pk=world.of_alice.open_position.pk).state == "open"
    assert browser.post(url, {"_form_submitted": "True"}).headers["HX-Redirect"]
    assert Position.objects.get(pk=world.of_alice.open_position.pk).state == "closing"


def test_a_gate_is_closed_in_the_browser_with_a_reason_and_only_paper_is_opened_there(world: World) -> None:
    browser, paper = world.logged_in(world.staff), Gate.objects.get(venue="paper")
    url = reverse("admin:trading_gate_close_gate", args=[paper.pk])
    sent = {"_form_submitted": "True", "reason": "odd fills"}
    browser.post(url, sent | {"reason": ""})
    assert gate.open_venues() == ["paper"]
    assert browser.post(url, sent).headers["HX-Redirect"]
    assert gate.open_venues() == []
    paper.refresh_from_db()
    assert (paper.dry_run, paper.changed_by, paper.reason) == (True, "root", "odd fills")
    browser.post(reverse("admin:trading_gate_open_gate", args=[paper.pk]), sent | {"reason": "all clear"})
    assert gate.open_venues() == ["paper"]
    real = gate.set_dry_run("safe", True, by="test", reason="test")
    answer = browser.post(reverse("admin:trading_gate_open_gate", args=[real.pk]), sent)
    assert answer.status_code == 403
    assert Gate.objects.get(venue="safe").dry_run
    assert LogEntry.objects.count() == 2


def test_quarantined_rows_are_requeued(world: World) -> None:
    post = builders.post(world.of_alice.post.account, state="quarantined", attempts=3)
    order = builders.order(world.of_alice.deployment, attempts=3, last_error="Traceback\nValueError: bad")
    _act(world, "signals_app_ctpost", "requeue", post.pk, world.of_alice.post.pk)
    _act(world, "trading_order", "redrive", order.pk, world.of_alice.entry.pk)
    post.refresh_from_db()
    order.refresh_from_db()
    assert (post.state, post.attempts, order.attempts) == ("new", 0, 0)
    assert LogEntry.objects.count() == 2


def test_the_chain_and_a_stage_start_only_by_a_post(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start_pipeline(cause: str, by: str) -> PipelineRun:
        started.append(cause)
        return PipelineRun(pk=1)

    def start_stage(name: str, by: str) -> str:
        started.append(name)
        return "task-9"

    monkeypatch.setattr("maxxit.pipeline.admin.start_pipeline", start_pipeline)
    monkeypatch.setattr("maxxit.pipeline.admin.start_stage", start_stage)
    browser = world.logged_in(world.staff)
    for url, data in (("run_pipeline", {}), ("run_stage", {"stage": "monitor"})):
        full = reverse(f"admin:pipeline_pipelinerun_{url}")
        assert browser.get(full).status_code == 200
        assert not started
        browser.post(full, data | {"_form_submitted": "True"})
        assert started.pop()
    assert LogEntry.objects.count() == 2


def test_the_stop_button_stands_on_every_page_and_works(world: World) -> None:
    browser = world.logged_in(world.staff)
    stop = reverse("stop")
    assert stop in browser.get("/admin/").content.decode()
    assert browser.post(stop, {"level": "reduce_only", "reason": ""}).status_code == 200
    assert gate.kill_level() == ""
    assert browser.post(stop, {"level": "reduce_only", "reason": "odd fills"}).status_code == 302
    assert gate.kill_level() == "reduce_only"
    for url in ("/admin/", reverse("admin:trading_order_changelist"), stop):
        assert "STOPPED: reduce_only" in browser.get(url).content.decode()
    assert browser.post(stop, {"release": "1", "reason": " "}).status_code == 200
    assert gate.kill_level() == "reduce_only"
    browser.post(stop, {"release": "1", "reason": "all clear"})
    assert gate.kill_level() == ""
    assert KillSwitch.objects.latest("pk").release_reason == "all clear"
    assert LogEntry.objects.count() == 2


def test_one_account_is_stopped_and_released_alone(world: World) -> None:
    browser, stop = world.logged_in(world.staff), reverse("stop")
    mine = world.of_alice.deployment.account
    wrong = browser.post(stop, {"level": "flatten", "reason": "x", "account": "nobody"})
    assert "no deployment trades from the account nobody" in wrong.content.decode()
    browser.post(stop, {"level": "flatten", "reason": "odd fills", "account": mine})
    browser.post(stop, {"level": "no_entries", "reason": "drill"})
    assert (gate.kill_level(mine), gate.kill_level()) == ("flatten", "no_entries")
    assert f"account {mine}: no position is opened" in browser.get(stop).content.decode()
    assert mine in browser.get(reverse("admin:trading_killswitch_changelist")).content.decode()

    browser.post(stop, {"release": "1", "reason": "all clear", "account": mine})
    assert (gate.kill_level(mine), gate.kill_level()) == ("no_entries", "no_entries")


def test_the_first_page_tells_what_the_machine_does(world: World) -> None:
    page = world.logged_in(world.staff).get("/admin/").content.decode()
    for said in ("gate paper", "worker:monitor", "cooldown", "ingest", "Open positions", "Equity"):
        assert said in page


def test_tasks_link_to_flower(world: World, settings: object) -> None:
    run = PipelineRun.objects.get()
    page = (
        world.logged_in(world.staff)
        .get(reverse("admin:pipeline_pipelinerun_change", args=[run.pk]))
        .content.decode()
    )
    assert "/task/task-classify" in page
    assert "/task/root-task-1" in page


def test_decimals_are_shown_without_their_zeros(world: World) -> None:
    url = reverse("admin:positions_position_change", args=[world.of_alice.position.pk])
    page = world.logged_in(world.staff).get(url).content.decode()
    assert "38.16" in page
    assert "38.160000" not in page


def test_long_decimals_are_brief_in_lists_and_plain_in_forms(world: World) -> None:
    Position.objects.filter(pk=world.of_alice.open_position.pk).update(
        entry_price=Decimal("3012.123456789012345678")
    )
    browser = world.logged_in(world.staff)
    listed = browser.get(reverse("admin:positions_position_changelist")).content.decode()
    assert "3012.1235" in listed
    assert "3012.123456789" not in listed
    draft = builders.deployment(world.of_alice.agent, usdc="2500.5", state="draft", funded=False)
    form = browser.get(reverse("admin:agents_deployment_change", args=[draft.pk])).content.decode()
    assert 'value="2500.5"' in form
    assert "2500.50" not in form
    entry = reverse("admin:trading_order_change", args=[world.of_alice.entry.pk])
    assert "800.00000" not in browser.get(entry).content.decode()


def _editable(world: World, model: str, pk: int) -> set[str]:
    """The fields of a row's admin page that take input."""
    page = world.logged_in(world.staff).get(reverse(f"admin:agents_{model}_change", args=[pk]))
    return set(page.context["adminform"].form.fields)


def test_what_a_working_deployment_is_bound_to_cannot_be_edited(world: World) -> None:
    bound = {"agent", "account", "starting_balance"}
    of_the_plan = {"safe_wallet", "chain_id", "module_address", "module_enabled", "verified_at"}
    agent = builders.agent()
    draft = builders.deployment(agent, state="draft", funded=False)
    assert _editable(world, "deployment", draft.pk) & (bound | of_the_plan) == bound
    assert "venue" in _editable(world, "agent", agent.pk)
    for state in ("active", "paused", "revoked"):
        working = builders.deployment(agent, state=state, funded=False)
        assert not _editable(world, "deployment", working.pk) & (bound | of_the_plan)
    assert "venue" not in _editable(world, "agent", agent.pk)


def test_an_agent_form_refuses_what_the_configuration_does_not_know(world: World) -> None:
    from agents.admin import AgentForm

    form = AgentForm({"name": "x", "venue": "moon", "tokens": '["DOGE"]'})
    assert "config/venues.yaml" in str(form.errors["venue"])
    assert "config/markets.yaml" in str(form.errors["tokens"])


def test_an_agent_form_has_a_number_field_for_the_weight_of_each_piece_of_evidence(world: World) -> None:
    agent = builders.agent(weights={"tweet": 70, "rsi": 5})
    url = reverse("admin:agents_agent_change", args=[agent.pk])
    browser = world.logged_in(world.staff)
    form = browser.get(url).context["adminform"].form
    fields = [name for name in form.fields if name.startswith("weight_")]
    assert fields == [f"weight_{name}" for name in EVIDENCE]
    assert form.fields["weight_rsi"].help_text == "0 to 100: how much the relative strength index counts"
    assert [form[name].value() for name in fields] == [70, 5] + [0] * (len(list(EVIDENCE)) - 2)

    sent = {
        "name": agent.name, "venue": "paper", "tokens": '["ETH"]', "sizing_preset": "moderate",
        "exit_preset": "signal", "min_confidence": "0.5", "profit_receiver": "", "profit_share": "0.2",
        "subscriptions-TOTAL_FORMS": "0", "subscriptions-INITIAL_FORMS": "0",
        **{name: str(at) for at, name in enumerate(fields)},
    }  # fmt: skip
    assert "less than or equal to 100" in browser.post(url, sent | {"weight_rsi": "101"}).content.decode()
    answer = browser.post(url, sent)
    assert answer.status_code == 302, answer.context["errors"]
    agent.refresh_from_db()
    assert agent.weights == {name: at for at, name in enumerate(EVIDENCE)}
    assert "Weight" in LogEntry.objects.get().get_change_message()


def test_a_started_deployment_keeps_its_fees_when_the_agents_are_raised_on_its_page(world: World) -> None:
    agent = builders.agent(profit_share="0.1")
    started = builders.deployment(agent, funded=False)
    url = reverse("admin:agents_agent_change", args=[agent.pk])
    browser = world.logged_in(world.staff)
    sent = {
        "name": agent.name, "venue": "paper", "tokens": '["ETH"]', "sizing_preset": "moderate",
        "exit_preset": "signal", "min_confidence": "0.5", "profit_receiver": "", "profit_share": "0.2",
        "trade_fee": "flat amount_usdc=0.1", "profit_fee": "", "monthly_fee": "subscription monthly_usdc=20",
        "subscriptions-TOTAL_FORMS": "0", "subscriptions-INITIAL_FORMS": "0",
        **{name: "50" for name in browser.get(url).context["adminform"].form.fields if name.startswith("weight_")},
    }  # fmt: skip
    refused = browser.post(url, sent | {"trade_fee": "flat amount_usdc=1"})
    assert "a flat fee is at most 0.2 USDC" in refused.content.decode()

    answer = browser.post(url, sent, follow=True)

    assert "they agreed to where the new ones are higher: 1" in answer.content.decode()
    started.refresh_from_db()
    assert started.agreed_fees["profit_share"] == "0.1"
    assert "0.1 USDC per trade" in browser.get(url).content.decode()
    page = browser.get(reverse("admin:agents_deployment_change", args=[started.pk])).content.decode()
    assert "no subscription" in page


def test_who_may_only_look_sees_the_weights_of_an_agent(world: World) -> None:
    agent = builders.agent(weights={"tweet": 70}, owner=world.alice)
    world.alice.is_staff = True
    world.alice.save()
    world.alice.user_permissions.set(Permission.objects.filter(codename="view_agent"))
    page = world.logged_in(world.alice).get(reverse("admin:agents_agent_change", args=[agent.pk]))
    assert "tweet 70, rsi 0" in page.content.decode()


def test_an_old_event_about_a_price_rule_links_to_its_page() -> None:
    assert 'href="/admin/notify/pricerule/7/change/"' in subject_link("market.pricerule/7")


@pytest.mark.parametrize("rest", ["pricerule/", "ruledelivery/7/change/", "rulematch/?q=ETH"])
def test_the_old_addresses_of_price_rules_lead_to_the_new_ones(world: World, rest: str) -> None:
    answer = world.logged_in(world.staff).get(f"/admin/market/{rest}")
    assert (answer.status_code, answer.headers["Location"]) == (301, f"/admin/notify/{rest}")


def test_an_expired_key_is_not_called_standing(world: World) -> None:
    world.key(world.alice)
    browser, url = world.logged_in(world.staff), reverse("admin:console_apikey_changelist")

    def page() -> str:
        return browser.get(url).content.decode().replace(" ", "").replace("\n", "")

    assert ">standing<" in page()
    ApiKey.objects.update(expires_at=clock.now())
    assert ">expired<" in page()
    assert ">standing<" not in page()


def _watched(world: World, **values: str) -> str:
    """Post the form that watches an address; return what is wrong with it, empty where nothing is."""
    given = {"chain_id": "31337", "label": "Cold", "min_usd": "1000", "user": ""} | values
    answer = world.logged_in(world.staff).post("/admin/trading/watchedaddress/add/", given)
    errors = answer.context["adminform"].form.errors if answer.status_code == 200 else {}
    return " ".join(text for found in errors.values() for text in found)


def test_staff_watches_an_address_and_changes_only_what_is_reported_of_it(world: World) -> None:
    address = "0x52908400098527886E0F7030069857D2E4169EE7"
    assert _watched(world, address=address, user=str(world.alice.pk)) == ""
    row = WatchedAddress.objects.get(address=address)
    assert (row.chain_id, row.label, row.min_usd, row.user) == (31337, "Cold", 1000, world.alice)
    assert row.created_at is not None

    browser, page = world.logged_in(world.staff), f"/admin/trading/watchedaddress/{row.pk}/"
    browser.post(
        f"{page}change/",
        {"label": "Hot", "min_usd": "5", "user": "", "address": "0x" + "0" * 40, "chain_id": "1"},
    )
    row.refresh_from_db()
    assert (row.chain_id, row.address, row.label, row.min_usd, row.user) == (31337, address, "Hot", 5, None)

    listed = browser.get("/admin/trading/watchedaddress/?chain_id=31337&q=hot")
    assert [one.pk for one in listed.context["cl"].result_list] == [row.pk]
    assert not browser.get("/admin/trading/watchedaddress/?chain_id=1").context["cl"].result_count


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"address": "0x52908400098527886e0F7030069857D2E4169EE7"}, "checksum"),
        ({"min_usd": "-1"}, "give 0 or more"),
        ({"chain_id": "999"}, "not one of the available choices"),
        ({"label": "x" * 61}, "at most 60"),
        ({"label": "a\nb"}, "one line"),
    ],
    ids=["address", "limit", "chain", "label", "line"],
)
def test_an_address_that_cannot_be_watched_is_refused_on_the_form(
    world: World, wrong: dict[str, str], why: str
) -> None:
    before = WatchedAddress.objects.count()
    assert why in _watched(world, **({"address": "0x52908400098527886E0F7030069857D2E4169EE7"} | wrong))
    assert WatchedAddress.objects.count() == before


def test_an_address_is_watched_once_and_its_end_ends_the_scan_of_its_chain(world: World) -> None:
    address = "0x52908400098527886E0F7030069857D2E4169EE7"
    assert _watched(world, address=address) == ""
    assert "watched already" in _watched(world, address=address)

    TransferScan.objects.create(chain_id=31337, scanned_to=7)
    rows = [str(pk) for pk in WatchedAddress.objects.values_list("pk", flat=True)]
    world.logged_in(world.staff).post(
        "/admin/trading/watchedaddress/",
        {"action": "delete_selected", "_selected_action": rows, "post": "yes"},
    )
    assert not WatchedAddress.objects.exists()
    assert not TransferScan.objects.exists()


def test_operators_add_watched_addresses_and_support_only_sees_them(world: World) -> None:
    for group, may in (("operators", True), ("support", False)):
        person = User.objects.create_user(group, is_staff=True)
        person.groups.add(Group.objects.get(name=group))
        person = User.objects.get(pk=person.pk)
        assert person.has_perm("trading.view_watchedaddress")
        assert person.has_perm("trading.add_watchedaddress") is may
        assert person.has_perm("trading.change_watchedaddress") is may
