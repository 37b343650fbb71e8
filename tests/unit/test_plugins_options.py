"""The options of a backend are its fields: converted, refused with what was expected, and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from wgdisco.backend import Backend, Secret
from wgdisco.errors import ConfigError, PluginError
from wgdisco.options import Option, convert, fill, options, words


class Base(Backend):
    """What the store has in common with others."""

    async def get(self, slot):
        return []


@dataclass
class Shared(Base):
    timeout: float = 2.5
    """Seconds for
    one request."""


@dataclass
class Shelf(Shared):
    """A store with every kind of option."""

    name = "shelf"
    poll = 7
    url: str = field(kw_only=True)
    """Where it is."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 80
    tls: bool = False
    hosts: list[str] = field(default_factory=lambda: ["a", "b"])
    """Tried in this order."""
    hurry: Literal["slow", "fast"] = "slow"
    folder: Path | None = None
    numbers: tuple[int, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    password: Secret = field(default_factory=Secret)
    tokens: list[Secret] = field(default_factory=list)
    kept: int = field(default=0, init=False)
    _own: int = 0


def filled(**values: object) -> Any:
    return fill(Shelf, {"url": "x", **values})


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("port", "8", 8),
        ("port", 8, 8),
        ("timeout", "1e1", 10.0),
        ("timeout", 3, 3.0),
        ("tls", "true", True),
        ("tls", "False", False),
        ("tls", "1", True),
        ("url", "8", "8"),
        ("url", "a,b", "a,b"),
        ("hosts", "a, b", ["a", "b"]),
        ("hosts", ["a,b"], ["a,b"]),
        ("hosts", "", []),
        ("numbers", "1,2", (1, 2)),
        ("hurry", "fast", "fast"),
        ("folder", "/srv/x", Path("/srv/x")),
        ("headers", {"a": "b"}, {"a": "b"}),
        ("poll", "0.5", 0.5),
        ("deadline", 3, 3.0),
    ],
)
def test_an_option_is_read_as_its_field_wants_it(key: str, text: object, value: object) -> None:
    found = getattr(filled(**{key: text}), key)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("port", "eighty", "option port = 'eighty': expected whole number >= 1, <= 65535"),
        ("port", "0", "option port = '0': expected whole number >= 1, <= 65535"),
        ("port", 1.5, "option port = 1.5: expected whole number >= 1, <= 65535"),
        ("timeout", "soon", "option timeout = 'soon': expected number"),
        ("timeout", True, "option timeout = True: expected number"),
        ("timeout", "1e999", "option timeout = '1e999': expected number"),
        ("tls", "yes", "option tls = 'yes': expected true or false"),
        ("url", 8, "option url = 8: expected text"),
        ("hosts", 3, "option hosts = 3: expected list of text"),
        ("hosts", ["a", 3], "option hosts = ['a', 3]: expected list of text"),
        ("numbers", "1,b", "option numbers = '1,b': expected list of whole number"),
        ("hurry", "never", "option hurry = 'never': expected 'slow' or 'fast'"),
        ("folder", 3, "option folder = 3: expected path"),
        ("headers", "a", "option headers = 'a': expected table of text"),
        ("poll", "0", "option poll = '0': expected number > 0, <= 86400"),
        ("poll", "nan", "option poll = 'nan': expected number > 0, <= 86400"),
        ("deadline", "inf", "option deadline = 'inf': expected number > 0, <= 86400"),
    ],
)
def test_a_wrong_value_is_quoted_with_what_was_expected(key: str, value: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        filled(**{key: value})
    assert str(caught.value) == f"backend 'shelf': {text}"


PLAIN = (
    "a secret is given by reference, never in plain: "
    '{file = "/path"}, {env = "NAME"} or {credential = "NAME"} (with -o: file:/path, env:NAME, credential:NAME)'
)
REFERENCE = "secret by reference: file:/path, env:NAME or credential:NAME"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("password", "hunter2", f"option password: {PLAIN}"),
        ("password", 1234567, f"option password: {PLAIN}"),
        ("password", ["hunter2"], f"option password: {PLAIN}"),
        ("tokens", "env:A,hunter2", f"option tokens: {PLAIN}"),
        ("tokens", {"hunter2": 1}, f"option tokens: expected list of {REFERENCE}"),
    ],
)
def test_a_plain_secret_is_refused_and_not_quoted(key: str, value: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        filled(**{key: value})
    assert str(caught.value) == f"backend 'shelf': {text}"


@pytest.mark.parametrize("reference", ["env:SHELF", {"env": "SHELF"}])
def test_a_secret_is_given_by_reference(monkeypatch, reference: object) -> None:
    monkeypatch.setenv("SHELF", "hunter2")
    backend = filled(password=reference, tokens=[reference])
    assert (backend.password.reveal(), backend.tokens[0].reveal()) == ("hunter2", "hunter2")
    assert "hunter2" not in repr(backend)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "backend 'shelf' needs the option 'url': -o url=…"),
        ({"url": "x", "prot": "8"}, "backend 'shelf' has no option 'prot'; did you mean 'port'?"),
        ({"url": "x", "pol": "8"}, "backend 'shelf' has no option 'pol'; did you mean 'poll'?"),
        (
            {"url": "x", "zzz": "8"},
            "backend 'shelf' has no option 'zzz'; there are: timeout, url, port, tls, hosts, hurry, folder, numbers, headers, password, tokens, poll, deadline",
        ),
        ({"url": "x", "kept": "8"}, "backend 'shelf' has no option 'kept'; "),
        ({"url": "x", "_own": "8"}, "backend 'shelf' has no option '_own'; "),
        ({"url": "x", "name": "8"}, "backend 'shelf' has no option 'name'; "),
        ({"url": "x", "cache": "/"}, "backend 'shelf' has no option 'cache'; "),
    ],
)
def test_a_missing_or_unknown_option_is_named(values: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fill(Shelf, values)
    assert str(caught.value)[: len(text)] == text


def test_poll_of_a_field_of_that_name_is_the_backends_own_affair() -> None:
    @dataclass
    class Slow(Base):
        name = "slow"
        poll: float = 3600.0
        """How often."""

    assert fill(Slow, {"poll": "100000"}).poll == 100000.0
    assert [(each.name, each.doc) for each in options(Slow)] == [
        ("poll", "How often."),
        ("deadline", "Seconds a call may take."),
    ]


def test_poll_is_set_on_the_instance_alone() -> None:
    assert (filled(poll=1).poll, Shelf.poll) == (1.0, 7)


def refusing(error: BaseException) -> type[Backend]:
    @dataclass
    class Picky(Base):
        name = "picky"

        def __post_init__(self) -> None:
            raise error

    return Picky


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("no such colour: 'blue'"), ConfigError, "backend 'picky': no such colour: 'blue'"),
        (ConfigError("no such colour"), ConfigError, "backend 'picky': no such colour"),
        (OSError("lost"), PluginError, "backend 'picky' is broken: OSError: lost"),
        (SystemExit(1), PluginError, "backend 'picky' is broken: SystemExit: 1"),
    ],
)
def test_what_a_constructor_raises_has_the_backends_name(error: BaseException, kind: type, text: str) -> None:
    with pytest.raises(kind) as caught:
        fill(refusing(error), {})
    assert str(caught.value) == text


def test_an_annotation_that_leads_nowhere_is_the_plugins_fault() -> None:
    @dataclass
    class Lost(Base):
        name = "lost"
        url: Nowhere = ""  # noqa: F821 - that is the point

    with pytest.raises(PluginError) as caught:
        fill(Lost, {"url": "x"})
    assert str(caught.value) == "backend 'lost' is broken: its annotations: name 'Nowhere' is not defined"


def test_a_type_that_no_option_can_have_is_the_plugins_fault() -> None:
    @dataclass
    class Odd(Base):
        name = "odd"
        owner: Any = None
        inner: type[Backend] = Backend

    with pytest.raises(PluginError) as caught:
        fill(Odd, {"inner": "x"})
    assert str(caught.value) == "backend 'odd' is broken: option inner: a type cannot be given"


def test_a_backend_without_options_has_those_of_all() -> None:
    assert [each.name for each in options(Base)] == ["poll", "deadline"]


def test_the_options_are_shown_with_type_default_and_the_text_below_the_field() -> None:
    assert options(Shelf) == [
        Option("timeout", "number", "2.5", False, "Seconds for one request."),
        Option("url", "text", "", True, "Where it is."),
        Option("port", "whole number >= 1, <= 65535", "80", False, ""),
        Option("tls", "true or false", "false", False, ""),
        Option("hosts", "list of text", "a,b", False, "Tried in this order."),
        Option("hurry", "'slow' or 'fast'", "slow", False, ""),
        Option("folder", "path", "none", False, ""),
        Option("numbers", "list of whole number", "none", False, ""),
        Option("headers", "table of text", "none", False, ""),
        Option("password", REFERENCE, "none", False, ""),
        Option("tokens", f"list of {REFERENCE}", "none", False, ""),
        Option("poll", "number", "7", False, "Seconds between two questions while following."),
        Option("deadline", "number", "as --deadline", False, "Seconds a call may take."),
    ]


def test_a_default_of_zero_is_shown() -> None:
    @dataclass
    class Patient(Base):
        name = "patient"
        retries: int = 0

    assert options(Patient)[0].default == "0"


def test_a_default_secret_is_not_shown() -> None:
    @dataclass
    class Careless(Base):
        name = "careless"
        password: Secret = field(default_factory=lambda: Secret("hunter2"))

    assert options(Careless)[0].default == "Secret(…)"


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (Annotated[str, Meta(min_length=3, max_length=9)], "text length >= 3, length <= 9"),
        (Annotated[int, Meta(gt=0, lt=9)], "whole number > 0, < 9"),
        (int | str | None, "whole number or text"),
        (list[int] | None, "list of whole number"),
        (dict[str, int], "table of whole number"),
        (dict, "table"),
    ],
)
def test_types_are_said_in_words(hint: object, text: str) -> None:
    assert words(hint) == text


def test_a_list_that_may_be_missing_or_bounded_is_split_too() -> None:
    assert convert("a,b", list[str] | None) == ["a", "b"]
    assert convert("a,b", Annotated[list[str], Meta(max_length=2)]) == ["a", "b"]
    assert convert("a,b", list[str] | str) == "a,b"
