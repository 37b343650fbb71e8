"""A secret is given by reference, read when it is needed, and printed by nothing."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from wgdisco.backend import Secret
from wgdisco.errors import ConfigError


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "token"
    path.write_text("hunter2\n")
    return path


def unreadable(secret: Secret) -> str:
    with pytest.raises(ConfigError) as caught:
        secret.reveal()
    return str(caught.value)


@pytest.mark.parametrize("form", ["file:{}", {"file": "{}"}])
def test_a_secret_is_read_from_a_file_without_its_final_newline(file: Path, form: str | dict[str, str]) -> None:
    reference = form.format(file) if isinstance(form, str) else {"file": str(file)}
    assert Secret.parse(reference).reveal() == "hunter2"


def test_only_one_final_newline_is_cut(file: Path) -> None:
    file.write_text(" hunter 2 \n\n")
    assert Secret.parse(f"file:{file}").reveal() == " hunter 2 \n"


@pytest.mark.parametrize("reference", ["env:TOKEN", {"env": "TOKEN"}])
def test_a_secret_is_read_from_the_environment(monkeypatch, reference: object) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    assert Secret.parse(reference).reveal() == "hunter2"


@pytest.mark.parametrize("reference", ["credential:token", {"credential": "token"}])
def test_a_secret_is_read_from_the_credentials_of_the_service(monkeypatch, file: Path, reference: object) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert Secret.parse(reference).reveal() == "hunter2"


def test_a_secret_is_read_each_time_so_that_it_can_be_changed(file: Path) -> None:
    secret = Secret.parse(f"file:{file}")
    assert secret.reveal() == "hunter2"
    file.write_text("hunter3")
    assert secret.reveal() == "hunter3"


@pytest.mark.parametrize(
    "reference",
    [
        "hunter2",
        "",
        "file:",
        "File:/x",
        "https://user:hunter2@example.org",
        7,
        None,
        True,
        [],
        ["file:/x"],
        {},
        {"file": ""},
        {"file": 3},
        {"value": "hunter2"},
        {"file": "/x", "env": "Y"},
    ],
)
def test_anything_but_a_reference_is_refused_and_not_quoted(reference: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Secret.parse(reference)
    assert str(caught.value) == (
        "a secret is given by reference, never in plain: "
        '{file = "/path"}, {env = "NAME"} or {credential = "NAME"} (with -o: file:/path, env:NAME, credential:NAME)'
    )


def test_a_variable_that_is_not_set_is_named(monkeypatch) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    assert unreadable(Secret.parse("env:TOKEN")) == (
        "the environment variable 'TOKEN' is not set; it should hold a secret"
    )


def test_a_credential_outside_a_service_names_the_line_to_add(monkeypatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert unreadable(Secret.parse("credential:token")) == (
        "credential 'token': systemd passes none; add LoadCredential= to the unit"
    )


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    assert unreadable(Secret.parse(f"file:{tmp_path}/none")) == (
        f"cannot read the secret in '{tmp_path}/none': No such file or directory"
    )


def test_a_secret_that_is_there_is_true_and_none_is_false() -> None:
    assert [bool(Secret()), bool(Secret("x")), bool(Secret.parse("env:X"))] == [False, True, True]


@dataclass
class Store:
    """What a backend with a password looks like."""

    url: str
    password: Secret = field(default_factory=Secret)


@pytest.mark.parametrize("kind", ["plain", "env"])
def test_nothing_prints_a_secret(monkeypatch, caplog, kind: str) -> None:
    """Neither repr, str, format, a dataclass around it, a log line, nor a traceback."""
    monkeypatch.setenv("TOKEN", "hunter2")
    store = Store("https://x", Secret("hunter2") if kind == "plain" else Secret.parse("env:TOKEN"))
    secret = store.password
    logging.getLogger("test").error("%s %r %s", secret, secret, store)
    told = "".join(traceback.format_exception(ValueError(secret, replace(store, url="y"))))
    printed = [repr(secret), str(secret), f"{secret}", repr([secret]), repr(store), caplog.text, told]
    assert [text for text in printed if "hunter2" in text] == []
    assert repr(secret) == {"plain": "Secret(…)", "env": "Secret(env:TOKEN)"}[kind]
    assert secret.reveal() == "hunter2"
