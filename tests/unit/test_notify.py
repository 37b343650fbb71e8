"""What the service manager hears, over a real datagram socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wgdisco import notify


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager, as a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


@pytest.mark.parametrize(
    ("call", "heard"), [(notify.ready, b"READY=1"), (notify.alive, b"WATCHDOG=1"), (notify.stopping, b"STOPPING=1")]
)
def test_the_manager_hears_one_assignment(manager, call, heard) -> None:
    call()
    assert manager.recv(4096) == heard


def test_reloading_comes_with_the_monotonic_time(manager) -> None:
    before = time.monotonic_ns() // 1000
    notify.reloading()
    first, _, second = manager.recv(4096).partition(b"\n")
    assert first == b"RELOADING=1"
    name, _, value = second.partition(b"=")
    assert name == b"MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_a_status_is_one_line(manager) -> None:
    """A line break in what a store said cannot become an assignment of its own."""
    notify.status("2 of 3 connected\nMAINPID=1  ü")
    assert manager.recv(4096) == "STATUS=2 of 3 connected MAINPID=1 ü".encode()


def test_a_long_status_is_cut(manager) -> None:
    notify.status("x" * 5000)
    assert manager.recv(8192) == b"STATUS=" + b"x" * 1024


def test_several_assignments_are_one_datagram(manager) -> None:
    notify.tell(READY=1, STATUS="up")
    assert manager.recv(4096) == b"READY=1\nSTATUS=up"


def test_a_value_of_two_lines_is_refused(manager) -> None:
    with pytest.raises(ValueError, match="one line"):
        notify.tell(STATUS="a\nMAINPID=1")
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_an_abstract_socket_is_meant_by_its_at_sign(monkeypatch) -> None:
    name = f"wgdisco-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify.ready()
        assert listener.recv(4096) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "@", "relative", "vsock:2:1", "/nonexistent/notify", "/" + "x" * 200])
def test_nobody_who_listens_is_no_error(monkeypatch, address) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.ready()


def test_a_manager_that_does_not_read_holds_nothing_up(manager) -> None:
    """Thousands of datagrams into a full queue return, and what was queued first is whole."""
    for _ in range(5000):
        notify.alive()
    assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("period", "meant", "seconds"),
    [
        ("60000000", None, 30.0),
        ("60000000", "own", 30.0),
        ("3000000", "own", 1.5),
        ("60000000", "1", None),
        (None, None, None),
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
        ("60000000", "me", None),
    ],
)
def test_the_interval_is_half_the_watchdogs_time_if_it_is_ours(monkeypatch, period, meant, seconds) -> None:
    for name, value in (("WATCHDOG_USEC", period), ("WATCHDOG_PID", str(os.getpid()) if meant == "own" else meant)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert notify.interval() == seconds
