"""Find a backend by name, importing only that one; built-ins are the files of backends/, others are entry points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wgdisco.errors import MissingExtra, PluginError
from wgdisco.options import Option, did_you_mean, fill, options

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from pluggy import PluginManager

    from wgdisco.backend import Backend

__all__ = ["Available", "Option", "build", "built_in", "find", "install_hint", "listed", "options"]

GROUP = "wgdisco"
BUILT_IN = Path(__file__).parent / "backends"


class Available(NamedTuple):
    """A backend by name, the distribution it comes from, what it is in a line, and what keeps it from being used."""

    name: str
    origin: str
    summary: str = ""
    missing: str | None = None


class _Point(NamedTuple):
    """An entry point of a third party: the backend's name, the module that offers it, and whose it is."""

    name: str
    module: str
    distribution: Distribution

    @property
    def owner(self) -> str:
        return f"{self.distribution.name} {self.distribution.version}"


def built_in() -> list[str]:
    """The names of the backends that come with wgdisco: one file each."""
    return sorted(path.stem for path in BUILT_IN.glob("[a-z]*.py"))


def find(name: str) -> type[Backend]:
    """The backend class of that name; raises PluginError (unknown, broken) or MissingExtra (its library).

    Names of built-ins never look at what else is installed: that costs time, and nobody can take such a name over.
    """
    if name in built_in():
        return _built_in(name)
    points = _points(name)
    if not points:
        raise PluginError(_unknown(name))
    if len(points) > 1:
        owners = " and by ".join(point.owner for point in points)
        raise PluginError(f"backend {name!r} is claimed by {owners}; uninstall all but one")
    return _third_party(points[0])


def build(name: str, values: Mapping[str, object], cache: Path | None = None) -> Backend:
    """An unopened backend with these options; raises as `find` does, and ConfigError quoting the option that is wrong.

    `cache` is the folder the backend may use for what it can afford to lose.
    """
    backend = fill(find(name), values)
    backend.cache = cache
    return backend


def listed() -> list[Available]:
    """Every backend there is, by name, without importing any."""
    extras = _extras()
    own = built_in()
    rows = [
        Available(name, "built in", _summary(name), _missing(f"wgdisco[{name}]", extras.get(name, ()))) for name in own
    ]
    points = _points()
    names = [*own, *(point.name for point in points)]
    rows += [_described(point, claims=names.count(point.name)) for point in points]
    return sorted(rows, key=lambda row: row[:2])


def install_hint(name: str, library: str) -> str:
    """What to say when a backend's library cannot be imported: `needs httpx2; install it with: …`."""
    if name in built_in():
        wanted = f"wgdisco[{name}]" if name in _extras() else library
    else:
        wanted = next((point.distribution.name for point in _points(name)), library)
    return f"needs {library}; install it with: pip install {_quoted(wanted)}"


def _built_in(name: str) -> type[Backend]:
    import importlib

    module = f"wgdisco.backends.{name}"
    with _blamed(name, "wgdisco", module):
        manager = _manager()
        manager.register(importlib.import_module(module), name)
        return _chosen(manager, name, module)


def _third_party(point: _Point) -> type[Backend]:
    with _blamed(point.name, point.owner, point.module):
        manager = _manager()
        manager.load_setuptools_entrypoints(GROUP, name=point.name)
        return _chosen(manager, point.name, point.module)


def _manager() -> PluginManager:
    import pluggy

    from wgdisco import hookspecs

    manager = pluggy.PluginManager("wgdisco")
    manager.add_hookspecs(hookspecs)
    return manager


def _chosen(manager: PluginManager, name: str, module: str) -> type[Backend]:
    """The class of that name among those the plugin offers; raises TypeError or LookupError for what is none."""
    manager.check_pending()
    offered: list[type[Backend]] = []
    for answer in manager.hook.wgdisco_backends():
        if not isinstance(answer, list | tuple):
            raise TypeError(f"wgdisco_backends() returned {answer!r}, expected a list of Backend classes")
        offered += [_checked(each) for each in answer]
    if not offered:
        raise LookupError(f"{module} offers no backend; does wgdisco_backends() have @wgdisco.hookimpl?")
    for each in offered:
        if each.name == name:
            return each
    names = ", ".join(repr(each.name) for each in offered)
    raise LookupError(f"{module} offers {names}; `name` has to be the entry point's name")


def _checked(offered: object) -> type[Backend]:
    import dataclasses
    import inspect

    from wgdisco.backend import Backend

    if not inspect.isclass(offered) or not issubclass(offered, Backend):
        raise TypeError(f"wgdisco_backends() returned {offered!r} in its list, expected subclasses of wgdisco.Backend")
    if lacking := sorted(getattr(offered, "__abstractmethods__", ())):
        raise TypeError(f"{offered.__name__} is abstract: it lacks {', '.join(lacking)}")
    if offered.put is Backend.put and offered.get is Backend.get and offered.fetch is Backend.fetch:
        raise TypeError(f"{offered.__name__} has neither put nor get")
    own = [key for key, hint in vars(offered).get("__annotations__", {}).items() if "ClassVar" not in str(hint)]
    if own and not dataclasses.is_dataclass(offered):
        raise TypeError(f"{offered.__name__} is no dataclass, so {', '.join(own)} would be no options: add @dataclass")
    return offered


@contextmanager
def _blamed(name: str, owner: str, module: str) -> Iterator[None]:
    """Whatever goes wrong inside is the plugin's fault; SystemExit and its like are no reason to end."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        broken = f"backend {name!r} of {owner} is broken: {type(error).__name__}: {' '.join(str(error).split())}"
        if not isinstance(error, ModuleNotFoundError) or _root(error.name) in (_root(module), "wgdisco"):
            raise PluginError(broken) from error
        raise MissingExtra(f"backend {name!r} {install_hint(name, error.name or '')}") from error


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _unknown(name: str) -> str:
    names = sorted({*built_in(), *(point.name for point in _points())})
    return f"there is no backend {name!r}; {did_you_mean(name, names)}"


def _points(name: str | None = None) -> list[_Point]:
    """The entry points of third parties; importing importlib.metadata takes longer than all the rest here."""
    from importlib import metadata

    return [
        _Point(point.name, point.module, point.dist)
        for point in metadata.entry_points(group=GROUP)
        if point.dist is not None and name in (None, point.name)
    ]


def _described(point: _Point, claims: int) -> Available:
    """A third party's backend, from its distribution's metadata; `claims` is how many have its name."""
    distribution = point.distribution
    if point.name in built_in():
        problem: str | None = "never used: a built-in backend has this name"
    elif claims > 1:
        problem = f"never used: {claims} distributions claim this name; uninstall all but one"
    else:
        needed = [_distribution(line) for line in distribution.requires or () if ";" not in line]
        problem = _missing(distribution.name, needed)
    return Available(point.name, point.owner, distribution.metadata["Summary"] or "", problem)


def _summary(name: str) -> str:
    """The first docstring line of a built-in backend's file, read as text."""
    import ast

    text = ast.get_docstring(ast.parse((BUILT_IN / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def _extras() -> dict[str, list[str]]:
    """The distributions that each extra of wgdisco needs, from its metadata; empty when it is not installed."""
    from importlib import metadata

    found: dict[str, list[str]] = {}
    try:
        lines = metadata.requires("wgdisco") or []
    except metadata.PackageNotFoundError:
        return {}
    for line in lines:
        if extra := re.search(r"""extra == ['"]([^'"]+)""", line):
            found.setdefault(extra[1], []).append(_distribution(line))
    return found


def _distribution(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[(]", requirement.strip(), maxsplit=1)[0]


def _missing(wanted: str, distributions: Iterable[str]) -> str | None:
    from importlib import metadata

    for distribution in distributions:
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return f"needs {distribution}; install it with: pip install {_quoted(wanted)}"
    return None


def _quoted(wanted: str) -> str:
    return f"'{wanted}'" if "[" in wanted else wanted
