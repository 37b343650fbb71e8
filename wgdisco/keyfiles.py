"""Private keys and network secrets in files: read, checked, and never quoted."""

from __future__ import annotations

import os
import shlex
import stat
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wgdisco.errors import AccessError, ConfigError, InvalidKey, UsageError

if TYPE_CHECKING:
    from wgdisco.keys import PrivateKey

__all__ = ["network_secret", "read_network_secret", "read_private_key"]

SECRET = "expected 32 bytes in base64, as `wgdisco genkey` prints them"  # noqa: S105 - a message


def network_secret(text: str, where: str) -> bytes:
    """The 32 bytes of a network secret; raises ConfigError, which says where it came from and never quotes it."""
    try:
        secret = b64decode(text.strip(), validate=True)
    except (Base64Error, ValueError):
        raise ConfigError(f"the network secret in {where} is not base64; {SECRET}") from None
    if len(secret) != 32:
        raise ConfigError(f"the network secret in {where} has {len(secret)} bytes; {SECRET}")
    return secret


def read_network_secret(path: Path, warn: Callable[[str], None]) -> bytes:
    """A network secret from a file; raises ConfigError or AccessError. A file that others can read is warned of."""
    text, warning = _private_text(path, "network secret")
    if warning:
        warn(warning)
    return network_secret(text, repr(str(path)))


def read_private_key(path: Path) -> PrivateKey:
    """A private key from a file that only its owner can read; raises AccessError or InvalidKey, never quoting it."""
    from wgdisco.keys import PrivateKey

    text, warning = _private_text(path, "private key")
    if warning:
        raise AccessError(warning)
    try:
        return PrivateKey.parse(text.strip())
    except InvalidKey as error:
        raise InvalidKey(f"{str(path)!r}: {error}") from None


def _private_text(path: Path, what: str) -> tuple[str, str]:
    """What a file holds, and a warning when others can read it."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except UnicodeDecodeError:
        raise UsageError(f"the file {str(path)!r} holds no {what}: it is not text") from None
    except OSError as error:
        raise AccessError(f"cannot read the {what} in {str(path)!r}: {error.strerror or error}") from error
    # a pipe, as the shell's <(…), has no permissions worth the name
    if not stat.S_ISREG(mode) or not mode & 0o077:
        return text, ""
    mend = f"chmod 600 {shlex.quote(str(path))}"
    return text, f"the {what} in {str(path)!r} can be read by others (mode {mode & 0o777:04o}); {mend}"
