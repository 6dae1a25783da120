"""web3 over our RPC client: what web3 and safe-eth-py read goes through the same endpoints, votes and time limits.

Loading web3 takes 0.3 s of CPU and 12 MB (`python -m tests.bench.chain_libraries`), so this module is imported inside
the functions that need it, never when a process starts.
"""

from functools import cache, cached_property
from typing import Any

from web3 import Web3
from web3.contract import Contract
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from maxxit.evm import facts
from maxxit.evm.rpc import Chain

BLOCK_OF = {
    "eth_call": 1,
    "eth_getBalance": 1,
    "eth_getCode": 1,
    "eth_getStorageAt": 2,
    "eth_getTransactionCount": 1,
}
"""Method -> position of the block among its parameters. Nothing else is read, and nothing is sent."""


class VotingProvider(JSONBaseProvider):
    """Answers web3's reads with values that more than half of the configured endpoints agree on, all of one block.

    The block is the head when the first value is read. Raises Retryable without a majority, Fault for a revert.
    """

    global_ccip_read_enabled = False  # otherwise a contract could make web3 fetch URLs that it names

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain

    @cached_property
    def block(self) -> str:
        """The block that is read, hex."""
        return hex(self.chain.head().number)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Return the agreed answer. Raises NotImplementedError for a method that reads no state, or that sends."""
        return _response(method, self._read(method, list(params)))

    def _read(self, method: str, params: list[Any]) -> str:
        if method == "eth_chainId":
            return hex(self.chain.chain_id)
        if method not in BLOCK_OF:
            raise NotImplementedError(
                f"{method} is not read through web3: transactions leave by the outbox only"
            )
        position = BLOCK_OF[method]
        if params[position] == "latest":
            params[position] = self.block
        if method == "eth_call":
            return self.chain.agreed_call(params[0], params[1])
        fact = self.chain.agreed(f"{method} of {params[0]}", method, *params)
        return hex(fact) if facts.FACTS[method] is facts.count else str(fact)


class OfflineProvider(JSONBaseProvider):
    """Answers only which chain it is: for encoding and decoding."""

    global_ccip_read_enabled = False

    def __init__(self, chain_id: int) -> None:
        super().__init__()
        self.chain_id = chain_id

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Return the chain id. Raises NotImplementedError for every other method."""
        if method != "eth_chainId":
            raise NotImplementedError(f"{method}: this web3 has no chain to read")
        return _response(method, hex(self.chain_id))


def _response(method: str, result: str) -> RPCResponse:
    return {"jsonrpc": "2.0", "id": 0, "result": result}


def reading(chain: Chain) -> Web3:
    """Return a web3 that reads the chain by votes, all of one block."""
    return Web3(VotingProvider(chain), middleware=[])


@cache
def offline(chain_id: int = 0) -> Web3:
    """Return a web3 that encodes and decodes, without a connection."""
    return Web3(OfflineProvider(chain_id), middleware=[])


def calldata(contract: type[Contract] | Contract, function: str, *args: Any) -> bytes:
    """Return the calldata of a contract's function."""
    return bytes.fromhex(contract.encode_abi(function, args=args).removeprefix("0x"))
