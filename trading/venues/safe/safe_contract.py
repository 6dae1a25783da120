"""Check the contract at a Safe's address: proxy code, singleton, guards and fallback handler.

A Safe is a proxy: its singleton and guards decide what its functions do, whatever they return. So code and storage are
read, and only Safe's official releases without guards are accepted.
"""

from dataclasses import dataclass

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.evm.codec import ZERO_ADDRESS
from maxxit.evm.rpc import Chain
from trading.venues.safe.onboarding import FALLBACK_HANDLER, SAFE_L2

PROXIES = {
    "b89c1b3bdf2cf8827818646bce9a8f6e372885f8c55e5c07acbd307cb133b000": "1.3.0",
    "d7d408ebcd99b2b70be43e20253d6d92a8ea8fab29bd3be7f55b10032331fb4c": "1.4.1",
}
"""keccak-256 of a proxy's deployed code -> release."""
SINGLETONS = {
    "0xd9Db270c1B5E3Bd161E8c8503c55cEABeE709552": "1.3.0",
    "0x3E5c63644E683549055b9Be8653de26E0B4CD36E": "1.3.0 L2",
    "0x69f4D1788e39c87893C980c06EdF4b7f686e2938": "1.3.0",
    "0xfb1bffC9d739B8D520DaF37dF666da4C687191EA": "1.3.0 L2",
    "0x41675C099F32341bf84BFc5382aF534df5C7461a": "1.4.1",
    SAFE_L2: "1.4.1 L2",
}
"""Canonical deployments and, for 1.3.0, those of the EIP-155 factory; from safe-eth-py's address list."""
FALLBACK_HANDLERS = frozenset(
    {
        FALLBACK_HANDLER,
        "0xf48f2B2d2a534e402487b3ee7C18c33Aec0Fe5e4",
        "0x017062a1dE2FE6b99BE3d9d37841FeD19F573804",
    }
)

SINGLETON_SLOT = "0x0"
GUARD_SLOT = "0x" + keccak(text="guard_manager.guard.address").hex()
MODULE_GUARD_SLOT = "0x" + keccak(text="module_manager.module_guard.address").hex()
FALLBACK_SLOT = "0x" + keccak(text="fallback_manager.handler.address").hex()


@dataclass(frozen=True, slots=True)
class SafeContract:
    """What was read from the chain. The zero address means none."""

    code_hash: str
    """keccak-256 of the proxy's code, hex without 0x."""
    singleton: str
    guard: str
    module_guard: str
    fallback_handler: str

    @property
    def objections(self) -> list[str]:
        """Why the Safe must not be traded, each with the fix; empty for an official release without guards."""
        objections = []
        if self.code_hash not in PROXIES:
            objections.append(
                f"its code (hash 0x{self.code_hash}) is not a Safe proxy of release {_releases(PROXIES)}: "
                "create a Safe with Safe's own factory"
            )
        if self.singleton not in SINGLETONS:
            objections.append(
                f"its singleton {self.singleton} is not one of Safe's releases {_releases(SINGLETONS)}: "
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
        if self.fallback_handler in FALLBACK_HANDLERS or self.fallback_handler == ZERO_ADDRESS:
            return ()
        return (f"the Safe's fallback handler is {self.fallback_handler}, which is not an official one",)


def _releases(known: dict[str, str]) -> str:
    return ", ".join(sorted(set(known.values())))


def read(chain: Chain, safe: str) -> SafeContract:
    """Read the contract at the address, as the endpoints agree. Raises Retryable where they do not answer or agree."""
    code = chain.agreed(f"the code of {safe}", "eth_getCode", safe, "latest")
    return SafeContract(
        keccak(hexstr=code).hex(),
        *(
            _address(chain, safe, slot)
            for slot in (SINGLETON_SLOT, GUARD_SLOT, MODULE_GUARD_SLOT, FALLBACK_SLOT)
        ),
    )


def _address(chain: Chain, safe: str, slot: str) -> str:
    """Read the address in a storage slot of the Safe."""
    word = chain.agreed(f"a slot of {safe}", "eth_getStorageAt", safe, slot, "latest")
    return str(to_checksum_address("0x" + word.removeprefix("0x").zfill(64)[-40:]))
