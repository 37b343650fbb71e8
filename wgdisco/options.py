"""The options of a backend are the fields of its class: shown to people, checked with msgspec, filled in."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from wgdisco.errors import ConfigError, PluginError, UsageError

if TYPE_CHECKING:
    from wgdisco.backend import Backend

__all__ = ["Option", "convert", "did_you_mean", "fill", "options", "words"]

WORDS: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text", dict: "table"}
REFERENCE = "secret by reference: file:/path, env:NAME or credential:NAME"
LISTS = (list, tuple, set, frozenset)
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}
COMMON = {"poll": "Seconds between two questions while following.", "deadline": "Seconds a call may take."}
"""Options every backend has."""
LONGEST = 86400  # seconds that make sense for both


class Option(NamedTuple):
    """One option of a backend, as text for people."""

    name: str
    type: str
    default: str
    required: bool
    doc: str


def options(backend: type[Backend]) -> list[Option]:
    """The options of a backend: its fields, with the strings that stand below them, and those every backend has."""
    docs, hints, fields = _docs(backend), _hints(backend), _fields(backend)
    own = [
        Option(key, words(hints[key]), _default(field), _required(field), docs.get(key, ""))
        for key, field in fields.items()
    ]
    defaults = {"poll": _shown(backend.poll), "deadline": _shown(getattr(backend, "deadline", "as --deadline"))}
    return own + [Option(key, "number", defaults[key], False, doc) for key, doc in COMMON.items() if key not in fields]


def fill(backend: type[Backend], values: Mapping[str, object]) -> Backend:
    """An unopened instance with these options; raises ConfigError quoting what is wrong, but never a secret.

    Text, as `-o KEY=VALUE` gives it, is read as the field's type wants it: `8`, `true`, `one,two`.
    """
    fields = _fields(backend)
    _check_names(backend, values, fields)
    hints = _common_hints() | {key: hint for key, hint in _hints(backend).items() if key in fields}
    converted = {key: _option(backend, key, value, hints[key]) for key, value in values.items()}
    own = {key: value for key, value in converted.items() if key in fields}
    try:
        instance = backend(**own)
    except KeyboardInterrupt:
        raise
    except (UsageError, ValueError, TypeError) as error:
        raise ConfigError(f"backend {backend.name!r}: {error}") from error
    except BaseException as error:
        raise PluginError(f"backend {backend.name!r} is broken: {type(error).__name__}: {error}") from error
    for key in converted.keys() - own.keys():
        setattr(instance, key, converted[key])
    return instance


def convert(value: object, hint: Any) -> Any:
    """The value as its type hint wants it; text is read leniently. Raises ConfigError: what was expected."""
    import msgspec

    lenient = isinstance(value, str)
    if isinstance(value, str) and _is_list(hint):
        value = [part.strip() for part in value.split(",")] if value else []
    try:
        return msgspec.convert(value, hint, strict=not lenient, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise ConfigError(f"expected {words(hint)}") from error


def words(hint: Any) -> str:
    """A type hint for people: `list of text`, `whole number >= 1`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ", ".join([words(inner[0]), *_bounds(inner[1:])]).replace(", ", " ", 1)
    if origin is Literal:
        return " or ".join(repr(each) for each in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(words(each) for each in inner if each is not type(None))
    if origin in LISTS:
        return f"list of {words(inner[0])}"
    if origin is dict:
        return f"table of {words(inner[1])}"
    name = getattr(hint, "__name__", str(hint))
    # by its name, because the class comes with asyncio
    return WORDS.get(hint, REFERENCE if name == "Secret" else name.lower())


def did_you_mean(word: str, names: Collection[str]) -> str:
    """The name that was probably meant, else all of them."""
    import difflib

    close = difflib.get_close_matches(word, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"


def _option(backend: type[Backend], key: str, value: object, hint: Any) -> Any:
    quoted = f"option {key}" if _is_secret(hint) else f"option {key} = {value!r}"
    try:
        return convert(value, hint)
    except ConfigError as error:
        raise ConfigError(f"backend {backend.name!r}: {quoted}: {error}") from error
    except (NotImplementedError, TypeError) as error:
        broken = f"backend {backend.name!r} is broken: option {key}"
        raise PluginError(f"{broken}: a {words(hint)} cannot be given") from error


def _from_text(wanted: Any, value: object) -> object:
    """What msgspec cannot convert by itself."""
    from wgdisco.backend import Secret

    if wanted is Secret:
        return Secret.parse(value)
    if wanted is not Path:
        raise NotImplementedError(wanted)
    if not isinstance(value, str) or not value:  # an empty one would be the current folder
        raise ValueError(f"{value!r} is no path")
    return Path(value)


def _check_names(backend: type[Backend], given: Collection[str], fields: Mapping[str, dataclasses.Field[Any]]) -> None:
    names = [*fields, *(key for key in COMMON if key not in fields)]
    for key in given:
        if key not in names:
            raise ConfigError(f"backend {backend.name!r} has no option {key!r}; {did_you_mean(key, names)}")
    for key, field in fields.items():
        if _required(field) and key not in given:
            raise ConfigError(f"backend {backend.name!r} needs the option {key!r}: -o {key}=…")


def _fields(backend: Any) -> dict[str, dataclasses.Field[Any]]:
    if not dataclasses.is_dataclass(backend):
        return {}
    return {field.name: field for field in dataclasses.fields(backend) if field.init and not field.name.startswith("_")}


def _hints(backend: type[Backend]) -> dict[str, Any]:
    try:
        return get_type_hints(backend, include_extras=True)
    except Exception as error:
        raise PluginError(f"backend {backend.name!r} is broken: its annotations: {error}") from error


def _common_hints() -> dict[str, Any]:
    from msgspec import Meta

    return dict.fromkeys(COMMON, Annotated[float, Meta(gt=0, le=LONGEST)])


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return _shown(field.default_factory())
    return "" if field.default is dataclasses.MISSING else _shown(field.default)


def _shown(value: object) -> str:
    """A default as one would type it after `-o KEY=`."""
    if isinstance(value, LISTS):
        return ",".join(map(_shown, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    # an empty secret is false, and any other says nothing
    return str(value) if value or value == 0 else "none"


def _bounds(metadata: Collection[object]) -> Iterator[str]:
    for meta in metadata:
        for key, sign in SIGNS.items():
            if (bound := getattr(meta, key, None)) is not None:
                yield f"{sign} {bound}"


def _is_list(hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _is_list(inner[0])
    if origin in (Union, types.UnionType):
        return str not in inner and any(map(_is_list, inner))
    return origin in LISTS or hint in LISTS


def _is_secret(hint: Any) -> bool:
    from wgdisco.backend import Secret

    return hint is Secret or any(map(_is_secret, get_args(hint)))


def _docs(backend: type[Backend]) -> dict[str, str]:
    """The string below each field in the body of the class or of one it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(backend.__mro__[:-1]):
        found |= dict(_docs_in(each))
    return found


def _docs_in(owner: type) -> Iterator[tuple[str, str]]:
    import ast
    import inspect
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, SyntaxError, TypeError):
        return
    for field, doc in pairwise(tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []):
        match field, doc:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())
