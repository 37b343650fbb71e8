"""Configuration: /etc/wgdisco/wg0.toml and `-o KEY=VALUE` to typed objects; secrets by reference."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from msgspec import Meta, Struct

from wgdisco.endpoint import Endpoint
from wgdisco.errors import ConfigError, UsageError
from wgdisco.options import convert, did_you_mean

__all__ = [
    "Chosen",
    "Config",
    "combine",
    "for_interface",
    "load",
]

FOLDER = Path("/etc/wgdisco")
DEFAULT_BACKENDS = ("dht", "lan")
"""Used when nobody chose, as far as they are there."""
LIBRARIES = {"lan": "zeroconf"}
"""What a default backend needs that is no dependency of wgdisco's: without it, it is not used by default."""


class Config(Struct, frozen=True):
    """What a configuration file may say; each attribute is a key of it, but for `places`: where each table begins.

    `to` is who may read, `networks` references to network secrets (the first is published with, all are read),
    `lifetime` seconds of a record, `endpoints` what to publish instead of finding out, `stun` the servers to ask
    (empty: none), `observers` the DHT nodes to ask where no STUN server answers (empty: none), `portmap` whether the
    agent asks the router to forward our port, `expose_hosts` whether the audience `key` learns addresses inside our
    network, `stores_through_tunnel` whether a full tunnel is the way to the stores, `backends` a table for each store.
    """

    to: Literal["peers", "network", "key"] | None = None
    networks: tuple[Any, ...] = ()
    lifetime: Annotated[int, Meta(ge=60, le=86400)] = 3600
    endpoints: tuple[str, ...] = ()
    stun: tuple[str, ...] | None = None
    observers: tuple[str, ...] | None = None
    portmap: bool = False
    expose_hosts: bool = False
    stores_through_tunnel: bool = False
    backends: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}

    def secrets(self, warn: Callable[[str], None] = lambda _: None) -> list[bytes]:
        """The network secrets, read from where they are kept; raises ConfigError or AccessError.

        `warn` hears of files that others can read.
        """
        from wgdisco.backend import Secret
        from wgdisco.keyfiles import network_secret, read_network_secret

        def read(reference: object) -> bytes:
            kind, _, name = _reference(reference).partition(":")
            if kind == "file":
                return read_network_secret(Path(name), warn)
            return network_secret(Secret.parse(reference).reveal(), _reference(reference))

        return [read(each) for each in self.networks]


@dataclass(frozen=True)
class Chosen:
    """The backends to use with their options; `defaulted` when nobody chose.

    `places` says where the file has each, as `wg0.toml:3`, unless the command line names backends or options.
    """

    backends: Mapping[str, Mapping[str, object]]
    defaulted: bool = False
    places: Mapping[str, str] = field(default_factory=dict)


def for_interface(name: str | None) -> Config:
    """The configuration of an interface, empty when there is no file for it; raises ConfigError as `load`."""
    if name is None:
        return Config()
    try:
        return load(FOLDER / f"{name}.toml")
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Config()
        raise


def load(path: Path) -> Config:
    """Read a file; raises ConfigError with file and line, and what was expected there."""
    try:
        return _parse(path, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {str(path)!r}: {error.strerror or error}") from error


def _parse(path: Path, raw: bytes) -> Config:
    try:
        text = raw.decode()
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: this is no text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        line = int(found[1]) if found else len(text.splitlines())
        raise ConfigError(f"{path}:{line}: {reason[:1].lower()}{reason[1:]}") from error
    if isinstance(table.get("backends"), dict):
        _check_tables(table["backends"], path, text)
    hints = get_type_hints(Config, include_extras=True)
    del hints["places"]
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            if key not in hints:
                raise ConfigError(f"unknown key {key!r}; {did_you_mean(key, list(hints))}")
            values[key] = _checked(key, value, hints[key])
        except UsageError as error:
            raise ConfigError(f"{path}:{_line(text, key)}: {error}") from error
    tables = values.get("backends", ())
    return Config(**values, places={name: f"{path}:{_line(text, 'backends', name)}" for name in tables})


def _check_tables(backends: Mapping[str, object], path: Path, text: str) -> None:
    for name, value in backends.items():
        if not isinstance(value, dict):
            where = f"{path}:{_line(text, 'backends', name)}: backends.{name} = {value!r}"
            raise ConfigError(f"{where}: expected a table, as [backends.{name}]")


def _checked(key: str, value: Any, hint: Any) -> Any:
    """A value of the type its key wants; raises UsageError, which quotes it unless it may be a secret."""
    if key == "networks":
        return _references(value)
    try:
        converted = convert(value, hint)
    except ConfigError as error:
        raise ConfigError(f"{key} = {value!r}: {error}") from error
    if key == "endpoints":
        for each in converted:
            Endpoint.parse(each)
    if key == "stun" and converted:
        from wgdisco.sources.names import split

        for each in converted:
            split(each)
    if key == "observers" and converted:
        from wgdisco.bep44.resolve import split as split_node

        for each in converted:
            split_node(each)
    return converted


def _references(value: object) -> tuple[object, ...]:
    from wgdisco.backend import Secret

    if not isinstance(value, list):
        raise ConfigError('networks: expected a list of references, as [{file = "/path"}]')
    try:
        for each in value:
            Secret.parse(each)
    except ConfigError as error:
        raise ConfigError(f"networks: {error}") from error
    return tuple(value)


def _reference(reference: object) -> str:
    return ":".join(*reference.items()) if isinstance(reference, dict) else str(reference)


def _line(text: str, *wanted: str) -> int:
    """The line where a key or table begins, found without parsing; the file's first when there is none."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, pair = re.match(r"\s*\[\[?([^]]+)\]", line), re.match(r"([^=#]+)=", line)
        if header:
            here = table = _dotted(header[1])
        elif pair:
            here = table + _dotted(pair[1])
        else:
            continue
        if here[: len(wanted)] == wanted:
            return number
    return 1


def _dotted(key: str) -> tuple[str, ...]:
    return tuple(part.strip(" \t\"'") for part in key.split("."))


def combine(config: Config, names: Sequence[str], settings: Sequence[str]) -> Chosen:
    """The backends from the command line, else from the file, else the default; `settings` are `KEY=VALUE`.

    A setting goes before what the file says. Raises ConfigError for one without a value, one that could belong to
    several backends, or one for a backend that is not used.
    """
    chosen = list(names) or list(config.backends)
    defaulted = not chosen
    chosen = chosen or _defaults()
    tables: dict[str, dict[str, object]] = {name: dict(config.backends.get(name, {})) for name in chosen}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"option {setting!r}: expected KEY=VALUE, as -o prefix=/home/")
        # no option has a dot in its name, but a third party's backend may
        name, dot, option = key.rpartition(".")
        if not dot and len(tables) > 1:
            raise ConfigError(f"option {key!r}: several backends are used, so say whose: -o {chosen[0]}.{key}=…")
        if dot and name not in tables:
            raise ConfigError(f"option {key!r}: backend {name!r} is not used here; add -b {name}")
        tables[name or chosen[0]][option] = value
    return Chosen(tables, defaulted, {} if names or settings else config.places)


def _defaults() -> list[str]:
    from importlib.util import find_spec

    from wgdisco.plugins import built_in

    there = [name for name in built_in() if name not in LIBRARIES or find_spec(LIBRARIES[name]) is not None]
    return [name for name in DEFAULT_BACKENDS if name in there] or list(DEFAULT_BACKENDS[:1])
