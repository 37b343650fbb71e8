"""Configuration: /etc/wgdisco/wg0.toml and `-o KEY=VALUE` to typed objects; secrets and keys by reference."""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from wgdisco.backend import Secret
from wgdisco.errors import AccessError, ConfigError, InvalidKey, UsageError
from wgdisco.keys import PrivateKey

__all__ = [
    "Chosen",
    "Config",
    "combine",
    "for_interface",
    "load",
    "network_secret",
    "read_network_secret",
    "read_private_key",
]

FOLDER = Path("/etc/wgdisco")
DEFAULT_BACKENDS = ("dht",)
SECRET = "expected 32 bytes in base64, as `wgdisco genkey` prints them"  # noqa: S105 - a message


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """What a configuration file may say; each attribute is a key of it.

    `to` is who may read, `networks` references to network secrets (the first is published with, all are read),
    `lifetime` seconds of a record, `endpoints` what to publish instead of finding out, `stun` the servers to ask,
    `expose_hosts` whether the audience `key` learns addresses inside our network, `backends` a table for each store.
    """

    to: Literal["peers", "network", "key"] | None = None
    networks: tuple[dict[str, str], ...] = ()
    lifetime: Annotated[int, Meta(ge=60, le=86400)] = 3600
    endpoints: tuple[str, ...] = ()
    stun: tuple[str, ...] = ()
    expose_hosts: bool = False
    backends: dict[str, dict[str, Any]] = {}

    def secrets(self) -> list[bytes]:
        """The network secrets, read from where they are kept."""
        return [network_secret(Secret.parse(reference).reveal(), str(reference)) for reference in self.networks]


@dataclass(frozen=True)
class Chosen:
    """The backends to use with their options; `defaulted` when nobody chose."""

    backends: Mapping[str, Mapping[str, object]]
    defaulted: bool = False


def for_interface(name: str | None) -> Config:
    """The configuration of an interface, empty when there is no file for it."""
    path = FOLDER / f"{name}.toml"
    return load(path) if name is not None and path.exists() else Config()


def load(path: Path) -> Config:
    """Read a file; raises ConfigError with file and line."""
    try:
        text = path.read_text()
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {str(path)!r}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file: {error}") from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{path}:{line[1]}" if line else f"{path}"
        raise ConfigError(f"{where}: {re.sub(r' *[(]at .*[)]', '', str(error))}") from error
    for key in table:
        if key not in Config.__struct_fields__:
            close = difflib.get_close_matches(key, Config.__struct_fields__, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(Config.__struct_fields__)}"
            raise ConfigError(f"{path}:{_line(text, key)}: unknown key {key!r}; {hint}")
    try:
        return msgspec.convert(table, Config)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        key = re.split(r"[\[.`]", place)[0]
        raise ConfigError(f"{path}:{_line(text, key)}: {key}: {reason[:1].lower()}{reason[1:]}") from error


def _line(text: str, key: str) -> int:
    """The line where a top-level key or table begins; 1 when it is not found."""
    start = re.compile(rf"""\s*(\[\[?\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if start.match(line)), 1)


def combine(config: Config, names: Sequence[str], settings: Sequence[str]) -> Chosen:
    """The backends from the command line, else from the file, else the default; `settings` are `KEY=VALUE`.

    Raises ConfigError for a setting without a value, or one that could belong to several backends.
    """
    chosen = list(dict.fromkeys(names)) or list(config.backends) or list(DEFAULT_BACKENDS)
    tables: dict[str, dict[str, object]] = {name: dict(config.backends.get(name, {})) for name in chosen}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"option {setting!r}: expected KEY=VALUE, as -o prefix=/home/")
        name, dot, rest = key.partition(".")
        if dot and name in tables:
            tables[name][rest] = value
        elif len(tables) == 1:
            tables[chosen[0]][key] = value
        else:
            raise ConfigError(f"option {setting!r}: several backends are used, so say whose: -o {chosen[0]}.{setting}")
    return Chosen(tables, defaulted=not names and not config.backends)


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
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except UnicodeDecodeError:
        raise UsageError(f"the file {str(path)!r} holds no {what}: it is not text") from None
    except OSError as error:
        raise AccessError(f"cannot read the {what} in {str(path)!r}: {error.strerror or error}") from error
    # a pipe, as the shell's <(…), has no permissions worth the name
    if not stat.S_ISREG(mode) or not mode & 0o077:
        return text, ""
    return text, f"the {what} in {str(path)!r} can be read by others (mode {mode & 0o777:04o}); chmod 600 {path}"
