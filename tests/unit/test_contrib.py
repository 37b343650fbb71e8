"""What contrib/ installs is up to date, is right, and does what it says, as far as a machine without systemd can tell."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import PATH, require_binary, wait_for
from wgdisco.cli.main import COMMANDS
from wgdisco.errors import ConfigError
from wgdisco.report import where

ROOT = Path(__file__).parents[2]
CONTRIB = ROOT / "contrib"
UNIT = CONTRIB / "systemd/wgdisco@.service"
DISPATCHER = CONTRIB / "NetworkManager/90-wgdisco"
QUICK = CONTRIB / "wg-quick/wg0.conf"
BASH, ZSH, FISH = (CONTRIB / "completions" / name for name in ("wgdisco.bash", "_wgdisco", "wgdisco.fish"))
MANUAL = CONTRIB / "man/wgdisco.1"
PR_SET_MDWE = 65  # linux/prctl.h
PAGE = (ROOT / "docs/install.md").read_text()
EXPOSURE = 1.6  # of 10, as systemd 252 counts; what is left is named in docs/install.md


def output(*words: str | Path, env: dict[str, str] | None = None, fine: tuple[int, ...] = (0,)) -> str:
    """What a program says, both streams; AssertionError when it ends with another exit code than a `fine` one."""
    done = subprocess.run(
        words, env={**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8", **(env or {})}, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in fine, f"{words}: {done.returncode}\n{done.stdout}"
    return done.stdout


def program(folder: Path, name: str, script: str) -> Path:
    """A program of that name in a folder of programs."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# ---- generated files


def test_generated_files_are_those_the_parsers_make(monkeypatch) -> None:
    """A command or an option has changed since: run `make contrib`."""
    monkeypatch.syspath_prepend(str(CONTRIB))
    import generate

    stale = [str(path.relative_to(ROOT)) for path, text in generate.files().items() if path.read_text() != text]
    assert stale == [], "run: make contrib"


@pytest.mark.parametrize(("shell", "path"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
def test_a_shell_can_read_its_completions(shell, path) -> None:
    assert output(require_binary(shell), "-n", path) == ""


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """A PATH with our command, and a wg that knows an interface and a peer."""
    folder = tmp_path / "bin"
    program(folder, "wgdisco", f'exec "{sys.executable}" -m wgdisco "$@"')
    program(
        folder,
        "wg",
        'case "$*" in "show interfaces") echo wg0 home;; "show all peers") printf "wg0\\tPEERa=\\n";; esac',
    )
    return {"PATH": f"{folder}:{PATH}", "PYTHONPATH": str(ROOT)}


def bash(line: str, tools: dict[str, str]) -> set[str]:
    """What bash offers for a line."""
    words = line.split(" ")
    script = (
        f'source "{BASH}"; set -- $(complete -p wgdisco); while [ "$1" != -F ]; do shift; done; '
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
        'COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}; '
        f'"$2" wgdisco {words[-1]!r} {words[-2]!r}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    return set(output(require_binary("bash"), "--norc", "-c", script, env=tools).split())


def fish(line: str, tools: dict[str, str]) -> set[str]:
    """What fish offers for a line."""
    script = f'source "{FISH}"; complete -C "{line}"'
    home = {"HOME": tools["PATH"].partition(":")[0]}
    found = output(require_binary("fish"), "--no-config", "-c", script, env={**tools, **home})
    return {row.partition("\t")[0] for row in found.splitlines()}


@pytest.mark.parametrize("ask", [bash, fish])
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("wgdisco re", {"resolve"}),
        ("wgdisco ", set(COMMANDS)),
        ("wgdisco publish --dry", {"--dry-run"}),
        ("wgdisco publish --to ", {"peers", "network", "key"}),
        ("wgdisco publish -i ", {"wg0", "home"}),
        ("wgdisco publish -i h", {"home"}),
        ("wgdisco publish --backend et", {"etcd"}),
        ("wgdisco backends na", {"nats"}),
        ("wgdisco connect PE", {"PEERa="}),
        ("wgdisco plugin n", {"new"}),
    ],
)
def test_a_shell_offers(ask, line, offered, tools) -> None:
    assert ask(line, tools) == offered


def test_zsh_offers_commands_interfaces_and_peers(tools, tmp_path) -> None:
    """In a terminal of its own, since zsh completes nowhere else."""
    zsh = require_binary("zsh")
    shutil.copy(ZSH, tmp_path / "_wgdisco")
    script = f"""
zmodload zsh/zpty
zpty shell {zsh} -f -i
send() {{ zpty -w -n shell "$1" }}
until_seen() {{ local seen= chunk= ; while [[ $seen != *"$1"* ]]; do zpty -r shell chunk || exit 1; seen+=$chunk; done; print -r -- $seen }}
send $'PS1=; fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; zstyle ":completion:*" list-colors ""; print REA""DY\\n'
until_seen READY >/dev/null
for line in "wgdisco res" "wgdisco publish -i h" "wgdisco connect PE" "wgdisco publish --endpoint x --dry"; do
    send "$line"$'\\t'$'\\C-a'"print -r -- GOT '"$'\\C-e'"'; print DO\\"\\"NE"$'\\n'
    until_seen DONE
done
"""
    shown = output(zsh, "-f", "-c", script, env={**tools, "TERM": "dumb", "HOME": str(tmp_path)})
    found = re.findall(r"^GOT (.*?) *\r?$", shown, re.MULTILINE)
    assert found == [
        "wgdisco resolve",
        "wgdisco publish -i home",
        "wgdisco connect PEERa=",
        "wgdisco publish --endpoint x --dry-run",
    ]


def test_the_manual_page_is_right_roff() -> None:
    said = output(require_binary("mandoc"), "-T", "lint", "-W", "warning", MANUAL, fine=(0, 2))
    assert [line for line in said.splitlines() if "missing date" not in line] == []


def test_the_manual_page_shows_every_command_and_option() -> None:
    text = re.sub(".\x08", "", output(require_binary("mandoc"), "-T", "utf8", MANUAL))
    for name in COMMANDS:
        shown = output(sys.executable, "-m", "wgdisco", name, "--help")
        section = text.partition(f"   wgdisco {name}\n")[2].partition("\n   wgdisco ")[0]
        assert section, name
        wanted = set(re.findall(r"^  (?:-\w[^,\n]*, )?(--[a-z][a-z-]*)", shown, re.MULTILINE)) - {"--help"}
        assert {option for option in wanted if option not in section} == set(), name


# ---- the unit


def unit() -> dict[str, list[str]]:
    """The unit's settings, all values of each."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a command that exists, where systemd-analyze may look."""
    command = program(tmp_path / "bin", "wgdisco", "")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/usr/local/bin/wgdisco", str(command)))
    return path


def test_systemd_finds_nothing_wrong_with_the_unit(installed) -> None:
    analyze = require_binary("systemd-analyze")
    instance = installed.with_name("wgdisco@wg0.service")
    instance.write_text(installed.read_text())
    said = output(analyze, "verify", "--man=no", instance)
    assert [line for line in said.splitlines() if "wgdisco" in line] == []


def test_the_unit_is_as_hardened_as_the_docs_say(installed) -> None:
    said = output(require_binary("systemd-analyze"), "security", "--offline=true", "--no-pager", installed)
    level = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
    assert level <= EXPOSURE
    assert f"exposure level of {EXPOSURE} of 10" in " ".join(PAGE.split())


def test_the_unit_has_the_two_capabilities_and_no_other() -> None:
    found = unit()
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"] == ["CAP_NET_ADMIN CAP_NET_RAW"]


def test_the_unit_allows_every_kind_of_socket_that_is_opened() -> None:
    """And no other: interface and routes by netlink, raw sockets of IP, no AF_PACKET."""
    used = set()
    for path in (ROOT / "wgdisco").rglob("*.py"):
        used |= set(re.findall(r"\bAF_(?!UNSPEC)[A-Z0-9]+", path.read_text()))
    assert used == {"AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"}
    assert set(unit()["RestrictAddressFamilies"][0].split()) == used


def test_the_unit_keeps_state_where_the_agent_writes_it() -> None:
    found = unit()
    assert found["StateDirectory"] == ["wgdisco"]
    assert found["RuntimeDirectory"] == ["wgdisco/%i"]
    assert where("%i") == Path("/run") / found["RuntimeDirectory"][0] / "state.json"
    assert "ProcSubset" not in found  # the boot's id in /proc/sys has to be readable
    assert found["RuntimeDirectoryPreserve"] == ["yes"]


def test_the_unit_restarts_what_hangs_or_fails_unless_the_configuration_is_to_blame() -> None:
    found = unit()
    assert (found["Type"], found["NotifyAccess"], found["WatchdogSec"]) == (["notify"], ["main"], ["60"])
    assert (found["Restart"], found["StartLimitIntervalSec"]) == (["on-failure"], ["0"])
    assert found["RestartPreventExitStatus"] == [str(ConfigError.exit_code)]


def test_the_unit_reloads_by_the_signal_and_ends_the_agent_alone() -> None:
    """A good-bye may go through a program of backend exec, which must not get the signal that the agent gets."""
    found = unit()
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert found["KillMode"] == ["mixed"]


def test_the_unit_waits_for_wg_quick_and_depends_on_nothing() -> None:
    found = unit()
    assert found["After"] == ["network.target wg-quick@%i.service"]
    assert {"BindsTo", "Requires", "PartOf", "Requisite", "Wants"} & set(found) == set()


def test_nothing_the_unit_writes_can_be_read_by_others() -> None:
    """State holds who was seen where, and a core would hold the private key."""
    found = unit()
    assert (found["UMask"], found["StateDirectoryMode"], found["LimitCORE"]) == (["0077"], ["0700"], ["0"])


# ---- the agent as the unit starts it


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd would listen for what the service says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def heard(manager: socket.socket, wanted: str) -> None:
    """Wait until the service has said this; TimeoutError when it does not."""
    while wanted not in manager.recv(4096).decode().splitlines():
        pass


def agent(host, folder: Path):
    """The agent with the privileges and the directories that the unit gives it; systemd's own part is played here."""
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in unit()["CapabilityBoundingSet"][0].split())
    privileges = [f"--bounding-set=-all,{names}", f"--inh-caps=-all,{names}", "--no-new-privs"]
    python = (
        f"import ctypes; assert not ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0); " if forbids_new_code() else ""
    )
    python += "import sys; from wgdisco.cli.main import entry; sys.argv[0] = 'wgdisco'; entry()"
    (folder / "state").mkdir()
    environment = {
        "NOTIFY_SOCKET": str(folder / "notify"),
        "WATCHDOG_USEC": "1000000",
        "STATE_DIRECTORY": str(folder / "state"),
        "PYTHONPATH": str(ROOT),
    }
    (folder / "store").mkdir()
    words = ["run", "-i", "wg0", "-b", "folder", "-o", f"path={folder / 'store'}", "-e", "203.0.113.99:51820"]
    command = [require_binary("setpriv"), *privileges, sys.executable, "-c", python, *words]
    with (folder / "log").open("w") as log:
        return host.popen(*command, env=environment, stdout=log, stderr=log)


def forbids_new_code() -> bool:
    """Whether this kernel knows MemoryDenyWriteExecute= as a rule of its own (Linux 6.3)."""
    test = f"import ctypes, sys; sys.exit(bool(ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0)))"
    return subprocess.run([sys.executable, "-c", test], check=False).returncode == 0


@pytest.mark.lab
def test_the_agent_tells_systemd_what_the_unit_waits_for(lab, manager, tmp_path) -> None:
    """Ready, alive, reloading and ready again, stopping; with two capabilities, and no memory to write code into."""
    host = lab.public("alice")
    other = lab.public("bob").wireguard("wg0", "10.9.0.2/24")
    host.wireguard("wg0", "10.9.0.1/24").peer(other.public, "10.9.0.2/32")
    process = agent(host, tmp_path)
    heard(manager, "READY=1")
    heard(manager, "WATCHDOG=1")
    heard(manager, "WATCHDOG=1")
    process.send_signal(signal.SIGHUP)
    heard(manager, "RELOADING=1")
    heard(manager, "READY=1")
    wait_for(lambda: any((tmp_path / "store").iterdir()), "the record is published")
    assert any((tmp_path / "state").glob("key-*.sqlite"))
    assert host.path("/run/wgdisco/wg0/state.json").exists()
    process.send_signal(signal.SIGTERM)
    heard(manager, "STOPPING=1")
    assert process.wait(30) == 0
    assert "CAP_" not in (tmp_path / "log").read_text()


@pytest.mark.lab
def test_the_agent_is_ready_though_its_interface_is_not_there_yet(lab, manager, tmp_path) -> None:
    """Else systemd ends it after 90 s, and a boot without the interface does not finish before."""
    agent(lab.public("alice"), tmp_path)
    assert "READY=1" in [manager.recv(4096).decode().partition("\n")[0] for _ in range(6)]


# ---- wg-quick


def quick() -> list[tuple[str, str]]:
    """The hooks of the example, those in comments too."""
    return re.findall(r"^#?(PostUp|PreDown) = (.*)$", QUICK.read_text(), re.MULTILINE)


def test_the_lines_for_wg_quick_are_shell() -> None:
    assert [name for name, _ in quick()] == ["PostUp", "PreDown", "PostUp", "PreDown"]
    for _, line in quick():
        output(require_binary("bash"), "-n", "-c", line.replace("%i", "wg0"))
        assert "#" not in line  # wg-quick takes the rest for a comment


@pytest.mark.lab
def test_wg_quick_starts_and_stops_the_unit(lab, tmp_path) -> None:
    """With a systemctl that writes down what it is told."""
    host = lab.public("alice")
    program(tmp_path / "bin", "systemctl", f'echo "$@" >>"{tmp_path}/told"')
    assert wg_quick(host, tmp_path, QUICK.read_text(), "up") == ["--no-block start wgdisco@wg0"]
    assert wg_quick(host, tmp_path, QUICK.read_text(), "down")[1:] == ["stop wgdisco@wg0"]


@pytest.mark.lab
def test_wg_quick_starts_and_ends_the_agent_without_systemd(lab, tmp_path) -> None:
    host = lab.public("alice")
    script = f'echo "$@" >>"{tmp_path}/told"; trap \'echo ended >>"{tmp_path}/told"; exit\' TERM; while :; do sleep 0.1; done'
    program(tmp_path / "bin", "wgdisco", script)
    config = re.sub(r"^PostUp.*\nPreDown.*\n", "", QUICK.read_text(), flags=re.MULTILINE).replace("#P", "P")
    wg_quick(host, tmp_path, config, "up")
    wait_until_told(tmp_path, ["run -i wg0"])
    wg_quick(host, tmp_path, config, "down")
    wait_until_told(tmp_path, ["run -i wg0", "ended"])


def wg_quick(host, folder: Path, config: str, action: str) -> list[str]:
    """Run wg-quick in a host of the lab; what was told to our programs so far."""
    # it looks for programs beside itself first
    shutil.copy(require_binary("wg-quick"), folder / "bin" / "wg-quick")
    path = folder / "wg0.conf"
    path.write_text(config)
    path.chmod(0o600)
    environment = {"PATH": f"{folder / 'bin'}:{PATH}"}
    host.run(folder / "bin" / "wg-quick", action, path, env=environment)
    told = folder / "told"
    return told.read_text().splitlines() if told.exists() else []


def wait_until_told(folder: Path, lines: list[str]) -> None:
    wait_for(lambda: (folder / "told").exists() and (folder / "told").read_text().splitlines() == lines, f"{lines}")


# ---- NetworkManager


def test_the_dispatcher_is_right_shell() -> None:
    output("sh", "-n", DISPATCHER)
    output(require_binary("shellcheck"), DISPATCHER)
    assert os.access(DISPATCHER, os.X_OK)


@pytest.fixture
def dispatch(tmp_path: Path) -> Callable[..., list[str]]:
    """Run the dispatcher as NetworkManager does; what systemctl was told to do."""
    folder, told = tmp_path / "bin", tmp_path / "told"
    configuration = tmp_path / "etc"
    configuration.mkdir()
    for interface in ("wg0", "wg", "eth0"):
        (configuration / f"{interface}.toml").touch()
    program(folder, "wg", "echo wg0 wg1")
    text = DISPATCHER.read_text()
    assert text.count("/etc/wgdisco/$interface") == 1
    script = tmp_path / "90-wgdisco"
    script.write_text(text.replace("/etc/wgdisco/$interface", f"{configuration}/$interface"))

    def run(interface: str, action: str, *, enabled: bool = False, active: bool = False, **env: str) -> list[str]:
        answers = f"*is-enabled*) exit {0 if enabled else 1};; *is-active*) exit {0 if active else 3};;"
        program(folder, "systemctl", f'case "$*" in {answers} *) echo "$@" >>"{told}";; esac')
        told.write_text("")
        output("sh", script, interface, action, env={**env, "PATH": f"{folder}:{PATH}"})
        return told.read_text().splitlines()

    return run


def test_up_starts_the_agent_of_a_configured_interface(dispatch) -> None:
    assert dispatch("wg0", "up") == ["--no-block start wgdisco@wg0.service"]


def test_down_stops_the_agent_that_runs(dispatch) -> None:
    assert dispatch("wg0", "down", active=True) == ["--no-block stop wgdisco@wg0.service"]
    assert dispatch("wg0", "down") == []


@pytest.mark.parametrize(
    ("interface", "why"),
    [("eth0", "no WireGuard"), ("wg1", "no configuration"), ("wg", "a part of a name"), ("", "none"), ("none", "none")],
)
def test_up_starts_nothing_for(dispatch, interface, why) -> None:
    assert dispatch(interface, "up") == [], why


@pytest.mark.parametrize("action", ["pre-up", "dhcp4-change", "connectivity-change", "hostname", "vpn-up", ""])
def test_other_events_do_nothing(dispatch, action) -> None:
    assert dispatch("wg0", action, active=True) == []


def test_an_enabled_agent_and_a_foreign_interface_are_left_alone(dispatch) -> None:
    for action in ("up", "down"):
        assert dispatch("wg0", action, enabled=True, active=True) == []
        assert dispatch("wg0", action, active=True, CONNECTION_EXTERNAL="1") == []


# ---- make install


def installed_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_make_installs_below_destdir_and_uninstalls(tmp_path, prefix) -> None:
    place = (f"DESTDIR={tmp_path}", f"PREFIX={prefix}")
    output("make", "--silent", "install-files", *place)
    below = prefix.removeprefix("/")
    assert installed_files(tmp_path) == {
        f"{below}/lib/systemd/system/wgdisco@.service",
        f"{below}/share/man/man1/wgdisco.1",
        f"{below}/share/bash-completion/completions/wgdisco",
        f"{below}/share/zsh/site-functions/_wgdisco",
        f"{below}/share/fish/vendor_completions.d/wgdisco.fish",
    }
    text = (tmp_path / below / "lib/systemd/system/wgdisco@.service").read_text()
    assert f"\nExecStart={prefix}/bin/wgdisco run -i %i\n" in text
    output("make", "--silent", "uninstall", *place)
    assert installed_files(tmp_path) == set()


# ---- the page


def test_the_page_leads_to_every_file() -> None:
    missing = [path.name for path in (UNIT, DISPATCHER, QUICK) if f"(../{path.relative_to(ROOT)})" not in PAGE]
    assert missing == []


@pytest.mark.parametrize("changes", re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL))
def test_systemd_finds_nothing_wrong_with_the_changes_the_page_tells(installed, changes) -> None:
    """As `systemctl edit` would keep them."""
    instance = installed.with_name("wgdisco@wg0.service")
    instance.write_text(installed.read_text())
    folder = instance.with_name(f"{instance.name}.d")
    folder.mkdir()
    (folder / "override.conf").write_text(changes)
    said = output(require_binary("systemd-analyze"), "verify", "--man=no", instance)
    assert [line for line in said.splitlines() if "wgdisco" in line] == []


def test_the_page_names_the_make_targets_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in re.findall(r"sudo make ([a-z-]+)", PAGE) if f"\n{name}:" not in makefile] == []
