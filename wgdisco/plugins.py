"""Find a backend by name, importing only that one, and build it from its options."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from wgdisco.errors import ConfigError, MissingExtra, PluginError

if TYPE_CHECKING:
    from wgdisco.backend import Backend

__all__ = ["Available", "Option", "build", "find", "listed", "options"]

GROUP = "wgdisco"
BUILT_IN = Path(__file__).parent / "backends"
UNIVERSAL = ("poll", "deadline")
"""Options every backend has: seconds between two questions while following, and seconds a call may take."""


class Available(NamedTuple):
    """A backend by name: where it comes from, its first docstring line, and what has to be installed for it."""

    name: str
    origin: str
    summary: str = ""
    missing: str | None = None


class Option(NamedTuple):
    """One option of a backend, as text for people."""

    name: str
    type: str
    default: str
    required: bool
    doc: str


def built_in() -> list[str]:
    """The names of the backends that come with wgdisco: one file each."""
    return sorted(path.stem for path in BUILT_IN.glob("[a-z]*.py"))


def find(name: str) -> type[Backend]:
    """The backend class of that name; raises PluginError (unknown, broken) or MissingExtra (its library)."""
    if name in built_in():
        return _load(name, f"wgdisco.backends.{name}", "wgdisco")
    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        raise PluginError(_unknown(name))
    owners = [_owner(point) for point in points]
    if len(points) > 1:
        raise PluginError(f"backend {name!r} is claimed by {' and by '.join(owners)}; uninstall all but one")
    return _load(name, points[0].value, owners[0].partition(" ")[0])


def build(name: str, values: Mapping[str, object], cache: Path | None = None) -> Backend:
    """An unopened backend with these options; raises ConfigError quoting the option that is wrong."""
    import msgspec

    from wgdisco.backend import Secret

    chosen, own = find(name), dict(values)
    common = {key: _seconds(name, key, own.pop(key)) for key in UNIVERSAL if key in own and key not in _fields(chosen)}
    _known(name, own, _fields(chosen))

    def secret(wanted: type, value: object) -> object:
        if wanted is Secret:
            return Secret.parse(value)
        if wanted is Path and isinstance(value, str):
            return Path(value)
        raise NotImplementedError(wanted)

    types = get_type_hints(chosen)
    for key, value in own.items():
        shaped = value.split(",") if isinstance(value, str) and str(types[key]).startswith("list") else value
        try:
            own[key] = msgspec.convert(shaped, types[key], strict=not isinstance(value, str | list), dec_hook=secret)
        except msgspec.ValidationError as error:
            quoted = "" if types[key] is Secret else f" = {value!r}"
            raise ConfigError(
                f"backend {name!r}: option {key}{quoted}: {str(error)[:1].lower()}{str(error)[1:]}"
            ) from error
    try:
        backend = chosen(**own)
    except TypeError as error:
        raise ConfigError(f"backend {name!r}: {error}") from error
    for key, number in common.items():
        setattr(backend, key, number)
    backend.cache = cache
    return backend


def options(backend: type[Backend]) -> list[Option]:
    """The options of a backend: its fields, with the docstrings that stand below them."""
    docs, types = _docs(backend), get_type_hints(backend)
    return [
        Option(
            field.name,
            getattr(types[field.name], "__name__", str(types[field.name]))
            if not hasattr(types[field.name], "__args__")
            else str(types[field.name]),
            _default(field),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            docs.get(field.name, ""),
        )
        for field in _fields(backend).values()
    ]


def listed() -> list[Available]:
    """Every backend there is, without importing any."""
    extras = _extras()
    rows = [Available(name, "built in", _summary(name), _missing(name, extras.get(name, ()))) for name in built_in()]
    points = metadata.entry_points(group=GROUP)
    rows += [Available(point.name, _owner(point)) for point in points if point.name not in built_in()]
    return sorted(rows)


def _load(name: str, module: str, distribution: str) -> type[Backend]:
    """Import one module as a pluggy plugin and take the class of that name from it."""
    import importlib

    import pluggy

    from wgdisco import hookspecs
    from wgdisco.backend import Backend

    manager = pluggy.PluginManager("wgdisco")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(importlib.import_module(module), name)
        manager.check_pending()
        classes: list[object] = [each for answer in manager.hook.wgdisco_backends() for each in answer]
    except ModuleNotFoundError as error:
        extra = f"wgdisco[{name}]" if distribution == "wgdisco" else distribution
        raise MissingExtra(f"backend {name!r} needs {error.name!r}; install it with: pip install '{extra}'") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"backend {name!r} of {distribution} is broken: {type(error).__name__}: {error}") from error
    for each in classes:
        if inspect.isclass(each) and issubclass(each, Backend) and each.name == name:
            return each
    raise PluginError(
        f"backend {name!r} of {distribution} is broken: wgdisco_backends() of {module} returns no Backend of that name"
    )


def _unknown(name: str) -> str:
    names = sorted({*built_in(), *(point.name for point in metadata.entry_points(group=GROUP))})
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"
    return f"there is no backend {name!r}; {hint} Third parties come as pip install wgdisco-{name}"


def _owner(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _fields(backend: type[Backend]) -> dict[str, dataclasses.Field[Any]]:
    fields: dict[str, dataclasses.Field[Any]] = getattr(backend, "__dataclass_fields__", {})
    return {name: field for name, field in fields.items() if field.init and not name.startswith("_")}


def _known(name: str, values: Mapping[str, object], fields: Mapping[str, dataclasses.Field[Any]]) -> None:
    names = [*fields, *UNIVERSAL]
    for key in values:
        if key not in fields:
            close = difflib.get_close_matches(key, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"
            raise ConfigError(f"backend {name!r} has no option {key!r}; {hint}")
    for field in fields.values():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in values:
            raise ConfigError(f"backend {name!r} needs the option {field.name!r}: -o {field.name}=…")


def _seconds(name: str, key: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigError(f"backend {name!r}: option {key} = {value!r}: expected a number of seconds")
    return number


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return str(field.default_factory())
    return "" if field.default is dataclasses.MISSING else str(field.default)


def _docs(backend: type[Backend]) -> dict[str, str]:
    """The string below each field in the class body."""
    import ast
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(backend)))
    except (OSError, SyntaxError, TypeError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    return {
        field.target.id: " ".join(doc.value.value.split())
        for field, doc in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }


def _summary(name: str) -> str:
    """The first docstring line of a built-in backend's file, read as text."""
    import ast

    text = ast.get_docstring(ast.parse((BUILT_IN / f"{name}.py").read_text())) or ""
    return text.partition("\n")[0]


def _extras() -> dict[str, list[str]]:
    """The distributions that each extra of wgdisco needs, from its metadata."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("wgdisco") or ():
        requirement, _, marker = line.partition(";")
        if extra := re.search(r"""extra == ['"]([^'"]+)""", marker):
            found.setdefault(extra[1], []).append(re.split(r"[\s<>=!~\[(]", requirement.strip(), maxsplit=1)[0])
    return found


def _missing(name: str, distributions: Sequence[str]) -> str | None:
    for distribution in distributions:
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return f"not installed; install it with: pip install 'wgdisco[{name}]'"
    return None
