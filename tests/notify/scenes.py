"""What the fakes of channels are made to say, and what our channels say to them, for `tests.conformance.serve`."""

import os
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec

from maxxit.core import egress
from maxxit.core.errors import MaxxitError
from maxxit.notify.channels import CHANNELS, apprise, discord, push, slack, teams
from maxxit.notify.channels.base import Message
from maxxit.notify.policy import ApprisePolicy, policy
from tests.notify.providers import TOKEN, Fault, Providers, gone, rate_limited

REFUSED = Fault(400, {"ok": False, "error_code": 400, "description": "Bad Request: can't parse entities"})


def _message(address: str, text: str, severity: str) -> Message:
    return Message(
        "a_1", "gate.closed", "2026-05-01T12:00:00+00:00", "ann", text, {}, address=address, title="Gate closed",
        severity=severity,
    )  # fmt: skip


class ChannelScenes:
    """Mixed into `tests.conformance.scenes.Fakes`."""

    channels: Providers

    def channels_say(self, what: str = "", channel: str = "") -> None:
        """Forget what came; the next answer is `gone`, `rate_limited` (7 s), `refused` or the usual one."""
        faults = {"": [], "refused": [REFUSED]}
        if what in ("gone", "rate_limited"):
            faults = {what: [gone(channel) if what == "gone" else rate_limited(channel, 7)]}
        self.channels.came.clear()
        self.channels.faults = faults[what]

    def channels_got(self) -> list[tuple[str, Any]]:
        """What came, with its channel."""
        return list(self.channels.came)

    def channels_address(self, channel: str) -> str:
        """An address on the channel."""
        return self.channels.address(channel)

    def channels_ours(self, channel: str, text: str, severity: str = "warning") -> str:
        """Send a message by our channel; its error, or nothing."""
        os.environ |= {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_BASE_URL": self.channels.url}
        here = egress.Rules(schemes=("http",), ports=(self.channels.port,), admits=lambda address: True)
        for module in (slack, teams, discord):
            module.RULES = here  # type: ignore[attr-defined]
        try:
            CHANNELS.open(channel).send(_message(self.channels.address(channel), text, severity))
        except MaxxitError as error:
            return str(error)
        return ""

    def apprise_ours(
        self, interpreter: str, url: str, schemas: list[str], ports: list[int], text: str = "", seconds: float = 10.0,
        admit: bool = False,
    ) -> str:  # fmt: skip
        """Verify `url`, or send a text to it, by apprise in the environment of `interpreter`; the error, or nothing.

        Args:
            admit: whether addresses that are not public are admitted.
        """
        chosen = ApprisePolicy(schemas=tuple(schemas), ports=tuple(ports))
        one = policy().model_copy(update={"apprise": chosen})
        usual = egress.Rules(max_seconds=seconds)
        changed: Any = {
            "policy": lambda: one,
            "installed": lambda: True,
            "INTERPRETER": interpreter,
            "RULES": replace(usual, admits=lambda address: True) if admit else usual,
        }
        try:
            with patch.multiple(apprise, **changed):
                if text:
                    apprise.Apprise().send(_message(url, text, "critical"))
                else:
                    apprise.Apprise().verify(url)
        except MaxxitError as error:
            return f"{type(error).__name__} {getattr(error, 'code', '')}: {error}"
        return ""

    def push_browser_key(self) -> str:
        """The private key of the browser, in hexadecimal digits."""
        return f"{self.channels.browser.key.private_numbers().private_value:x}"

    def push_ours(self, text: str) -> str:
        """The text as we encrypt it to the browser."""
        return push.encode(
            push.encrypt(text.encode(), self.channels.browser.point, self.channels.browser.auth)
        )

    def push_authorization(self) -> str:
        """The header with which we would send to the push service."""
        push.RULES = egress.Rules(schemes=("http",), ports=(self.channels.port,), admits=lambda address: True)
        key = ec.generate_private_key(ec.SECP256R1())
        return push.authorization(self.channels.url + "/x", key, "mailto:ops@maxxit.example")
