"""The helper that runs servers for the backend tests, on a server that Python brings along."""

import os
import subprocess
import sys
import textwrap
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.support import Server, cannot_run, free_ports, require_binary, wait_for

ROOT = Path(__file__).parent.parent.parent


class Web(Server):
    program = sys.executable
    arguments = ("-m", "http.server", "{port}", "--bind", "127.0.0.1", "--directory", "{folder}")

    def prepare(self):
        (self.folder / "page").write_text("hello")

    def page(self, timeout=5.0):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/page", timeout=timeout) as answer:
            return answer.read()


@pytest.fixture
def web(tmp_path):
    with Web(tmp_path) as server:
        yield server


def test_a_server_answers_as_soon_as_it_has_started(web):
    assert web.page() == b"hello"


def test_a_frozen_server_is_silent_until_it_is_thawed(web):
    web.freeze()
    with pytest.raises(TimeoutError):
        web.page(0.2)
    web.thaw()
    assert web.page() == b"hello"


def test_a_killed_server_comes_back_on_its_port(web):
    port, pid = web.port, web.pid
    web.kill()
    with pytest.raises(OSError, match="Connection refused"):
        web.page()
    web.start()
    assert (web.port, web.page()) == (port, b"hello")
    assert web.pid != pid


def test_a_frozen_server_can_be_stopped_and_restarted(web):
    web.freeze()
    web.restart()
    assert web.page() == b"hello"
    web.stop()
    web.stop()


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(tmp_path):
    class Broken(Web):
        arguments = ("-c", "raise SystemExit('no such option')")

    with pytest.raises(AssertionError, match="has ended with 1") as caught:
        Broken(tmp_path).start()
    assert caught.value.__notes__ == ["no such option\n"]


def test_a_server_is_not_started_in_a_thread_whose_end_would_be_its_own(tmp_path):
    refused = []

    def attempt():
        try:
            Web(tmp_path).start()
        except AssertionError as error:
            refused.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert refused == ["start servers in the main thread"]


def test_a_server_ends_with_killed_tests(tmp_path):
    program = textwrap.dedent("""
        import sys, pathlib
        from tests.unit.test_support import Web
        server = Web(pathlib.Path(sys.argv[1]))
        server.start()
        print(server.pid, flush=True)
        sys.stdin.read()
    """)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as tests:
        server = Path("/proc", tests.stdout.readline().decode().strip())
        assert "http.server" in (server / "cmdline").read_text()
        tests.kill()
    wait_for(lambda: not server.exists() or not (server / "cmdline").read_bytes(), "the server has ended")


def test_free_ports_are_different_ones():
    assert len(set(free_ports(20))) == 20


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_program_skips_here_and_fails_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    with pytest.raises(
        outcome, match=r"^no-such-program is not installed; `sh tests/setup.sh servers lab` installs it$"
    ):
        require_binary("no-such-program")


def test_a_variable_set_to_require_fails_as_ci_does(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("WGDISCO_LAB", "require")
    with pytest.raises(pytest.fail.Exception, match=r"^no namespaces$"):
        cannot_run("no namespaces", "WGDISCO_LAB")
