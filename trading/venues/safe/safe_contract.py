"""Check the contract at a Safe's address: proxy code, singleton, guards and fallback handler.

A Safe is a proxy: its singleton and guards decide what its functions do, whatever they return. So code and storage are
read, and only Safe's official releases without guards are accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from eth_utils.crypto import keccak

from maxxit.evm.codec import ZERO_ADDRESS
from maxxit.evm.rpc import Chain


@dataclass(frozen=True, slots=True)
class Releases:
    """Safe's official releases that may be traded, as safe-eth-py lists them."""

    proxies: Mapping[str, str]
    """keccak-256 of a proxy's deployed code, hex -> release."""
    singletons: Mapping[str, str]
    fallback_handlers: frozenset[str]


@dataclass(frozen=True, slots=True)
class SafeContract:
    """What was read from the chain. The zero address means none."""

    code_hash: str
    """keccak-256 of the proxy's code, hex without 0x."""
    singleton: str
    guard: str
    module_guard: str
    fallback_handler: str
    releases: Releases

    @property
    def objections(self) -> list[str]:
        """Why the Safe must not be traded, each with the fix; empty for an official release without guards."""
        objections = []
        if self.code_hash not in self.releases.proxies:
            objections.append(
                f"its code (hash 0x{self.code_hash}) is not a Safe proxy of release {_names(self.releases.proxies)}: "
                "create a Safe with Safe's own factory"
            )
        if self.singleton not in self.releases.singletons:
            objections.append(
                f"its singleton {self.singleton} is not one of Safe's releases {_names(self.releases.singletons)}: "
                "use a Safe on one of these"
            )
        if self.guard != ZERO_ADDRESS:
            objections.append(
                f"it has a transaction guard, {self.guard}, which may block what the owners sign, also a "
                "revocation of the module: remove it with setGuard(0x0), or plan another Safe"
            )
        if self.module_guard != ZERO_ADDRESS:
            objections.append(
                f"it has a module guard, {self.module_guard}, which may block every trade: remove it with "
                "setModuleGuard(0x0), or plan another Safe"
            )
        return objections

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not affect trading but the owners should know."""
        if self.fallback_handler in self.releases.fallback_handlers | {ZERO_ADDRESS}:
            return ()
        return (f"the Safe's fallback handler is {self.fallback_handler}, which is not an official one",)


def _names(known: Mapping[str, str]) -> str:
    return ", ".join(sorted(set(known.values())))


def read(chain: Chain, safe: str) -> SafeContract:
    """Read the contract at the address, as the endpoints agree, all of one block.

    Raises Retryable where they do not answer or agree.
    """
    from safe_eth.eth.proxies import SafeProxy  # loads safe-eth-py

    from trading.venues.safe import library

    client = library.reading(chain)
    contract = library.safe_at(client, safe)
    return SafeContract(
        code_hash=keccak(contract.retrieve_code()).hex(),
        singleton=SafeProxy(contract.address, client).get_implementation_address(),
        guard=contract.retrieve_transaction_guard(),
        module_guard=contract.retrieve_module_guard(),
        fallback_handler=contract.retrieve_fallback_handler(),
        releases=Releases(library.proxies(), library.singletons(), library.fallback_handlers()),
    )
