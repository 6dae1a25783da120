"""Targets: what nodes answer (the zoo of clients), the module's events, and keystores."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple

from maxxit.evm import facts
from maxxit.evm.node_errors import fees_named, range_suggested, refusal
from maxxit.evm.rpc import Endpoint, Fault
from tests.fuzz.door import DOOR, Outcome, Target
from trading.chain import signer
from trading.venues.safe.contract import module

ZOO = Path(__file__).parents[1] / "chain/zoo"
NODE = Endpoint("http://127.0.0.1:1", 1.0)
MODULE = "0x" + "aa" * 20
WEAK = "a good long password"


def zoo(name: str, part: str) -> list[bytes]:
    found = json.loads((ZOO / f"{name}.json").read_text())["entries"]
    return [json.dumps({"jsonrpc": "2.0", "id": 1, part: one[part]}).encode() for one in found]


def asked(method: str) -> Any:
    NODE._ids, NODE.takes_batches = itertools.count(1), True
    return NODE.call(method)


def fact(method: str) -> Callable[[bytes], Outcome]:
    """An answer as the fact it states. It is whole or refused: nothing is decided by half of one."""

    def read(data: bytes) -> Outcome:
        DOOR.says(data)
        try:
            found = facts.of(method, asked(method))
        except facts.Malformed:
            return Outcome(0, 1, 1)
        if isinstance(found, facts.Receipt):
            found = found.logs
        if isinstance(found, tuple):
            said = json.loads(data)["result"]
            rows = said["logs"] if isinstance(said, dict) else said
            module.decode_logs([log.as_json() for log in found], MODULE)
            return Outcome(len(found), sum(row.get("removed") is True for row in rows), len(rows))
        return Outcome(1)

    return read


def refused(method: str) -> Callable[[bytes], Outcome]:
    """A node's no, in whatever words."""

    def read(data: bytes) -> Outcome:
        DOOR.says(data)
        try:
            asked(method)
        except Fault as no:
            refusal(no.text)
            fees_named(no.text, 3_500_000_000, 1_500_000_000)
            range_suggested(no.text)
            raise
        return Outcome(1)

    return read


def batch(data: bytes) -> Outcome:
    """Two answers to one request: both, or an error."""
    DOOR.says(data)
    NODE._ids, NODE.takes_batches = itertools.count(1), True
    found = NODE.batch([("eth_chainId", ()), ("eth_blockNumber", ())])
    return Outcome(len(found), 0, 2)


def events() -> bytes:
    """A log of every event of the module that has none but static fields, and one of another contract."""
    logs: list[dict[str, Any]] = []
    for topic, event in module.events().items():
        inputs = event.abi["inputs"]
        kinds = [collapse_if_tuple(part) for part in inputs if not part["indexed"]]
        indexed = len(inputs) - len(kinds)
        values = [_zero(kind) for kind in kinds]
        logs.append(
            {
                "address": MODULE, "topics": [topic, *["0x" + "00" * 32] * indexed],
                "data": "0x" + encode(kinds, values).hex(), "blockNumber": "0x10",
                "transactionHash": "0x" + "11" * 32, "logIndex": hex(len(logs)), "removed": False,
            }
        )  # fmt: skip
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": logs[:6]}).encode()


def _zero(kind: str) -> Any:
    if kind.endswith("]"):
        return []
    if kind.startswith("("):
        return tuple(_zero(one) for one in kind[1:-1].split(","))
    if kind == "address":
        return "0x" + "00" * 20
    if kind == "bool":
        return False
    if kind.startswith("bytes"):
        return bytes(int(kind[5:] or "0"))
    return "" if kind == "string" else 0


def keystores() -> list[bytes]:
    """A keystore of our own, cheap to open, as we and as ethers write it."""
    from eth_account import Account

    ours = Account.encrypt(b"\x07" * 32, WEAK, kdf="pbkdf2", iterations=2)
    scrypt = Account.encrypt(b"\x07" * 32, WEAK, kdf="scrypt", iterations=2)
    ethers = {
        "Crypto": scrypt["crypto"],
        **{name: value for name, value in scrypt.items() if name != "crypto"},
    }
    return [json.dumps(one).encode() for one in (ours, scrypt, ethers)]


def keystore(data: bytes) -> Outcome:
    """It opens with its address, or the operator is told which field is wrong."""
    if b"\0" in data:  # no environment holds one
        return Outcome(0, 1, 1)
    text = data.decode(errors="replace")
    given = text if text.lstrip().startswith("{") else "{" + text
    with patch.dict(os.environ, EXECUTOR_KEYSTORE=given, EXECUTOR_PASSWORD=WEAK):
        found = signer.keystore()
        if cheap(found["crypto"]):
            signer._decrypted(signer.CURRENT, 42161)
        if "address" in found:
            signer.executor_address()
    return Outcome(1)


def cheap(crypto: dict[str, Any]) -> bool:
    """Whether opening it is quick; what is dear is refused by its parameters, or opened once in production."""
    params = crypto["kdfparams"]
    return bool(params.get("n", 1) * params.get("r", 1) * params.get("p", 1) * params.get("c", 1) <= 1_000)


TARGETS: dict[str, Target] = {
    "receipts": Target(zoo("receipts", "result"), fact("eth_getTransactionReceipt")),
    "blocks": Target(zoo("blocks", "result"), fact("eth_getBlockByNumber")),
    "logs": Target([events()], fact("eth_getLogs")),
    "refused transactions": Target(zoo("send_errors", "error"), refused("eth_sendRawTransaction")),
    "refused ranges": Target(zoo("log_errors", "error"), refused("eth_getLogs")),
    "reverted calls": Target(zoo("call_errors", "error"), refused("eth_call")),
    "batches": Target(
        [b'[{"jsonrpc": "2.0", "id": 1, "result": "0x1"}, {"jsonrpc": "2.0", "id": 2, "result": "0x10"}]'],
        batch,
    ),
    "keystores": Target(keystores(), keystore),
}
