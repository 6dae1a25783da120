"""Which contract stands at a Safe's address: its proxy, the code behind it, and what may interfere with our module.

A Safe is a proxy: whoever wrote its singleton or a guard of it decides what its functions do, whatever they answer.
So code and storage are read, and only Safe's own releases are accepted.
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
"""keccak of a proxy's deployed code -> release."""
SINGLETONS = {
    "0xd9Db270c1B5E3Bd161E8c8503c55cEABeE709552": "1.3.0",
    "0x3E5c63644E683549055b9Be8653de26E0B4CD36E": "1.3.0 L2",
    "0x69f4D1788e39c87893C980c06EdF4b7f686e2938": "1.3.0",
    "0xfb1bffC9d739B8D520DaF37dF666da4C687191EA": "1.3.0 L2",
    "0x41675C099F32341bf84BFc5382aF534df5C7461a": "1.4.1",
    SAFE_L2: "1.4.1 L2",
}
"""The canonical deployments and, of 1.3.0, those of the EIP-155 factory; as in safe-eth-py's list."""
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
    """What was read. The zero address stands for none."""

    code_hash: str
    """Of the proxy, hex without 0x."""
    singleton: str
    guard: str
    module_guard: str
    fallback_handler: str

    @property
    def objections(self) -> list[str]:
        """Why it may not be traded, each with what to do; none: it is one of Safe's own releases, unguarded."""
        wrong = []
        if self.code_hash not in PROXIES:
            wrong.append(
                f"its code (hash 0x{self.code_hash}) is no Safe proxy of {_releases(PROXIES)}: "
                "create a Safe with Safe's own factory"
            )
        if self.singleton not in SINGLETONS:
            wrong.append(
                f"its singleton {self.singleton} is none of Safe's releases {_releases(SINGLETONS)}: "
                "use a Safe on one of these"
            )
        if self.guard != ZERO_ADDRESS:
            wrong.append(
                f"a transaction guard stands at {self.guard} and may block what the owners sign, revoking the module "
                "too: remove it with setGuard(0x0), or plan another Safe"
            )
        if self.module_guard != ZERO_ADDRESS:
            wrong.append(
                f"a module guard stands at {self.module_guard} and may block every trade: remove it with "
                "setModuleGuard(0x0), or plan another Safe"
            )
        return wrong

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not touch trading, but the owners should know."""
        if self.fallback_handler in FALLBACK_HANDLERS or self.fallback_handler == ZERO_ADDRESS:
            return ()
        return (f"the Safe's fallback handler is {self.fallback_handler}, which is not Safe's own",)


def _releases(known: dict[str, str]) -> str:
    return ", ".join(sorted(set(known.values())))


def read(chain: Chain, safe: str) -> SafeContract:
    """The contract at the address, as the endpoints agree. Raises Retryable where they do not answer or agree."""
    code = chain.agreed(f"the code of {safe}", "eth_getCode", safe, "latest")
    return SafeContract(
        keccak(hexstr=code).hex(),
        *(
            _address(chain, safe, slot)
            for slot in (SINGLETON_SLOT, GUARD_SLOT, MODULE_GUARD_SLOT, FALLBACK_SLOT)
        ),
    )


def _address(chain: Chain, safe: str, slot: str) -> str:
    """The address that a storage slot of the Safe holds."""
    word = chain.agreed(f"a slot of {safe}", "eth_getStorageAt", safe, slot, "latest")
    return str(to_checksum_address("0x" + word.removeprefix("0x").zfill(64)[-40:]))
