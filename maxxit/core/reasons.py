"""Base of the reason codes that stop posts, prices, signals and orders. Each stage lists its own beside its checks."""

from enum import StrEnum
from typing import Self


class Audience(StrEnum):
    """Who can change what a reason names."""

    CUSTOMER = "customer"
    """With their agent's settings, a deposit, a key or a signature."""
    STAFF = "staff"
    """With Maxxit's configuration, gate or servers."""
    NOBODY = "nobody"
    """The check did its work, or the cause ends without anybody."""


class CodedReason(StrEnum):
    """A reason code: its value is stored with the row; `text` says what it means, `fix` what changes it."""

    audience: Audience
    text: str
    fix: str
    abnormal: bool
    """Something is broken, as opposed to a limit or a setting that does what it is there for."""

    def __new__(cls, code: str, audience: Audience, text: str, fix: str, abnormal: bool = False) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.audience, member.text, member.fix, member.abnormal = audience, text, fix, abnormal
        return member
