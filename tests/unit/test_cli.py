"""The commands as a user meets them: what they print, their exit codes, and the message for every dead end."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from wgdisco.cli.main import COMMANDS, main
from wgdisco.cli.setting import Setting
from wgdisco.config import Config
from wgdisco.keys import PrivateKey

ALICE, BOB = PrivateKey(b"a" * 32), PrivateKey(b"b" * 32)
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())

READABLE_NOW = [case for case in VECTORS["cases"] if "next period" not in case["name"]]


@pytest.fixture(autouse=True)
def no_interface(tmp_path, monkeypatch) -> None:
    """A host without WireGuard, with state of its own."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr("wgdisco.device.list_devices", list)
    monkeypatch.setattr("wgdisco.config.FOLDER", tmp_path / "etc")


@pytest.fixture
def shelf(tmp_path) -> list[str]:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return ["-b", "folder", "-o", f"path={folder}"]


def key_file(tmp_path: Path, raw: bytes = b"a" * 32, mode: int = 0o600) -> str:
    path = tmp_path / "private.key"
    path.write_text(b64encode(raw).decode() + "\n")
    path.chmod(mode)
    return str(path)


def error_of(capsys, *words: str) -> tuple[int, str]:
    code = main(list(words))
    return code, capsys.readouterr().err.strip().removeprefix("wgdisco: ")


def test_publish_and_resolve_by_the_key_alone(capsys, tmp_path, shelf) -> None:
    key = key_file(tmp_path)
    assert main(["publish", "--private-key-file", key, "--to", "key", "-e", "192.0.2.7:51820", *shelf]) == 0
    published = capsys.readouterr().out
    assert published == (
        "readable by: whoever knows the public key\n"
        "  endpoint: 192.0.2.7:51820 (mapped)\n"
        "  lifetime: 1 hour\n"
        "  folder: stored\n"
    )
    assert main(["resolve", str(ALICE.public), "--short", *shelf]) == 0
    assert capsys.readouterr().out == "192.0.2.7:51820\n"
    assert main(["resolve", str(ALICE.public), "--json", "--all", *shelf]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["subject"], found["audience"], found["version"]) == (str(ALICE.public), "key", 1)
    assert found["candidates"] == [{"kind": "mapped", "address": "192.0.2.7", "port": 51820}]
    assert found["answers"][0]["name"] == "folder"
    assert main(["resolve", str(ALICE.public), *shelf]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"peer: {ALICE.public}", "  endpoint: 192.0.2.7:51820 (mapped)"]
    assert [line.split(":")[0].strip() for line in lines[2:]] == ["issued", "expires", "readable by", "found by"]


def test_a_network_reads_what_others_cannot_find(capsys, tmp_path, shelf) -> None:
    secret = tmp_path / "network"
    assert main(["genkey"]) == 0
    secret.write_text(capsys.readouterr().out)
    secret.chmod(0o600)
    words = ["--private-key-file", key_file(tmp_path), "-e", "192.0.2.7:1", "--to", "network", *shelf]
    assert main(["publish", *words, "--secret-file", str(secret)]) == 0
    assert main(["resolve", str(ALICE.public), "--secret-file", str(secret), *shelf]) == 0
    capsys.readouterr()
    code, text = error_of(capsys, "resolve", str(ALICE.public), *shelf)
    assert code == 1
    assert text == (
        f"no valid record of {ALICE.public.short}:\n  folder: nothing there\n"
        "asked for its records to: key\n"
        "  add --secret-file FILE if it publishes to a network\n"
        "  add -i INTERFACE or --private-key-file FILE if it publishes to its peers"
    )


def test_a_good_bye_and_a_dry_run(capsys, tmp_path, shelf) -> None:
    words = ["publish", "--private-key-file", key_file(tmp_path), "--to", "key", *shelf]
    assert main([*words, "-e", "192.0.2.7:1", "--dry-run"]) == 0
    assert "would publish to: folder" in capsys.readouterr().out
    assert list(Path(shelf[-1].removeprefix("path=")).iterdir()) == []
    assert main([*words, "--leave", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["candidates"] == []
    assert main(["resolve", str(ALICE.public), *shelf]) == 0
    assert "endpoint: (none: it said that it is leaving)" in capsys.readouterr().out


def test_a_dry_run_as_json_says_the_same(capsys, tmp_path, shelf) -> None:
    words = ["--private-key-file", key_file(tmp_path), "--to", "key", "-e", "192.0.2.7:1", *shelf]
    assert main(["publish", "--dry-run", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": 1,
        "dry_run": True,
        "audience": "key",
        "records": 1,
        "candidates": ["192.0.2.7:1"],
        "backends": [{"name": "folder"}],
    }


def test_given_endpoints_that_nobody_could_use_are_a_mistake(capsys, tmp_path, shelf) -> None:
    words = ["--private-key-file", key_file(tmp_path), "--to", "key", "-e", "127.0.0.1:5", *shelf]
    code, text = error_of(capsys, "publish", *words)
    assert (code, text.splitlines()[-1]) == (
        2,
        "wgdisco: no peer could use 127.0.0.1:5, so nothing was published; say where peers reach us",
    )


@pytest.mark.parametrize("name", ["status", "why", "endpoints", "publish", "resolve", "inspect", "backends"])
def test_json_is_one_object_also_when_there_is_an_error(capsys, tmp_path, name: str) -> None:
    """The text of the error, as on stderr, and the exit code."""
    words = {
        "status": ["--folder", str(tmp_path)],
        "why": ["AAAA", "--folder", str(tmp_path)],
        "resolve": [str(BOB.public), "-b", "memory"],
        "inspect": ["/nonexistent", "--key", str(BOB.public)],
        "backends": ["floder"],
    }
    code = main([name, *words.get(name, []), "--json"])
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["version"], found["code"], f"wgdisco: {found['error']}\n") == (1, code, told.err)


@pytest.mark.parametrize("name", ["connect", "why", "endpoints", "run"])
def test_no_command_offers_a_key_file_that_it_would_refuse(capsys, tmp_path, name: str) -> None:
    words = [name, *(["AAAA", "--folder", str(tmp_path)] if name == "why" else ["AAAA"] * (name == "connect"))]
    assert error_of(capsys, *words) == (4, "there is no WireGuard interface; bring one up (wg-quick up wg0)")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "--private-key-file" not in capsys.readouterr().out


def test_help_explains_the_command_that_follows(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["help", "publish"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: wgdisco publish ")


def test_the_options_of_a_backend_as_json(capsys) -> None:
    assert main(["backends", "folder", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["options"][0]["name"], found["options"][0]["required"]) == ("folder", "path", True)


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o600, False)])
def test_genkey_warns_of_a_file_that_others_can_read(tmp_path, mode: int, warned: bool) -> None:
    path = tmp_path / "network.key"
    path.touch(mode)
    path.chmod(mode)
    with path.open("w") as file:
        words = [sys.executable, "-m", "wgdisco", "genkey"]
        done = subprocess.run(words, stdout=file, stderr=subprocess.PIPE, text=True, timeout=30, check=True)
    assert ("others can read this file (mode 0644)" in done.stderr) is warned


def test_foreign_text_in_a_slot_is_skipped(capsys, tmp_path, shelf) -> None:
    words = ["--private-key-file", key_file(tmp_path), "--to", "key", "-e", "192.0.2.7:1", *shelf]
    assert main(["publish", *words]) == 0
    for path in Path(shelf[-1].removeprefix("path=")).iterdir():
        path.write_text("something else entirely\n")
    capsys.readouterr()
    code, text = error_of(capsys, "resolve", str(ALICE.public), *shelf)
    assert (code, text.splitlines()[1]) == (1, "  folder: nothing there")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["pubish"], 2, "unknown command 'pubish'; did you mean 'publish'?"),
        (["zzz"], 2, f"unknown command 'zzz'; expected one of: {', '.join(COMMANDS)}"),
        (
            ["resolve", "short"],
            2,
            "public key 'short' is not valid base64; expected 44 characters of base64, as `wg pubkey` prints them",
        ),
        (
            ["publish"],
            4,
            "there is no WireGuard interface; bring one up (wg-quick up wg0), or use --private-key-file FILE",
        ),
        (
            ["publish", "--private-key-file", "/nonexistent"],
            4,
            "cannot read the private key in '/nonexistent': No such file or directory",
        ),
        (["resolve", str(BOB.public), "-b", "floder"], 2, "there is no backend 'floder'; did you mean 'folder'?"),
        (["resolve", str(BOB.public), "-b", "folder"], 2, "backend 'folder' needs the option 'path': -o path=…"),
        (
            ["resolve", str(BOB.public), "-b", "folder", "-o", "pth=/tmp"],
            2,
            "backend 'folder' has no option 'pth'; did you mean 'path'?",
        ),
        (
            ["resolve", str(BOB.public), "-b", "folder", "-o", "path"],
            2,
            "option 'path': expected KEY=VALUE, as -o prefix=/home/",
        ),
        (
            ["resolve", str(BOB.public), "-b", "folder", "-b", "memory", "-o", "path=/tmp"],
            2,
            "option 'path': several backends are used, so say whose: -o folder.path=…",
        ),
        (
            ["inspect", "/nonexistent", "--key", str(BOB.public)],
            2,
            "cannot read '/nonexistent': No such file or directory",
        ),
        (
            ["inspect", "/dev/null", "--key", str(BOB.public), "--at", "soon"],
            2,
            "--at 'soon': expected a unix time in seconds, as 1795233600 or 1795233600.25",
        ),
        (
            ["inspect", "/dev/null", "--key", str(BOB.public), "--at", "nan"],
            2,
            "--at 'nan': expected a unix time in seconds, as 1795233600 or 1795233600.25",
        ),
        (["help", "pubish"], 2, "unknown command 'pubish'; did you mean 'publish'?"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_every_dead_end_names_the_way_on(capsys, words: list[str], code: int, text: str) -> None:
    found = error_of(capsys, *words)
    assert (found[0], found[1][: len(text)]) == (code, text)


def test_a_key_file_that_others_can_read_is_refused(capsys, tmp_path) -> None:
    path = key_file(tmp_path, mode=0o644)
    assert error_of(capsys, "publish", "--private-key-file", path) == (
        4,
        f"the private key in '{path}' can be read by others (mode 0644); chmod 600 {path}",
    )


def test_a_key_file_without_a_key_is_not_quoted(capsys, tmp_path) -> None:
    path = tmp_path / "private.key"
    path.write_text("hunter2\n")
    path.chmod(0o600)
    code, text = error_of(capsys, "publish", "--private-key-file", str(path))
    assert code == 2
    assert text == (
        f"'{path}': the private key is not valid base64; expected 44 characters of base64, as `wg genkey` prints them"
    )


def test_without_an_interface_the_audience_has_to_be_said(capsys, tmp_path, shelf) -> None:
    words = ["publish", "--private-key-file", key_file(tmp_path), "-e", "192.0.2.7:1", *shelf]
    assert error_of(capsys, *words) == (
        2,
        "without an interface there are no peers to speak to; choose --to network or --to key",
    )
    assert error_of(capsys, *words, "--to", "network") == (
        2,
        "--to network needs the network's secret: wgdisco genkey > FILE, then --secret-file FILE",
    )


def test_several_interfaces_are_listed(capsys, monkeypatch) -> None:
    monkeypatch.setattr("wgdisco.device.list_devices", lambda: ["wg0", "wg1"])
    assert error_of(capsys, "publish") == (2, "there are 2 WireGuard interfaces, choose one: -i wg0 or -i wg1")


def test_the_default_backend_is_named(capsys, monkeypatch, tmp_path) -> None:
    """The first line says which store was chosen for want of another, and why it is harmless."""
    monkeypatch.setattr("wgdisco.config.DEFAULT_BACKENDS", ("memory",))
    assert main(["resolve", str(BOB.public)]) == 1
    assert capsys.readouterr().err.startswith("wgdisco: no backend was chosen, so: ")


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("to = 'peers'\nlifetime = \n", "{path}:2: invalid value"),
        ("to = 'peers'\n\nlifetim = 60\n", "{path}:3: unknown key 'lifetim'; did you mean 'lifetime'?"),
        ("\n[backends.floder]\n", "{path}:2: there is no backend 'floder'; did you mean 'folder'?"),
        ("[backends.folder]\npath = ''\n", "{path}:1: backend 'folder': option path = '': expected path"),
        (
            "[backends.dht]\nport = 70000\n",
            "{path}:1: backend 'dht': option port = 70000: expected whole number >= 0, <= 65535",
        ),
        ("backends.folder.pth = '/'\n", "{path}:1: backend 'folder' has no option 'pth'; did you mean 'path'?"),
        ("lifetime = 5\n", "{path}:1: lifetime = 5: expected whole number >= 60, <= 86400"),
        ("\nto = 'all'\n", "{path}:2: to = 'all': expected 'peers' or 'network' or 'key'"),
        ("[backends]\nfolder = 3\n", "{path}:2: backends.folder = 3: expected a table, as [backends.folder]"),
    ],
)
def test_a_bad_configuration_is_quoted_with_file_and_line(capsys, tmp_path, toml: str, text: str) -> None:
    path = tmp_path / "wg0.toml"
    path.write_text(toml)
    words = ["publish", "--config", str(path), "--private-key-file", key_file(tmp_path)]
    code, found = error_of(capsys, *words)
    assert (code, found.lower()) == (2, text.format(path=path).lower())


def decoded(capsys, blob: bytes, tmp_path: Path, *words: str) -> tuple[int, dict]:
    path = tmp_path / "blob"
    path.write_bytes(blob)
    code = main(["inspect", str(path), "--json", *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["name"])
def test_inspect_names_the_reason_of_each_invalid_vector(capsys, tmp_path, case: dict) -> None:
    words = ["--key", VECTORS["keys"][case["asked"]]["public"], "--at", f"{case['now'] / 1000:.3f}"]
    code, found = decoded(capsys, bytes.fromhex(case["blob"]), tmp_path, *words)
    assert (code, found.get("error")) == (int(case["error"] is not None), case["error"])


@pytest.mark.parametrize("form", ["blob", "text"])
@pytest.mark.parametrize("case", READABLE_NOW, ids=lambda case: case["name"])
def test_inspect_opens_each_vector_in_both_forms(capsys, tmp_path, case: dict, form: str) -> None:
    words = ["--key", VECTORS["keys"][case["subject"]]["public"], "--at", str(VECTORS["now"])]
    if case["audience"] == "network":
        secret = tmp_path / "secret"
        secret.write_text(b64encode(bytes.fromhex(case["secret"])).decode())
        secret.chmod(0o600)
        words += ["--secret-file", str(secret)]
    if case["audience"] == "peers":
        reader = VECTORS["keys"]["B" if case["subject"] == "A" else "A"]["private"]
        path = tmp_path / "reader"
        path.write_text(reader)
        path.chmod(0o600)
        words += ["--private-key-file", str(path)]
    raw = bytes.fromhex(case["blob"]) if form == "blob" else case["text"].encode() + b"\n"
    code, found = decoded(capsys, raw, tmp_path, *words)
    assert code == 0
    assert (found["issued"], found["lifetime"], found["hints"]) == (case["issued"], case["lifetime"], case["hints"])
    known = [each for each in case["candidates"] if each[0] < 4]
    assert [[each["address"], each["port"]] for each in found["candidates"]] == [each[1:] for each in known]


def test_a_process_ends_at_once_when_a_plugin_hangs(tmp_path) -> None:
    """A frozen store never holds up the exit of the process: neither a stubborn task nor a blocked thread."""
    (tmp_path / "stubborn.py").write_text(
        "import asyncio, threading, time\n"
        "from wgdisco.cli.running import run\n"
        "async def hang():\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(3600)\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
        "async def work():\n"
        "    task = asyncio.ensure_future(hang())\n"
        "    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)\n"
        "    await asyncio.sleep(0.1)\n"
        "    return 7\n"
        "import sys, wgdisco.cli.main as m\n"
        "m.main = lambda: run(work())\n"
        "m.entry()\n"
    )
    words = [sys.executable, "stubborn.py"]
    done = subprocess.run(words, cwd=tmp_path, env=os.environ, timeout=30, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")


def test_a_bug_shows_as_one_and_exits_with_70(capsys, monkeypatch) -> None:
    monkeypatch.setattr("wgdisco.cli.genkey.os.urandom", lambda _: 1 / 0)
    assert main(["genkey"]) == 70
    assert capsys.readouterr().err.endswith("wgdisco: this is a bug in wgdisco; please report the lines above\n")


def test_output_that_could_not_be_written_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "wgdisco", "genkey"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (
        4,
        "wgdisco: [Errno 28] No space left on device; the command did not finish\n",
    )


@pytest.mark.parametrize(("option", "configured"), [(False, False), (True, False), (False, True)])
def test_expose_hosts_may_be_an_option_or_configured(option: bool, configured: bool) -> None:
    options = argparse.Namespace(expose_hosts=option)
    setting = Setting(options, Config(expose_hosts=configured), None, None, None)
    assert setting.expose_hosts is (option or configured)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["publish", "--to", "key"], "without an interface there is nothing to find out from; say where: --endpoint"),
        (["publish", "-i", "wg0"], "-i and --private-key-file are two ways to say who we are; use one of them"),
        (["publish", "--to", "peers", "-e", "192.0.2.7:1"], "without an interface there are no peers to speak to"),
        (["connect", "AAAA"], "this needs a WireGuard interface: use -i INTERFACE instead of --private-key-file"),
    ],
    ids=["publish", "both", "peers", "connect"],
)
def test_a_key_file_is_no_interface(capsys, tmp_path, shelf, words: list[str], text: str) -> None:
    _, found = error_of(capsys, *words, "--private-key-file", key_file(tmp_path), *shelf)
    assert found.startswith(text)


def test_a_good_bye_has_no_short_form(capsys, tmp_path, shelf) -> None:
    assert main(["publish", "--private-key-file", key_file(tmp_path), "--to", "key", "--leave", *shelf]) == 0
    capsys.readouterr()
    assert main(["resolve", str(ALICE.public), "--short", *shelf]) == 1
    assert capsys.readouterr() == (
        "",
        f"wgdisco: {ALICE.public.short} said that it is leaving: it has no endpoint\n",
    )


def test_check_tries_the_stores_without_an_interface(capsys, shelf) -> None:
    assert main(["check", *shelf]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FAIL key: no WireGuard interface and no --private-key-file, so only resolve works"
    assert lines[1].startswith("ok   folder: put ")


def test_a_store_that_fails_is_named_once(capsys, tmp_path) -> None:
    key = ["--private-key-file", key_file(tmp_path), "-b", "folder", "-o", f"path={tmp_path}/gone"]
    reason = f"the directory '{tmp_path}/gone' is not there; mount it, or create it: mkdir -p {tmp_path}/gone\n"
    assert main(["check", *key]) == 3
    assert capsys.readouterr().out.endswith(f"\nFAIL folder: {reason}")
    assert main(["publish", "--to", "key", "-e", "192.0.2.7:1", *key]) == 3
    assert capsys.readouterr().out.endswith(f" stored; {reason}")


def test_a_mistake_in_an_option_is_no_outage(capsys, tmp_path) -> None:
    words = ["resolve", str(BOB.public), "-b", "http", "-o", "url=http://127.0.0.1:1/without-a-slot"]
    assert main(words) == 2


def test_seconds_have_to_make_sense(capsys) -> None:
    for wrong in ("-1", "0", "nan", "soon"):
        with pytest.raises(SystemExit) as end:
            main(["resolve", str(BOB.public), "--deadline", wrong])
        assert end.value.code == 2
        assert f"{wrong!r}: expected a number of seconds from above 0 to 86400" in capsys.readouterr().err
