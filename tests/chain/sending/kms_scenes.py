"""What `tests.conformance.serve` can ask of the fake of AWS KMS, and of our client."""

import os
from typing import Any

from tests.chain.sending.kms import REGION, WHO, Kms
from tests.chain.sending.test_signer import POLICY, REAL, transaction
from trading.chain.kms import open_key
from trading.chain.signer import open_signers


class KmsScenes:
    """One fake, for the methods below."""

    kms: Kms

    def kms_credentials(self) -> list[str]:
        """The access key that it knows."""
        return [WHO.access_key, WHO.secret_key]

    def kms_new_key(self) -> str:
        """Create a key, and forget what happened before; return its ARN."""
        for part in (self.kms.faults, self.kms.answers, self.kms.requests, self.kms.signed):
            part.clear()
        return self.kms.new_key().arn

    def kms_fails(self, name: str) -> None:
        """Let the next request end with an error of this name."""
        self.kms.faults.append(name)

    def kms_requests(self) -> list[list[Any]]:
        """Operation and body of every request since the last call."""
        found = [[operation, body] for operation, body in self.kms.requests]
        self.kms.requests.clear()
        return found

    def kms_sign(self, key: str, url: str) -> list[str]:
        """Sign a call of our module with a key at `url`; return the key's address and the signed transaction."""
        os.environ |= {
            "EXECUTOR_KEYSTORE": f"aws-kms:{key}", "AWS_ENDPOINT_URL_KMS": url, "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": WHO.access_key, "AWS_SECRET_ACCESS_KEY": WHO.secret_key,
        }  # fmt: skip
        open_key.cache_clear()
        [signer] = open_signers(REAL, POLICY, 60).values()
        return [signer.address, "0x" + signer.sign(transaction(chain_id=REAL)).raw.hex()]
