"""Configuration files, `-b` and `-o`, and the files of keys and secrets: what they give, and every message."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import pytest

from wgdisco.config import (
    Chosen,
    Config,
    combine,
    for_interface,
    load,
)
from wgdisco.errors import AccessError, ConfigError, InvalidKey, UsageError, WgdiscoError
from wgdisco.keyfiles import network_secret, read_network_secret, read_private_key
from wgdisco.keys import PrivateKey

FULL = """
to = "network"
networks = [{file = "FILE"}, "env:OLD"]
lifetime = 7200
endpoints = ["192.0.2.7:51820", "[2001:db8::7]:51820"]
stun = ["stun.example.org:3478", "192.0.2.1"]
expose_hosts = true
stores_through_tunnel = true

[backends.folder]
path = "/srv/wgdisco"

[backends.etcd]
endpoints = ["https://etcd.example.org:2379"]
heartbeat = 12.5
password = {env = "ETCD"}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "wg0.toml"


def refused(path: Path, text: str | bytes) -> str:
    """The message without the path before the line."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


def test_a_file_says_everything(file: Path) -> None:
    file.write_text(FULL)
    assert load(file) == Config(
        to="network",
        networks=({"file": "FILE"}, "env:OLD"),
        lifetime=7200,
        endpoints=("192.0.2.7:51820", "[2001:db8::7]:51820"),
        stun=("stun.example.org:3478", "192.0.2.1"),
        expose_hosts=True,
        stores_through_tunnel=True,
        backends={
            "folder": {"path": "/srv/wgdisco"},
            "etcd": {
                "endpoints": ["https://etcd.example.org:2379"],
                "heartbeat": 12.5,
                "password": {"env": "ETCD"},
            },
        },
        places={"folder": f"{file}:10", "etcd": f"{file}:13"},
    )


def test_an_empty_file_says_nothing(file: Path) -> None:
    file.write_text("# nothing\n")
    assert load(file) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("to = 'peers'\nlifetime = \n", "2: invalid value"),
        ("to = 'peers'\nto = 'key'\n", "2: cannot overwrite a value"),
        ("\nstun = ['a'", "2: unclosed array"),
        (b"\n\nto = '\xff'\n", "3: this is no text in UTF-8"),
        ("\n\nlifetim = 60\n", "3: unknown key 'lifetim'; did you mean 'lifetime'?"),
        ("to = 'key'\n[backend.etcd]\n", "2: unknown key 'backend'; did you mean 'backends'?"),
        (
            "zzz = 1\n",
            "1: unknown key 'zzz'; there are: to, networks, lifetime, endpoints, stun, observers, portmap, expose_hosts, stores_through_tunnel, backends",
        ),
        ("lifetime = 5\n", "1: lifetime = 5: expected whole number >= 60, <= 86400"),
        ("lifetime = '1h'\n", "1: lifetime = '1h': expected whole number >= 60, <= 86400"),
        ("\nto = 'all'\n", "2: to = 'all': expected 'peers' or 'network' or 'key'"),
        ("expose_hosts = 1\n", "1: expose_hosts = 1: expected true or false"),
        ("stun = 3478\n", "1: stun = 3478: expected list of text"),
        (
            "stun = ['2001:db8::1']\n",
            "1: STUN server '2001:db8::1': an IPv6 address is written in brackets, as [2001:db8::1]:3478",
        ),
        (
            "\nendpoints = [\n  'home.example.org:51820',\n]\n",
            "2: endpoint 'home.example.org:51820': expected ADDRESS:PORT, as 192.0.2.1:51820 or [2001:db8::1]:51820",
        ),
        ("backends = 3\n", "1: backends = 3: expected table of table of any"),
        ("[backends]\n# x\nfolder = 3\n", "3: backends.folder = 3: expected a table, as [backends.folder]"),
        (
            "[[backends.folder]]\npath = 'x'\n",
            "1: backends.folder = [{'path': 'x'}]: expected a table, as [backends.folder]",
        ),
    ],
)
def test_what_is_wrong_is_quoted_with_file_and_line(file: Path, text: str | bytes, message: str) -> None:
    assert refused(file, text).lower() == message.lower()


def test_the_line_is_that_of_the_key_itself(file: Path) -> None:
    """Neither a comment, a value, nor the same word in a table counts."""
    text = "# lifetime = 1\nstun = ['lifetime']\n[backends.x]\nlifetime = 1\n[backends.y]\nto = 2\n"
    assert refused(file, f"{text}[lifetime]\n").split(":")[0] == "7"
    assert refused(file, '[backends.x]\nto = 1\n["backends"."lifetime"]\n["to"]\n').split(":")[0] == "4"


PLAIN = (
    "a secret is given by reference, never in plain: "
    '{file = "/path"}, {env = "NAME"} or {credential = "NAME"} (with -o: file:/path, env:NAME, credential:NAME)'
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("['hunter2']", f"networks: {PLAIN}"),
        ("[{plain = 'hunter2'}]", f"networks: {PLAIN}"),
        ("[['hunter2']]", f"networks: {PLAIN}"),
        ("'hunter2'", 'networks: expected a list of references, as [{file = "/path"}]'),
        ("{file = 'hunter2'}", 'networks: expected a list of references, as [{file = "/path"}]'),
    ],
)
def test_a_plain_network_secret_is_refused_and_not_quoted(file: Path, value: str, message: str) -> None:
    assert refused(file, f"networks = {value}\n") == f"1: {message}"


def test_a_file_that_cannot_be_read_is_an_error_when_it_was_asked_for(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == f"cannot read the configuration '{file}': No such file or directory"


def test_an_interface_without_a_file_has_the_defaults(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("wgdisco.config.FOLDER", tmp_path)
    assert for_interface("wg0") == for_interface(None) == Config()
    (tmp_path / "wg0.toml").write_text("lifetime = 60\n")
    assert for_interface("wg0") == Config(lifetime=60)


def test_a_file_of_an_interface_that_cannot_be_read_is_no_reason_for_defaults(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("wgdisco.config.FOLDER", tmp_path)
    (tmp_path / "wg0.toml").mkdir()
    with pytest.raises(ConfigError) as caught:
        for_interface("wg0")
    assert str(caught.value) == f"cannot read the configuration '{tmp_path}/wg0.toml': Is a directory"


def test_network_secrets_are_read_from_where_they_are(monkeypatch, tmp_path) -> None:
    (tmp_path / "new").write_text(b64encode(b"n" * 32).decode() + "\n")
    monkeypatch.setenv("OLD", b64encode(b"o" * 32).decode())
    for mode, warned in ((0o600, False), (0o644, True)):
        (tmp_path / "new").chmod(mode)
        for reference in ({"file": str(tmp_path / "new")}, f"file:{tmp_path}/new"):
            warnings: list[str] = []
            assert Config(networks=(reference, "env:OLD")).secrets(warnings.append) == [b"n" * 32, b"o" * 32]
            assert bool(warnings) is warned


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hunter2", "is not base64; expected 32 bytes in base64, as `wgdisco genkey` prints them"),
        ("aHVudGVyMg==", "has 7 bytes; expected 32 bytes in base64, as `wgdisco genkey` prints them"),
        ("", "has 0 bytes; expected 32 bytes in base64, as `wgdisco genkey` prints them"),
    ],
)
def test_a_wrong_network_secret_is_not_quoted(monkeypatch, text: str, reason: str) -> None:
    monkeypatch.setenv("NET", text)
    for reference in ({"env": "NET"}, "env:NET"):
        with pytest.raises(ConfigError) as caught:
            Config(networks=(reference,)).secrets()
        assert str(caught.value) == f"the network secret in env:NET {reason}"


def test_a_network_secret_survives_blanks_around_it() -> None:
    assert network_secret(f" {b64encode(b'n' * 32).decode()}\n", "x") == b"n" * 32


CONFIG = Config(backends={"folder": {"path": "/srv"}, "etcd": {"prefix": "/a/", "user": "x"}})


@pytest.mark.parametrize(
    ("config", "names", "settings", "chosen"),
    [
        (CONFIG, [], [], Chosen(CONFIG.backends)),
        (CONFIG, ["etcd"], [], Chosen({"etcd": {"prefix": "/a/", "user": "x"}})),
        (CONFIG, ["etcd"], ["prefix=/b/"], Chosen({"etcd": {"prefix": "/b/", "user": "x"}})),
        (CONFIG, ["etcd", "etcd"], ["etcd.prefix=a=b"], Chosen({"etcd": {"prefix": "a=b", "user": "x"}})),
        (CONFIG, [], ["folder.path="], Chosen({"folder": {"path": ""}, "etcd": {"prefix": "/a/", "user": "x"}})),
        (CONFIG, ["mqtt", "folder"], ["mqtt.host=h"], Chosen({"mqtt": {"host": "h"}, "folder": {"path": "/srv"}})),
        (Config(), ["acme.store"], ["acme.store.url=x"], Chosen({"acme.store": {"url": "x"}})),
    ],
)
def test_the_command_line_goes_before_the_file(config, names: list[str], settings: list[str], chosen: Chosen) -> None:
    found = combine(config, names, settings)
    assert (found, list(found.backends)) == (chosen, list(chosen.backends))


def test_the_file_is_not_changed_by_the_command_line() -> None:
    combine(CONFIG, [], ["etcd.prefix=/b/"])
    assert CONFIG.backends["etcd"] == {"prefix": "/a/", "user": "x"}


@pytest.mark.parametrize(
    ("there", "names"),
    [(["dht", "etcd", "lan"], ["dht", "lan"]), (["dht", "etcd"], ["dht"]), ([], ["dht"])],
)
def test_when_nobody_chose_that_is_told(monkeypatch, there: list[str], names: list[str]) -> None:
    monkeypatch.setattr("wgdisco.plugins.built_in", lambda: there)
    monkeypatch.setattr("wgdisco.config.LIBRARIES", {"lan": "json"})
    assert combine(Config(), [], []) == Chosen({name: {} for name in names}, defaulted=True)


def test_a_default_whose_library_is_missing_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr("wgdisco.plugins.built_in", lambda: ["dht", "lan"])
    monkeypatch.setattr("wgdisco.config.LIBRARIES", {"lan": "a_library_that_is_not_there"})
    assert list(combine(Config(), [], []).backends) == ["dht"]


@pytest.mark.parametrize(
    ("names", "setting", "message"),
    [
        (["etcd"], "hunter2", "option 'hunter2': expected KEY=VALUE, as -o prefix=/home/"),
        (["etcd"], "=x", "option '=x': expected KEY=VALUE, as -o prefix=/home/"),
        ([], "password=hunter2", "option 'password': several backends are used, so say whose: -o folder.password=…"),
        (["etcd"], "mqtt.password=hunter2", "option 'mqtt.password': backend 'mqtt' is not used here; add -b mqtt"),
    ],
)
def test_a_setting_that_fits_nowhere_is_quoted_without_its_value(names: list[str], setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        combine(CONFIG, names, [setting])
    assert str(caught.value) == message


def key_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "private key"
    path.write_text(text)
    path.chmod(mode)
    return path


KEY = b64encode(b"a" * 32).decode()
EXPECTED = "expected 44 characters of base64, as `wg genkey` prints them"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_key_is_read_from_a_file_of_its_owners(tmp_path, mode: int) -> None:
    assert read_private_key(key_file(tmp_path, f"{KEY}\n", mode)).public == PrivateKey(b"a" * 32).public


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o620, 0o777])
def test_a_key_file_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path, mode: int) -> None:
    path = key_file(tmp_path, KEY, mode)
    with pytest.raises(AccessError) as caught:
        read_private_key(path)
    assert str(caught.value) == (
        f"the private key in '{path}' can be read by others (mode {mode:04o}); chmod 600 '{path}'"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hunter2", "the private key is not valid base64"),
        ("aHVudGVyMg==", "the private key has 7 bytes instead of 32"),
        ("", "the private key has 0 bytes instead of 32"),
        (KEY[:-2] + "F=", "the private key is not canonical base64 (one key has one spelling)"),
        (f"{KEY}\n{KEY}\n", "the private key is not valid base64"),
    ],
)
def test_a_file_without_a_key_is_not_quoted(tmp_path, text: str, reason: str) -> None:
    path = key_file(tmp_path, text)
    with pytest.raises(InvalidKey) as caught:
        read_private_key(path)
    assert str(caught.value) == f"'{path}': {reason}; {EXPECTED}"
    assert caught.value.__cause__ is None


def test_a_binary_file_is_no_key_and_not_quoted(tmp_path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"\xff" * 32)
    path.chmod(0o600)
    with pytest.raises(UsageError) as caught:
        read_private_key(path)
    assert str(caught.value) == f"the file '{path}' holds no private key: it is not text"


def test_a_missing_key_file_and_a_folder_are_said(tmp_path) -> None:
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(AccessError) as caught:
            read_private_key(path)
        assert str(caught.value) == f"cannot read the private key in '{path}': {reason}"


def test_a_key_file_without_permission_is_said(tmp_path) -> None:
    path, before = key_file(tmp_path, KEY, 0o000), os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)  # root reads everything
        with pytest.raises(AccessError) as caught:
            read_private_key(path)
    finally:
        os.seteuid(before)
    assert str(caught.value) == f"cannot read the private key in '{path}': Permission denied"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_key_may_come_through_a_pipe(mode: int) -> None:
    """As the shell's <(…), whose mode says nothing about who can read it."""
    reading, writing = os.pipe()
    os.fchmod(reading, mode)
    os.write(writing, KEY.encode())
    os.close(writing)
    try:
        assert read_private_key(Path(f"/dev/fd/{reading}")).public == PrivateKey(b"a" * 32).public
    finally:
        os.close(reading)


def test_a_network_secret_that_others_can_read_is_warned_of(tmp_path) -> None:
    """It is shared already; a private key is not."""
    path, warnings = key_file(tmp_path, KEY, 0o644), []
    assert read_network_secret(path, warnings.append) == b"a" * 32
    assert warnings == [f"the network secret in '{path}' can be read by others (mode 0644); chmod 600 '{path}'"]


def test_a_wrong_network_secret_file_is_named(tmp_path) -> None:
    path, warnings = key_file(tmp_path, "hunter2"), []
    with pytest.raises(WgdiscoError) as caught:
        read_network_secret(path, warnings.append)
    assert (str(caught.value), warnings) == (
        f"the network secret in '{path}' is not base64; expected 32 bytes in base64, as `wgdisco genkey` prints them",
        [],
    )
