"""Reading a chain: many calls in one request by Multicall3, encoded with eth_abi directly.

web3.py's object layer costs sixty times as much per read, and this floor may not know the trading floor's client.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from maxxit.core.errors import Rejected, Retryable
from maxxit.core.http import Client
from maxxit.market.feeds import wire

MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
"""The same address on every chain that has it."""
MOST_CALLS = 500
"""Per request: nodes cap gas and body of an eth_call."""


def selector(signature: str) -> bytes:
    """The first four bytes of a function's hash."""
    return bytes(keccak(text=signature)[:4])


AGGREGATE3 = selector("aggregate3((address,bool,bytes)[])")
BLOCK_TIME = selector("getCurrentBlockTimestamp()")


def rpc(http: Client, method: str, params: list[Any]) -> Any:
    """The result of one JSON-RPC call. Raises Rejected for the node's own error, Retryable without an answer."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = wire.ask(http, "POST", "", json=body)
    with wire.shaped(method):
        if "error" in answer:
            raise Rejected(f"{method}: {answer['error'].get('message')}", code="rpc_error")
        return answer["result"]


def aggregate(
    http: Client, calls: Sequence[tuple[str, bytes]], *, multicall: str = MULTICALL3
) -> tuple[int, list[bytes | None]]:
    """(Unix time of the oldest block read, the answer of each call or None where it reverted), all in few requests."""
    answers: list[bytes | None] = []
    times: list[int] = []
    for page in _pages(calls):
        packed = [(to, True, data) for to, data in [(multicall, BLOCK_TIME), *page]]
        data = AGGREGATE3 + encode(["(address,bool,bytes)[]"], [packed])
        raw = rpc(http, "eth_call", [{"to": multicall, "data": "0x" + data.hex()}, "latest"])
        with wire.shaped("Multicall3"):
            (results,) = decode(["(bool,bytes)[]"], bytes.fromhex(raw[2:]))
            if len(results) != len(packed):
                raise Retryable(f"Multicall3 answered {len(results)} of {len(packed)} calls")
            times.append(int.from_bytes(results[0][1], "big"))
            answers += [said if ok else None for ok, said in results[1:]]
    return min(times, default=0), answers


def _pages(calls: Sequence[tuple[str, bytes]]) -> Iterator[Sequence[tuple[str, bytes]]]:
    for first in range(0, len(calls), MOST_CALLS):
        yield calls[first : first + MOST_CALLS]
