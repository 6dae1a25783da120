"""A wallet for tests of the pages that signs and sends transactions on the local chain."""

from typing import Any

from eth_account import Account
from eth_utils.address import to_checksum_address

from maxxit.ops.devchain.anvil import Rpc, RpcError
from tests.browser import Wallet, WalletError

READS = {
    "eth_estimateGas", "eth_gasPrice", "eth_getBalance", "eth_call", "eth_getTransactionReceipt", "eth_blockNumber",
}  # fmt: skip


class ChainWallet(Wallet):
    """A wallet with one key, connected to the local chain. `sent` holds the hashes of its transactions."""

    def __init__(self, url: str, key: bytes, chain_id: int = 31337) -> None:
        super().__init__("0x" + key.hex(), chain_id)
        self.rpc = Rpc(url)
        self.sent: list[str] = []
        self.gas_limit = 0
        """Overrides the limit that the page asks for; 0: does not."""

    def request(self, method: str, params: Any) -> Any:
        """Answer as a wallet does. Raises WalletError."""
        if method in READS and method not in self.refuses:
            return self._asked(method, params or [])
        if method == "eth_sendTransaction" and method not in self.refuses:
            return self._sent(params[0])
        return super().request(method, params)

    def _asked(self, method: str, params: list[Any]) -> Any:
        try:
            return self.rpc(method, *params)
        except RpcError as error:
            raise WalletError(-32603, str(error)) from error

    def _sent(self, call: dict[str, Any]) -> str:
        nonce = int(self.rpc("eth_getTransactionCount", self.address, "latest"), 16)
        price = int(self.rpc("eth_gasPrice"), 16)
        transaction = {
            "to": to_checksum_address(call["to"]),
            "data": call["data"],
            "value": int(call.get("value", "0x0"), 16),
            "nonce": nonce,
            "gas": self.gas_limit or int(call["gas"], 16),
            "maxFeePerGas": 2 * price,
            "maxPriorityFeePerGas": 10**9,
            "chainId": self.chain_id,
            "type": 2,
        }
        signed = Account.sign_transaction(transaction, self.account.key)
        digest: str = self._asked(
            "eth_sendRawTransaction", ["0x" + signed.raw_transaction.hex().removeprefix("0x")]
        )
        self.sent.append(digest)
        return digest
