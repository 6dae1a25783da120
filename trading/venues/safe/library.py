"""safe-eth-py for Safes on our chains: its contracts and addresses, read and encoded through our RPC client.

Loading it takes 0.6 s of CPU and 30 MB, web3 included (`python -m tests.bench.chain_libraries`), so this module is
imported inside the functions that need it, never when a process starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

from eth_abi.exceptions import DecodingError
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from safe_eth.eth import EthereumClient, EthereumNetwork
from safe_eth.eth.contracts import get_proxy_1_3_0_deployed_bytecode, get_proxy_1_4_1_deployed_bytecode
from safe_eth.safe import ProxyFactory, Safe
from safe_eth.safe.addresses import MASTER_COPIES
from safe_eth.safe.safe_deployments import default_safe_deployments
from web3 import Web3
from web3.exceptions import Web3Exception

from maxxit.core.errors import Rejected
from maxxit.evm import provider
from maxxit.evm.rpc import Chain, Fault
from trading.reasons import Reason

NEW_SAFES = "1.4.1"
"""The release of Safes that we create. Hash and functions of a Safe transaction are the same for 1.3.0."""
SETUP_LIBRARY = "1.5.0"
"""The release of MultiSendCallOnly that sets up new Safes: only from it on the zero address stands for the Safe itself,
whose own address depends on the calls and therefore cannot be among them."""
RELEASES = ("1.3.0", "1.4.1")
"""The releases that may be traded."""


class QuorumClient(EthereumClient):
    """safe-eth-py's client of a node, without a connection of its own: `web3` is all that it reads through."""

    def __init__(self, web3: Web3) -> None:
        # not super().__init__(): it opens an HTTP session to a URL
        self._cache: dict[str, Any] = {}
        self.w3 = self.slow_w3 = web3
        self.http_session = None  # type: ignore[assignment]

    def raw_batch_request(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise: the library would post these to a URL itself."""
        raise NotImplementedError("batches of safe-eth-py are not sent: read the values one by one")


def offline(chain_id: int) -> QuorumClient:
    """Return a client that encodes and hashes for the chain, without reading it."""
    return QuorumClient(provider.offline(chain_id))


def reading(chain: Chain) -> QuorumClient:
    """Return a client that reads the chain by votes, all of one block."""
    return QuorumClient(provider.reading(chain))


def deployed(contract: str, release: str = NEW_SAFES) -> ChecksumAddress:
    """Return the canonical address, the same on every chain, of a contract of Safe's, such as "SafeL2"."""
    return to_checksum_address(default_safe_deployments[release][contract][0])


def require_setup_contracts(chain: Chain) -> None:
    """Raise Rejected unless the chain has the contracts of Safe's that create a Safe with a policy."""
    client = reading(chain)
    for contract, release in (
        ("SafeProxyFactory", NEW_SAFES),
        ("SafeL2", NEW_SAFES),
        ("CompatibilityFallbackHandler", NEW_SAFES),
        ("MultiSendCallOnly", SETUP_LIBRARY),
    ):
        address = deployed(contract, release)
        if not client.w3.eth.get_code(address):
            raise Rejected(
                f"Safe's {contract} {release} is not at {address} on chain {chain.chain_id}: create the Safe at "
                "app.safe.global and give its address here",
                code="no_setup_contracts",
            )


def safe_at(client: QuorumClient, address: str) -> Safe:
    """Return safe-eth-py's Safe at the address."""
    return Safe(to_checksum_address(address), client, version=NEW_SAFES)  # type: ignore[abstract]


def proxy_factory(client: QuorumClient) -> ProxyFactory:
    """Return the factory that creates Safes."""
    return ProxyFactory(deployed("SafeProxyFactory"), client, version=NEW_SAFES)  # type: ignore[abstract]


@contextmanager
def read_safe(chain: Chain, address: str) -> Iterator[Safe]:
    """Give safe-eth-py's Safe at the address, for reads. Raises Rejected where its answers are not those of a Safe."""
    try:
        yield safe_at(reading(chain), address)
    except (Fault, Web3Exception, DecodingError, OverflowError) as error:
        raise Rejected(
            f"{address} is not a Safe on chain {chain.chain_id}", code=Reason.NOT_A_SAFE
        ) from error


@cache
def proxies() -> dict[str, str]:
    """Return keccak-256 of a proxy's deployed code, hex -> release."""
    codes = (get_proxy_1_3_0_deployed_bytecode(), get_proxy_1_4_1_deployed_bytecode())
    return {keccak(code).hex(): release for code, release in zip(codes, RELEASES, strict=True)}


@cache
def singletons() -> dict[str, str]:
    """Return singleton -> release, "L2" included: the deployments that are the same on every chain."""
    return {
        address: release.replace("+", " ")
        for address, _, release in MASTER_COPIES[EthereumNetwork.MAINNET]
        if release.partition("+")[0] in RELEASES
    }


@cache
def fallback_handlers() -> frozenset[str]:
    """Return Safe's own fallback handlers of these releases."""
    return frozenset(
        address
        for release in RELEASES
        for address in default_safe_deployments[release]["CompatibilityFallbackHandler"]
    )
