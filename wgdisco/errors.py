"""The exception tree, each class with the exit code of the command that ends with it.

WgdiscoError                 70  never raised itself; anything that is not below is a bug
├── NotFound                  1  no valid record, or no handshake
│   └── RecordRefused         1  one blob that is not acceptable, with the reason's name (SPEC section 5)
├── UsageError                2  what was asked for makes no sense
│   ├── InvalidKey            2  text or bytes that are no WireGuard key
│   ├── ConfigError           2  a configuration file or option, with file and line where there is one
│   ├── PluginError           2  a backend that does not exist, cannot be loaded or is broken
│   └── MissingExtra          2  an optional dependency, with the command that installs it
├── StoreError                3  a store did not answer, or did not store
│   └── RetryLater            3  a store that says when to come back (plugins raise this one)
└── AccessError               4  interface, key or privilege not accessible
    └── NoDevice              4  there is no such WireGuard interface
"""

from __future__ import annotations

from math import inf
from typing import ClassVar

__all__ = [
    "AccessError",
    "ConfigError",
    "InvalidKey",
    "MissingExtra",
    "NoDevice",
    "NotFound",
    "PluginError",
    "RecordRefused",
    "RetryLater",
    "StoreError",
    "UsageError",
    "WgdiscoError",
]


class WgdiscoError(Exception):
    """Whatever wgdisco raises on purpose: the text is one sentence for the user."""

    exit_code: ClassVar[int] = 70


class NotFound(WgdiscoError):  # noqa: N818 - named after what the caller learns
    """Every store was asked and no valid record came back, or no handshake came about."""

    exit_code = 1


class RecordRefused(NotFound):
    """A blob that must not be used; `reason` is one of the names in SPEC section 5.

    That is so while the clock (milliseconds) is at least `since` and below `until`; else it has to be judged anew.
    """

    def __init__(self, reason: str, detail: str = "", *, since: float = -inf, until: float = inf) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.since, self.until = reason, since, until


class UsageError(WgdiscoError):
    """What was asked for makes no sense; nothing was done."""

    exit_code = 2


class InvalidKey(UsageError):  # noqa: N818
    """Text or bytes that are no WireGuard key, or a public key nobody can hold the private key of (SPEC section 1)."""


class ConfigError(UsageError):
    """A configuration file or option that cannot be used, with file and line where there is one."""


class PluginError(UsageError):
    """A backend that does not exist, cannot be imported, or does not keep to the plugin surface."""


class MissingExtra(UsageError):  # noqa: N818
    """An optional dependency is not installed; the message is the command that installs it."""


class StoreError(WgdiscoError):
    """A store did not answer or did not store; the message begins with the backend's name."""

    exit_code = 3


class RetryLater(StoreError):  # noqa: N818
    """The store asks to be left alone for `seconds`: the one exception a plugin may want to raise itself."""

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(message or f"the store asks to come back in {seconds:g} s")
        self.seconds = seconds


class AccessError(WgdiscoError):
    """An interface, a key or a privilege is not accessible; the message says what to do about it."""

    exit_code = 4


class NoDevice(AccessError):  # noqa: N818
    """There is no WireGuard interface of that name, or none at all."""
