"""The chat: who is answered, with which rows, once; stops with a confirmation; strangers get nothing."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import OperationalError
from django.db.models import Q
from hypothesis import given, settings
from hypothesis import strategies as st

from maxxit.access import groups
from maxxit.chat import answers, codes, commands, connecting, stopping, tasks, telegram
from maxxit.chat.models import ChatCode, ChatUpdate
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.terms import KillLevel
from maxxit.events.models import Event
from maxxit.notify import alerts, endpoints, preferences
from maxxit.notify import policy as notify_policy
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Alert, Endpoint
from positions.models import Position
from tests import builders
from tests.fakes import statement_timeout
from tests.notify.providers import telegram_update
from tests.surface.conftest import World
from tests.test_documents import section
from trading.deployments import stops
from trading.models import KillSwitch

NUMBERS = count(1)
ALICE, BOB, STAFF, STRANGER = 1001, 1002, 1003, 1004


@pytest.fixture(autouse=True)
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation offers every channel."""
    every = notify_policy.policy().model_copy(update={"offered": tuple(CHANNELS)})
    for module in (endpoints, connecting):
        monkeypatch.setattr(module, "policy", lambda: every)


def send(text: str, chat: int = ALICE, number: int = 0, **fields: Any) -> dict[str, Any] | None:
    """What the bot answers."""
    return telegram.answer_update(telegram_update(number or next(NUMBERS), text, chat, **fields))


def said(text: str, chat: int = ALICE, **fields: Any) -> str:
    answer = send(text, chat, **fields)
    assert answer is not None
    assert answer["chat_id"] == chat
    return str(answer["text"])


def connect(user: User, chat: int) -> str:
    return said(f"/start {connecting.connect_code(user)}", chat)


@pytest.fixture
def talking(world: World) -> World:
    """Alice and Bob have connected a chat each."""
    KillSwitch.objects.all().delete()
    connect(world.alice, ALICE)
    connect(world.bob, BOB)
    return world


def latched() -> set[tuple[str, str, str]]:
    rows = KillSwitch.objects.filter(released_at=None)
    return set(rows.values_list("account", "level", "cause"))


# -- who is answered


def test_a_command_that_lost_the_database_is_not_answered_and_one_whose_statement_failed_is(
    talking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [statement_timeout(), OperationalError("the connection is lost")]

    def fails(*_: Any) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(commands, "run", fails)
    assert said("/status") == telegram.FAILED
    before = ChatUpdate.objects.count()
    with pytest.raises(OperationalError):
        send("/status")
    assert ChatUpdate.objects.count() == before, "it acts when it comes again"


def test_a_code_connects_a_chat_once(world: World) -> None:
    code = connecting.connect_code(world.alice)
    assert code not in str(list(ChatCode.objects.values()))
    answer = said(f"/start {code}")
    assert "/positions" in answer
    assert "/stop platform" not in answer
    endpoint = Endpoint.objects.get(user=world.alice, channel="telegram")
    assert endpoint.verified_at is not None
    assert endpoints.open_address(endpoint) == str(ALICE)
    assert str(ALICE) not in endpoint.lookup
    assert not Alert.objects.filter(user=world.alice, channel="telegram").exists()  # no code is sent there
    assert send(f"/start {code}", BOB) is None


def test_a_new_code_ends_the_one_before_and_a_code_expires(world: World) -> None:
    old, new = connecting.connect_code(world.alice), connecting.connect_code(world.alice)
    assert send(f"/start {old}") is None
    with clock.frozen(clock.now() + codes.LIFETIME[ChatCode.CONNECT] + timedelta(seconds=1)):
        late = telegram_update(next(NUMBERS), f"/start {new}", ALICE, date=int(clock.now().timestamp()))
        assert telegram.answer_update(late) is None
    assert connecting.user_at(ALICE) is None


def test_a_stranger_gets_nothing_and_leaves_nothing(talking: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram, "PER_MINUTE", 1_000)
    before = (ChatUpdate.objects.count(), Event.objects.count(), latched())
    for name in (*commands.COMMANDS, "unknown"):
        for text in (f"/{name}", f"/{name} 1", f"/{name} {'x' * 32}", name, ""):
            assert send(text, STRANGER) is None, text
    assert (ChatUpdate.objects.count(), Event.objects.count(), latched()) == before


def test_a_chat_that_is_disconnected_or_of_a_closed_account_is_a_strangers(talking: World) -> None:
    assert said("/status")
    assert connecting.disconnect(talking.alice)
    assert send("/status") is None
    User.objects.filter(pk=talking.bob.pk).update(is_active=False)
    assert send("/status", BOB) is None


def test_nobody_takes_over_the_commands_of_a_chat(talking: World) -> None:
    """Bob confirms Alice's chat as his own, too: it gets his messages, and still answers as Alice."""
    endpoint = endpoints.set_endpoint(talking.bob, "telegram", str(ALICE))
    endpoints.confirm(talking.bob, "telegram", endpoints.code_of(endpoint))
    assert connecting.user_at(ALICE) == talking.alice
    code = connecting.connect_code(talking.bob)
    answer = said(f"/start {code}", ALICE)  # a connected chat: the code is not even looked at
    assert f"connected to the account {talking.alice.get_username()} already" in answer
    assert "Settings, Chat" in answer
    assert ChatCode.objects.filter(user=talking.bob, used_at=None).exists()
    assert f"connected to the account {talking.alice.get_username()}." in said("/start")
    assert connecting.user_at(ALICE) == talking.alice


def test_an_address_that_was_confirmed_by_its_code_takes_commands(world: World) -> None:
    endpoint = endpoints.set_endpoint(world.alice, "telegram", str(ALICE))
    assert send("/status") is None
    endpoints.confirm(world.alice, "telegram", endpoints.code_of(endpoint))
    assert "Equity" in said("/status")


def test_only_what_a_person_writes_in_their_private_chat_counts(talking: World) -> None:
    wrong: list[dict[str, Any]] = [
        {"chat": {"id": -100123, "type": "supergroup"}},
        {"chat": {"id": BOB, "type": "private"}},
        {"chat": {"id": ALICE, "type": "group"}},
        {"from": {"id": ALICE, "is_bot": True}},
        {"forward_origin": {"type": "hidden_user"}},
        {"via_bot": {"id": 5, "is_bot": True}},
        {"photo": []},
        {"date": "today"},
        {"from": None},
        {"from": {"id": True}},
    ]
    for fields in wrong:
        update = telegram_update(next(NUMBERS), "/status", ALICE)
        update["message"] |= fields
        if "photo" in fields:
            del update["message"]["text"]
        assert telegram.answer_update(update) is None, fields
    assert not ChatUpdate.objects.filter(command="status").exists()


def test_an_edited_message_is_no_command(talking: World) -> None:
    update = telegram_update(next(NUMBERS), "/stop", ALICE)
    update["edited_message"] = update.pop("message")
    assert telegram.answer_update(update) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["update_id", "message", "chat", "from", "id", "text", "date", "type", "is_bot"]),
            inner,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=100)
@given(JSON)
def test_no_update_however_formed_raises(raw: Any) -> None:
    telegram.read_update(raw)


# -- once


def test_an_update_that_comes_again_acts_once(talking: World) -> None:
    said("/stop")
    code = "123456"
    ChatCode.objects.filter(user=talking.alice, purpose="stop").update(
        sha256=codes._hash("stop", code, talking.alice)
    )
    number = next(NUMBERS)
    assert "stopped" in said(f"/confirm {code}", number=number)
    pulled = Event.objects.filter(name="kill_switch.pulled").count()
    for _ in range(3):
        assert send(f"/confirm {code}", number=number) is None
    assert Event.objects.filter(name="kill_switch.pulled").count() == pulled
    assert ChatUpdate.objects.filter(update_id=number).count() == 1


def test_what_a_killed_process_was_about_to_do_is_done_when_the_update_comes_again(
    talking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = next(NUMBERS)

    def killed(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(preferences, "snooze", killed)
        with pytest.raises(SystemExit):
            send("/mute 3", number=number)
    assert not ChatUpdate.objects.filter(update_id=number).exists()
    assert "critical" in said("/mute 3", number=number)
    assert preferences.snoozed(preferences.of(talking.alice))


def test_an_error_undoes_what_its_command_did_and_is_answered(
    talking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preferences.snooze

    def half_done(person: Any, hours: int) -> None:
        real(person, hours)
        raise RuntimeError("secret detail")

    monkeypatch.setattr(preferences, "snooze", half_done)
    answer = said("/mute 3")
    assert answer == telegram.FAILED
    assert preferences.snoozed(preferences.of(talking.alice)) is None
    assert ChatUpdate.objects.filter(command="mute").exists()


def test_a_chat_that_asks_too_often_is_told_once(talking: World) -> None:
    with clock.frozen(clock.now().replace(second=1)):
        got = [send("/help") for _ in range(telegram.PER_MINUTE + 5)]
    texts = [one["text"] for one in got if one]
    assert texts.count(telegram.TOO_MANY) == 1
    assert len(texts) <= telegram.PER_MINUTE + 1
    assert got[-1] is None
    assert "Equity" in said("/status", BOB)


# -- row-level access control


def test_answers_hold_the_rows_of_who_asks(talking: World) -> None:
    mine, theirs = talking.of_alice, talking.of_bob
    assert f"#{mine.open_position.pk} " in said("/positions")
    assert f"#{theirs.open_position.pk} " not in said("/positions")
    for text in (
        "/why {0.position.pk}", "/why order {0.blocked.pk}", "/why signal {0.signal.pk}", "/trace {0.position.pk}",
        "/trace order {0.entry.pk}", "/trace {0.position.correlation_id}", "/why post {0.post.pk}",
    ):  # fmt: skip
        own, other = said(text.format(mine)), said(text.format(theirs))
        assert not own.startswith(("No ", "There is no")), own
        assert other.startswith(("No ", "There is no")), other
        assert theirs.post.account.x_username not in other


def test_answers_carry_the_text_of_the_post_as_a_quotation(talking: World) -> None:
    trade = talking.of_alice
    for text in (f"/why {trade.position.pk}", f"/trace {trade.position.pk}"):
        answer = said(text)
        assert f"> {trade.post.text}" in answer.split("\n")
        assert f"@{trade.post.account.x_username}" in answer
    row = Position.objects.select_related("signal").get(pk=trade.open_position.pk)
    assert row.signal
    row.signal.posts.set([trade.post])
    assert f"> {trade.post.text}" in said("/positions").split("\n")


def test_why_names_the_check_that_blocked_an_order(talking: World) -> None:
    answer = said(f"/why order {talking.of_alice.blocked.pk}")
    assert "10 s" in answer
    assert "900 s" in answer


def test_why_an_agent_did_not_trade(talking: World) -> None:
    agent = talking.of_alice.agent
    answer = said(f"/why {agent.name} BTC")
    assert f"{agent.name} did not trade BTC" in answer
    assert said("/why Nobody BTC").startswith("No agent 'Nobody'")


def test_a_wrong_command_is_answered_with_a_sentence(talking: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram, "PER_MINUTE", 1_000)
    wrong = [
        "/why",
        "/trace",
        "/why x",
        "/trace order",
        "/trace x y",
        "/why order 99999999999999999999",
        "/why 99999999999999999999",
        "/trace 99999999999999999999",
        "/pnl 0",
        "/pnl 99",
        "/pnl x",
        "/mute 99",
        "/mute -1",
        "/authors nobody_at_all",
        "/stop x",
        "/stop 999999",
        "/confirm",
        "/confirm x",
        "/nothing",
        "hello there",
        "/why order \u0661",
        "/trace position 0",
    ]
    for text in wrong:
        answer = said(text)
        assert answer != telegram.FAILED, text
        assert 10 < len(answer) < 700, text
    assert latched() == set()


def test_every_reading_command_answers_in_bounds(talking: World) -> None:
    builders.account(talking.of_alice.agent, username="cobie")
    for text in (
        "/status",
        "/profit",
        "/positions",
        "/pnl",
        "/pnl 31",
        "/authors",
        "/authors cobie",
        "/rules",
        "/help",
    ):
        answer = said(text)
        assert answer not in (telegram.FAILED, telegram.UNKNOWN)
        assert 0 < len(answer) <= answers.MAX_TEXT
    assert "price above 2000 USD" in said("/rules")
    assert "price above" not in said("/rules", BOB)


def test_a_million_characters_in_posts_make_no_long_answer(talking: World) -> None:
    trade = talking.of_alice
    trade.post.text = "/stop " + "\n" * 200 + "x" * 100_000
    trade.post.save()
    for text in (f"/why {trade.position.pk}", f"/trace {trade.position.pk}", "/positions"):
        assert len(said(text)) <= answers.MAX_TEXT


# -- stopping


def test_stop_asks_first_and_then_pulls_the_users_own_switches(talking: World) -> None:
    answer = send("/stop")
    assert answer
    assert latched() == set()
    ((button,),) = [row for row in answer["reply_markup"]["keyboard"]]
    done = said(button["text"])
    assert f"#{talking.of_alice.deployment.pk}" in done
    account = talking.of_alice.deployment.account
    assert latched() == {(account, str(KillLevel.NO_ENTRIES), stops.OWNER)}
    switch = KillSwitch.objects.get()
    assert switch.pulled_by == "alice by Telegram"
    assert stops.release(talking.of_alice.deployment, by="alice", reason="over") == []  # on the page


def test_a_stop_of_one_deployment(talking: World) -> None:
    answer = send(f"/stop {talking.of_alice.deployment.pk}")
    assert answer
    said(answer["reply_markup"]["keyboard"][0][0]["text"])
    assert len(latched()) == 1
    assert "no deployment" in said(f"/stop {talking.of_bob.deployment.pk}")


def test_a_code_confirms_once_in_time_and_for_its_user_alone(talking: World) -> None:
    answer = send("/stop")
    assert answer
    confirm = answer["reply_markup"]["keyboard"][0][0]["text"]
    assert "wrong" in said(confirm, BOB)
    assert latched() == set()
    late = int((clock.now() + codes.LIFETIME[ChatCode.STOP] + timedelta(seconds=2)).timestamp())
    with clock.frozen(clock.now() + timedelta(minutes=5)):
        assert "expired" in said(confirm, date=late)
    assert latched() == set()
    assert "stopped" in said(confirm)
    assert "used" in said(confirm)
    assert len(latched()) == 1


def test_a_confirmation_that_waited_for_a_bot_that_was_down_counts_from_when_it_was_sent(
    talking: World,
) -> None:
    answer = send("/stop")
    assert answer
    sent = int(clock.now().timestamp())
    with clock.frozen(clock.now() + timedelta(hours=2)):
        assert "stopped" in said(answer["reply_markup"]["keyboard"][0][0]["text"], date=sent)


def test_one_deployment_that_cannot_be_stopped_keeps_no_other_from_it(talking: World) -> None:
    shared = builders.deployment(builders.agent(owner=talking.bob), owner=talking.bob, account="paper:shared")
    builders.deployment(builders.agent(owner=talking.alice), owner=talking.alice, account=shared.account)
    done = stopping.stop_own(talking.alice, by="alice by Telegram")
    assert sorted(bool(one.problem) for one in done) == [False, True]
    assert {account for account, *_ in latched()} == {talking.of_alice.deployment.account}


def test_staff_stops_the_platform_and_customers_do_not(talking: World) -> None:
    assert "staff" in said("/stop platform")
    assert latched() == set()
    connect(talking.staff, STAFF)
    answer = send("/stop platform", STAFF)
    assert answer
    confirm = answer["reply_markup"]["keyboard"][0][0]["text"]
    assert latched() == set()
    assert "platform is stopped" in said(confirm, STAFF)
    assert latched() == {("", str(KillLevel.NO_ENTRIES), "manual")}
    answer = send("/stop platform", STAFF)
    assert answer
    said(answer["reply_markup"]["keyboard"][0][0]["text"], STAFF)
    assert len(latched()) == 1


def test_who_lost_the_permission_confirms_nothing(talking: World) -> None:
    connect(talking.staff, STAFF)
    answer = send("/stop platform", STAFF)
    assert answer
    User.objects.filter(pk=talking.staff.pk).update(is_superuser=False)
    said(answer["reply_markup"]["keyboard"][0][0]["text"], STAFF)
    assert latched() == set()


# -- notifications


def test_mute_and_notify_act_on_the_settings_of_the_page(talking: World) -> None:
    preferences.choose(
        talking.alice, ["stops"], None, None, "UTC", by_channel={"email": {"kinds": ["limits"]}}
    )
    said("/mute 2")
    assert preferences.snoozed(preferences.of(talking.alice))
    said("/mute 0")
    assert preferences.snoozed(preferences.of(talking.alice)) is None
    said("/notify_off")
    row = preferences.of(talking.alice)
    assert row.by_channel["telegram"] == {"kinds": [], "severity": "critical"}
    assert row.by_channel["email"]["kinds"] == ["limits"]
    stops.stop(talking.of_alice.deployment, KillLevel.NO_ENTRIES, by="alice", reason="drill")
    alerts.write()
    sent = Q(user=talking.alice, event__name="kill_switch.pulled", channel="telegram")
    assert not Alert.objects.filter(sent).exists()
    said("/notify_on")
    assert "telegram" not in preferences.of(talking.alice).by_channel
    alerts.write()
    assert not Alert.objects.filter(sent).exists()  # who hears of an event was decided when it happened
    stops.stop(talking.of_alice.deployment, KillLevel.FLATTEN, by="alice", reason="drill")
    alerts.write()
    assert Alert.objects.filter(sent).exists()


# -- roles


@pytest.fixture
def roles(talking: World) -> dict[str, int]:
    """Role -> a chat of it."""
    staff = {name: User.objects.create_user(name, is_staff=True) for name in ("clerk", "support", "operator")}
    staff["support"].groups.add(Group.objects.get(name=groups.SUPPORT))
    staff["operator"].groups.add(Group.objects.get(name=groups.OPERATORS))
    chats = {"stranger": STRANGER, "customer": ALICE}
    people = {
        "staff without permissions": staff["clerk"], "support": staff["support"], "operator": staff["operator"],
        "superuser": talking.staff,
    }  # fmt: skip
    for number, (role, person) in enumerate(people.items(), 2001):
        chats[role] = number
        connect(person, number)
    assert tuple(chats) == commands.ROLES
    return chats


def test_each_role_may_use_the_commands_of_the_matrix(
    roles: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram, "PER_MINUTE", 1_000)
    for role, chat in roles.items():
        for command in commands.COMMANDS.values():
            answer = send(f"/{command.name}", chat)
            if role == "stranger":
                assert answer is None
                continue
            assert answer
            refused = answer["text"].startswith(f"/{command.name} needs")
            assert refused is not commands.may(role, command), (role, command.name, answer["text"])


def test_the_document_holds_the_matrix() -> None:
    assert commands.matrix() in section("chat", "Who may use what"), (
        "write it again with `manage.py chat --matrix`"
    )


def test_staff_sees_the_rows_of_all_as_on_the_pages(talking: World) -> None:
    connect(talking.staff, STAFF)
    text = said("/positions", STAFF)
    assert f"#{talking.of_alice.open_position.pk} " in text
    assert f"#{talking.of_bob.open_position.pk} " in text


# -- the rest


def test_old_messages_and_codes_are_deleted(talking: World) -> None:
    said("/status")
    connecting.connect_code(talking.alice)
    assert tasks.tidy() == {"updates": 0, "codes": 0}
    with clock.frozen(clock.now() + tasks.KEEP + timedelta(days=1)):
        done = tasks.tidy()
    assert done["updates"] == 1
    assert done["codes"] >= 1
    assert not ChatUpdate.objects.exists()


def test_a_channel_that_is_not_offered_gives_no_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code = connecting.connect_code(world.alice)
    none = notify_policy.policy().model_copy(update={"offered": ("inbox",)})
    for module in (endpoints, connecting):
        monkeypatch.setattr(module, "policy", lambda: none)
    with pytest.raises(Rejected, match="does not offer"):
        connecting.connect_code(world.bob)
    assert send(f"/start {code}") is None
