"""Watched addresses on a real node: transfers of tokens and of the coin, once each, when they are final."""

import json
from datetime import timedelta
from decimal import Decimal as D
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from maxxit.core import clock
from maxxit.core.errors import InvalidInput, Misconfigured, Rejected
from maxxit.events.models import Event
from maxxit.evm.codec import encode_call
from maxxit.evm.rpc import Chain
from maxxit.notify import alerts
from maxxit.notify.models import Alert
from maxxit.ops.devchain.anvil import revert_to
from maxxit.ops.devchain.world import World, transact
from tests import builders as make
from tests.chain.lab import Lab
from trading.chain import chains, transfers
from trading.chain.models import TransferScan, WatchedAddress
from trading.tasks import watch_transfers

pytestmark = [pytest.mark.chain, pytest.mark.django_db]
ETHER = 10**18


@pytest.fixture
def world(
    environment: None, sending_lab: Lab, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> World:
    """The local chain, on which a block is final when two more are on top of it."""
    sending_lab.fresh()
    settings.DATA_DIR = tmp_path
    sending_lab.world.save(tmp_path / "chain" / "world.json")
    stanza = chains.stanza("local").model_copy(update={"finality_depth": 3})
    known = chains._chains().model_copy()
    object.__setattr__(known, "__pydantic_extra__", {**chains.all_chains(), "local": stanza})
    monkeypatch.setattr(chains, "_chains", lambda: known)
    return sending_lab.world


def mine(world: World, blocks: int = 2) -> None:
    for _ in range(blocks):
        world.rpc("evm_mine")


def watched(world: World, role: str = "rogue", **values: Any) -> WatchedAddress:
    given: dict[str, Any] = {"label": "Treasury", "min_usd": D(0)} | values
    return transfers.add("local", world.accounts[role], **given)


def pay(world: World, to: str, wei: int, *, by: str = "trader") -> str:
    receipt: dict[str, Any] = transact(world.rpc, world.accounts[by], to, b"", wei)
    return str(receipt["transactionHash"])


def reported() -> list[dict[str, Any]]:
    return list(Event.objects.filter(name=transfers.EVENT).order_by("pk").values_list("data", flat=True))


def test_a_transfer_is_reported_once_and_only_when_it_is_final(world: World) -> None:
    row = watched(world)
    assert watch_transfers() == 0  # begins now
    world.mint("USDC", world.accounts["trader"], 1_000 * 10**6)
    data = encode_call("transfer(address,uint256)", row.address, 250 * 10**6)
    receipt = world.send("trader", world.address_of("USDC"), data)
    assert watch_transfers() == 0
    mine(world)
    assert watch_transfers() == 1
    mine(world, 5)
    assert watch_transfers() == 0

    [one] = reported()
    assert (one["direction"], one["asset"], one["amount"], one["usd"]) == ("in", "USDC", "250", "250")
    assert (one["chain"], one["address"], one["label"]) == ("local", row.address, "Treasury")
    assert one["counterparty"] == world.accounts["trader"]
    assert one["block"] == int(receipt["blockNumber"], 16)
    assert one["text"] == (
        "250 USDC (about 250.00 USD) arrived at Treasury on local, from " + world.accounts["trader"]
    )


def test_the_coin_of_a_transaction_is_reported_on_both_sides_and_a_failed_one_is_not(world: World) -> None:
    watched(world, "rogue", label="A")
    watched(world, "guardian", label="B")
    watch_transfers()
    make.price("ETH", "2000")
    pay(world, world.accounts["guardian"], 3 * ETHER, by="rogue")
    world.rpc("evm_setAutomine", False)
    request = {"from": world.accounts["rogue"], "to": world.usdc, "value": hex(ETHER), "gas": hex(100_000)}
    failed = world.rpc("eth_sendTransaction", request)  # a token takes no coins
    world.rpc("evm_mine")
    world.rpc("evm_setAutomine", True)
    assert int(world.rpc("eth_getTransactionReceipt", failed)["status"], 16) == 0
    mine(world)

    assert watch_transfers() == 2
    assert [(one["label"], one["direction"], one["amount"], one["usd"]) for one in reported()] == [
        ("A", "out", "3", "6000"),
        ("B", "in", "3", "6000"),
    ]


def test_what_is_worth_less_than_its_threshold_is_left_out_and_what_has_no_price_is_not(world: World) -> None:
    row = watched(world, min_usd=D(5_000))
    watch_transfers()
    pay(world, row.address, ETHER)
    mine(world)
    assert watch_transfers() == 1
    assert reported()[0]["usd"] is None
    assert "no price" in reported()[0]["text"]

    make.price("ETH", "2000")
    pay(world, row.address, 2 * ETHER)
    pay(world, row.address, 3 * ETHER)
    mine(world)
    assert watch_transfers() == 1
    assert reported()[1]["amount"] == "3"


def test_a_block_that_is_taken_back_before_it_is_final_was_never_reported(world: World) -> None:
    row = watched(world)
    watch_transfers()
    before = world.rpc("evm_snapshot")
    pay(world, row.address, ETHER)
    assert watch_transfers() == 0
    revert_to(world.rpc, before)
    mine(world, 5)

    assert watch_transfers() == 0
    assert reported() == []


def test_a_pass_reads_bounded_ranges_and_goes_on_where_the_last_one_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "BLOCKS", 3)
    monkeypatch.setattr(transfers, "BATCH", 2)
    row = watched(world)
    watch_transfers()
    begins = TransferScan.objects.get().scanned_to
    for _ in range(4):
        pay(world, row.address, ETHER)
        mine(world)
    ranges: list[tuple[int, int]] = []
    logs = Chain.logs

    def noted(chain: Chain, start: int, end: int, filters: Any) -> Any:
        ranges.append((start, end))
        if len(ranges) == 2:
            raise KeyError("the node answers nonsense")
        return logs(chain, start, end, filters)

    monkeypatch.setattr(Chain, "logs", noted)
    watch_transfers()  # the second range fails
    assert TransferScan.objects.get().scanned_to == begins + 3
    assert len(reported()) == 1
    watch_transfers()

    assert len(reported()) == 4
    assert ranges[0] == (begins + 1, begins + 3)
    assert ranges[1] == ranges[2] == (begins + 4, begins + 6)
    assert all(end - start < 3 for start, end in ranges)


def test_its_user_and_staff_are_told(world: World) -> None:
    ann, root = User.objects.create(username="ann"), User.objects.create(username="root", is_staff=True)
    row = watched(world, user=ann)
    watch_transfers()
    pay(world, row.address, ETHER)
    mine(world)
    watch_transfers()
    alerts.write()

    told = {(alert.user_id, alert.channel) for alert in Alert.objects.filter(event__name=transfers.EVENT)}
    assert told == {(ann.pk, "inbox"), (root.pk, "inbox")}
    assert "1 ETH" in alerts.text_of(Alert.objects.filter(user=ann).get())


def test_an_address_without_a_valid_checksum_or_of_an_unknown_chain_is_refused(world: World) -> None:
    address = world.accounts["rogue"]
    with pytest.raises(Rejected, match="checksum"):
        transfers.add("local", address.lower(), label="", min_usd=D(0))
    with pytest.raises(Misconfigured, match="known: "):
        transfers.add("moon", address, label="", min_usd=D(0))
    with pytest.raises(Rejected, match="0 or more"):
        transfers.add("local", address, label="", min_usd=D(-1))
    watched(world)
    with pytest.raises(Rejected, match="watched already"):
        watched(world)
    with pytest.raises(Rejected, match="60 at most"):
        watched(world, "guardian", label="x" * 61)


def test_a_user_who_adds_an_address_is_notified_alone_and_staff_that_watches_it_as_well_by_its_own(
    world: World,
) -> None:
    ann, bob = User.objects.create(username="ann"), User.objects.create(username="bob")
    root = User.objects.create(username="root", is_staff=True)
    address = world.accounts["rogue"]
    own = transfers.add_own(ann, "local", address, label="Hers", min_usd=D(0))
    transfers.add_own(bob, "local", address, label="His", min_usd=D(10**6))
    watch_transfers()
    make.price("ETH", "2000")
    pay(world, address, ETHER)
    mine(world)
    assert watch_transfers() == 1
    alerts.write()
    [alert] = Alert.objects.filter(event__name=transfers.PRIVATE_EVENT)
    assert (alert.user_id, alert.event.subject) == (ann.pk, f"trading.watchedaddress/{own.pk}")
    assert "arrived at Hers" in alerts.text_of(alert)

    watched(world)
    pay(world, address, ETHER)
    mine(world)
    assert watch_transfers() == 2
    alerts.write()
    assert [one.user_id for one in Alert.objects.filter(event__name=transfers.EVENT)] == [root.pk]
    assert Alert.objects.filter(event__name=transfers.PRIVATE_EVENT, user=ann).count() == 2


def test_more_addresses_than_a_filter_has_topics_are_read_in_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "TOPICS", 1)
    first, second = watched(world, "rogue"), watched(world, "guardian")
    watch_transfers()
    for row in (first, second):
        world.mint("USDC", row.address, 10**6)
    mine(world)
    assert watch_transfers() == 2
    assert {one["address"] for one in reported()} == {first.address, second.address}


def test_a_busy_address_is_reported_so_often_a_day_and_says_when_it_is_the_last_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = chains.watch_limits().model_copy(update={"reports_per_day": 2})
    monkeypatch.setattr(chains, "watch_limits", lambda: limits)
    row = watched(world)
    watch_transfers()
    for _ in range(3):
        world.mint("USDC", row.address, 10**6)
        mine(world)
    assert watch_transfers() == 2
    first, last = reported()
    assert "last one reported today" not in first["text"]
    assert "last one reported today (UTC): 2 are the most" in last["text"]
    world.mint("USDC", row.address, 10**6)
    mine(world)
    assert watch_transfers() == 0

    WatchedAddress.objects.update(day=clock.now().date() - timedelta(days=1))
    world.mint("USDC", row.address, 10**6)
    mine(world)
    assert watch_transfers() == 1


def test_what_a_user_adds_is_refused_by_field(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, address = User.objects.create(username="ann"), world.accounts["rogue"]

    def refused(chain: str = "local", address: str = address, label: str = "", min_usd: D = D(0)) -> Any:
        with pytest.raises(InvalidInput) as error:
            transfers.add_own(ann, chain, address, label=label, min_usd=min_usd)
        return error.value.problems

    assert refused("moon") == {"chain": "no chain 'moon' is read here; known: local"}
    assert "checksum" in refused(address=address.lower())["address"]
    assert "0 or more" in refused(min_usd=D(-1))["min_usd"]
    assert "on one line" in refused(label="a\nb")["label"]
    transfers.add_own(ann, "local", address, label="", min_usd=D(0))
    assert "is watched already" in refused()["address"]
    limits = chains.watch_limits().model_copy(update={"per_user": 1})
    monkeypatch.setattr(chains, "watch_limits", lambda: limits)
    assert refused(address=world.accounts["guardian"])["address"] == (
        "you watch 1 addresses, the most of one user: remove one first"
    )
    limits = chains.watch_limits().model_copy(update={"per_user": 9, "per_chain": 1})
    assert "1 addresses of local are watched" in refused(address=world.accounts["guardian"])["address"]


def test_a_user_removes_what_they_added_and_not_what_staff_watches_for_them(world: World) -> None:
    ann = User.objects.create(username="ann")
    theirs = watched(world, user=ann)
    with pytest.raises(Rejected, match="staff watches Treasury for you"):
        transfers.remove_own(theirs)
    own = transfers.add_own(ann, "local", world.accounts["guardian"], label="", min_usd=D(0))
    assert list(transfers.of_user(ann)) == sorted((theirs, own), key=lambda row: row.address)
    transfers.remove_own(own)
    assert list(transfers.of_user(ann)) == [theirs]


def test_what_is_watched_no_more_is_not_reported_and_a_later_address_begins_anew(world: World) -> None:
    row = watched(world)
    watch_transfers()
    transfers.remove(row)
    pay(world, row.address, ETHER)
    mine(world)
    assert watch_transfers() == 0
    ann = User.objects.create(username="ann")
    watched(world, user=ann)
    watch_transfers()
    ann.delete()  # its address with it
    pay(world, row.address, ETHER)
    mine(world)
    watched(world)
    assert watch_transfers() == 0
    assert reported() == []


def test_the_command_adds_lists_renames_and_removes(world: World) -> None:
    user = User.objects.create_user("alice")
    place = ["--chain", "local", "--address", world.accounts["rogue"]]

    def run(action: str, *words: str) -> Any:
        out = StringIO()
        call_command("addresses", action, *words, "--json", stdout=out)
        return json.loads(out.getvalue())

    added = run("add", *place, "--label", "Treasury", "--min-usd", "1000", "--user", user.username)
    assert added == {
        "chain": "local", "address": world.accounts["rogue"], "label": "Treasury", "min_usd": "1000", "user": "alice",
        "private": False,
    }  # fmt: skip
    assert run("list") == [added]
    assert run("label", *place, "--label", "Reserve") == added | {"label": "Reserve"}
    staff = run("add", *place)
    assert run("label", *place, "--label", "Ours") == staff | {"label": "Ours"}
    assert run("remove", *place, "--user", "") == staff | {"label": "Ours"}
    assert run("remove", *place) == added | {"label": "Reserve"}
    assert run("list") == []
    with pytest.raises(CommandError, match="is not watched"):
        run("remove", *place)
    with pytest.raises(CommandError, match="60 at most"):
        run("add", *place, "--label", "x" * 61)
