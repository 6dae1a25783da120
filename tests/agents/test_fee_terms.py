"""The fees of agents: which are allowed, what a deployment pays, and that nobody pays more than they agreed to."""

from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from agents.fee_terms import fee_problem, fees_in_words, fees_of, terms
from agents.fees import FeeRule, Occasion, rule_of
from agents.models import Agent, Deployment
from maxxit.market.venues import venues
from tests import builders as make
from tests.agents.test_fees import amounts, bounded, flats
from trading.billing.terms import read_terms
from trading.risk.policy import policy
from trading.wiring import venue

D = Decimal
PLATFORM: dict[str, FeeRule] = {"trade": policy().fees.trade, "profit": policy().fees.profit}
trade_fees = st.sampled_from(
    ("", "flat amount_usdc=0.1", "flat amount_usdc=0.2", "percentage rate_pct=0.1 minimum_usdc=0")
)
profit_fees = st.sampled_from(
    ("", "profit_share minimum_usdc=0", "profit_share minimum_usdc=0.5", "flat amount_usdc=1",
     "tiered tiers=0:5,100:10 minimum_usdc=0", "tiered tiers=0:4,100:10 minimum_usdc=0")
)  # fmt: skip
monthly_fees = st.sampled_from(
    (
        "",
        "subscription monthly_usdc=20",
        "subscription monthly_usdc=20 trial_days=14",
        "subscription monthly_usdc=10",
    )
)
shares = st.decimals(0, 1, places=2)
fees = st.fixed_dictionaries(
    {
        "trade_fee": trade_fees,
        "profit_fee": profit_fees,
        "monthly_fee": monthly_fees,
        "profit_share": shares.map(str),
    }
)


@given(fees, fees, amounts)
def test_a_deployment_never_pays_more_than_it_agreed_to(
    own: dict[str, str], agreed: dict[str, str], base: Decimal
) -> None:
    charged, signed = terms(own, agreed, **PLATFORM), terms(agreed, {}, **PLATFORM)

    assert charged.trade.charge(base) <= signed.trade.charge(base)
    assert charged.profit.charge(base) <= signed.profit.charge(base)
    if charged.month:
        assert signed.month
        assert charged.month.monthly_usdc <= signed.month.monthly_usdc
        assert charged.month.trial_days >= signed.month.trial_days


@given(fees)
def test_without_an_earlier_agreement_the_agents_fees_hold(own: dict[str, str]) -> None:
    found = terms(own, {}, **PLATFORM)

    assert found == terms(own, own, **PLATFORM)
    assert found.trade == (rule_of(own["trade_fee"]) if own["trade_fee"] else PLATFORM["trade"])
    assert (found.month is None) == (own["monthly_fee"] == "")


@given(st.one_of(flats, bounded))
def test_every_rule_is_described_in_words(rule: FeeRule) -> None:
    for occasion in rule.occasions:
        assert len(rule.words(occasion)) > 10


WORDS = {
    ("trade", "flat amount_usdc=0.2"): "0.2 USDC per trade",
    ("trade", "percentage rate_pct=0.1 minimum_usdc=0.01"): "0.1 % of what is traded, at least 0.01 USDC",
    ("profit", "profit_share minimum_usdc=0"): "10 % of profits, after earlier losses are earned back",
    ("profit", "tiered tiers=0:5,100:10,500.000001:15 minimum_usdc=0"): (
        "5 % of a profit, 10 % from 100 USDC on, 15 % from 500.000001 USDC on, after earlier losses are earned back"
    ),
    ("profit", "flat amount_usdc=0.5"): (
        "0.5 USDC per profit, after earlier losses are earned back and never more than the profit"
    ),
    ("month", "subscription monthly_usdc=20 trial_days=14"): (
        "20 USDC for each month begun, the first 14 days free"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "words"), WORDS.items())
def test_the_words_of_each_model(rule: tuple[Occasion, str], words: str) -> None:
    occasion, text = rule

    assert rule_of(text).words(occasion) == words
    assert not fee_problem(occasion, text)


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("trade_fee", "flat amount_usdc=0.3", "a flat fee is at most 0.2 USDC"),
        ("trade_fee", "flat", "flat needs amount_usdc"),
        ("trade_fee", "subscription monthly_usdc=1", "the model subscription cannot be charged on a trade"),
        ("trade_fee", "percent 1", "'percent' is no fee model; for example `flat amount_usdc=0.1`"),
        ("trade_fee", "   ", "is not a model and its parameters"),
        ("trade_fee", "flat amount_usdc=x", "amount_usdc: Input should be a valid decimal"),
        ("trade_fee", "percentage rate_pct=2 minimum_usdc=0", "less than or equal to 1"),
        ("profit_fee", "percentage rate_pct=1 minimum_usdc=0", "cannot be charged on a profit"),
        ("profit_fee", "profit_share rate_pct=5 minimum_usdc=0", "leave rate_pct out"),
        ("profit_fee", "flat amount_usdc=6", "amount_usdc is 6, at most 5 is allowed"),
        ("profit_fee", "tiered tiers=0:5,100:30 minimum_usdc=0", "tiers is 30, at most 20 is allowed"),
        ("profit_fee", "tiered tiers=5:5 minimum_usdc=0", "the first tier begins at 0"),
        ("profit_fee", "tiered tiers=0:5:5 minimum_usdc=0", "for example `profit_share minimum_usdc=0`"),
        ("profit_fee", "profit_share minimum_usdc=2", "minimum_usdc is 2, at most 1 is allowed"),
        ("monthly_fee", "subscription monthly_usdc=201", "monthly_usdc is 201, at most 200 is allowed"),
        ("monthly_fee", "subscription monthly_usdc=20 trial_days=-1", "trial_days: "),
        ("monthly_fee", "subscription", "subscription needs monthly_usdc"),
        ("monthly_fee", "flat amount_usdc=1", "the model flat cannot be charged on a month"),
        (
            "profit_share",
            "0.21",
            "21 % is above 20 %, the highest that config/fees.yaml allows: enter at most 0.2",
        ),
    ],
)
def test_a_fee_that_is_not_allowed_is_refused_with_field_and_fix(field: str, text: str, why: str) -> None:
    value: Any = D(text) if field == "profit_share" else text
    agent = Agent(name="A", **{field: value})

    with pytest.raises(ValidationError) as refused:
        agent.clean()

    assert list(refused.value.message_dict) == [field]
    assert why in refused.value.message_dict[field][0]


def test_allowed_fees_are_not_refused() -> None:
    Agent(
        name="A",
        trade_fee="percentage rate_pct=0.1 minimum_usdc=0.01",
        profit_fee="tiered tiers=0:5,100:10,500.000001:15 minimum_usdc=0.01",
        monthly_fee="subscription monthly_usdc=20 trial_days=14",
    ).clean()
    Agent(name="B").clean()


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        (
            "trade_fee",
            "percentage rate_pct=0.1 minimum_usdc=0",
            "trade is percentage: a Safe's module takes only flat",
        ),
        ("profit_fee", "flat amount_usdc=1", "a Safe's module takes only profit_share"),
        (
            "profit_fee",
            "profit_share minimum_usdc=0.01",
            "a Safe's module takes only profit_share with minimum_usdc 0",
        ),
        ("monthly_fee", "subscription monthly_usdc=20", "takes only fees of trades and profits"),
    ],
)
def test_a_model_that_a_safes_module_cannot_collect_is_refused_there(field: str, text: str, why: str) -> None:
    Agent(name="A", venue="paper", **{field: text}).clean()

    with pytest.raises(ValidationError) as refused:
        Agent(name="A", venue="safe", **{field: text}).clean()

    assert list(refused.value.message_dict) == [field]
    assert why in refused.value.message_dict[field][0]
    assert "leave the field empty, or choose another venue than safe" in refused.value.message_dict[field][0]


def test_a_safe_takes_a_flat_fee_and_a_share() -> None:
    Agent(name="A", venue="safe", trade_fee="flat amount_usdc=0.1", profit_share=D("0.1")).clean()


def test_the_venues_that_collect_are_those_whose_adapter_says_so() -> None:
    for name, stanza in venues().items():
        assert venue(name).capabilities.collects_fees == stanza.uses_safes


@pytest.mark.django_db
def test_started_deployments_keep_what_they_agreed_to_and_drafts_do_not() -> None:
    agent = make.agent()
    started, draft = make.deployment(agent), Deployment.objects.create(agent=agent, account="paper:draft")
    before = fees_of(agent)
    agent.trade_fee, agent.profit_share = "percentage rate_pct=1 minimum_usdc=0", D("0.1")
    agent.save()

    assert agent.keep_agreed_fees(before) == 1

    read = read_terms([started.pk, draft.pk], policy().fees)
    assert read[started.pk].trade == PLATFORM["trade"]
    assert read[draft.pk].trade.charge(D(100)) == 1
    assert read[started.pk].profit.charge(D(100)) == 10  # a lower share holds at once

    agent.refresh_from_db()
    again = fees_of(agent)
    agent.trade_fee = "flat amount_usdc=0.05"
    agent.save()

    assert agent.keep_agreed_fees(again) == 0  # the first agreement stays
    assert read_terms([started.pk], policy().fees)[started.pk].trade.charge(D(100)) == D("0.05")


@pytest.mark.django_db
def test_the_terms_of_many_deployments_are_one_statement(django_assert_num_queries: Any) -> None:
    agent = make.agent()
    ids = [make.deployment(agent).pk for _ in range(5)]

    with django_assert_num_queries(1):
        assert len(read_terms(ids, policy().fees)) == 5


def test_a_stored_rule_that_cannot_be_read_charges_nothing() -> None:
    for text in ("nonsense", "subscription monthly_usdc=20", "flat amount_usdc=x"):
        own = {
            "trade_fee": text,
            "profit_fee": text,
            "monthly_fee": "flat amount_usdc=1",
            "profit_share": "0.2",
        }
        found = terms(own, {}, **PLATFORM)

        assert found.trade.charge(D(100)) == found.profit.charge(D(100)) == 0
        assert found.month is None


def test_an_agents_fees_in_words() -> None:
    agent = Agent(name="A", trade_fee="flat amount_usdc=0.1", profit_share=D("0.1"))

    assert fees_in_words(agent) == {
        "trade": "0.1 USDC per trade",
        "profit": "the platform's fee (`fees.profit` in config/risk.yaml); where that is a profit share: 10 %",
        "month": "no subscription",
    }
