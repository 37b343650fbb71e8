"""The demo does what it says."""

import re

import pytest

from tests.lab import demo
from tests.lab.space import TOOLS

pytestmark = pytest.mark.lab


def test_the_demo_connects_two_homes_of_the_same_address_and_ends_with_a_ping(lab, capfd):
    """`lab` only skips where there can be none."""
    assert demo.main([]) == 0
    told = capfd.readouterr().out
    assert told.count("192.168.1.10") == 2
    assert re.search(r"Both sides are connected, \d+\.\d s after the second one typed it", told)
    assert "3 packets transmitted, 3 received" in told
    assert told.endswith("It works: two strangers behind NAT, and neither runs a server.\n")


def test_a_command_of_ones_own_is_typed_on_both_sides_and_its_failure_is_told(lab, capfd):
    assert demo.main(["--later", "0", "sh", "-c", "echo the other is $0; exit 3", "PEER"]) == 1
    told = capfd.readouterr().out
    assert len(re.findall(r"(?:alice|  bob) \| the other is [\w+/]{43}=", told)) == 2
    assert told.endswith("The command failed: exit codes [3, 3].\n")


def test_a_machine_that_cannot_run_it_is_told_what_to_install(monkeypatch, capfd):
    monkeypatch.setattr("tests.lab.space.PATH", "/nonexistent")
    assert demo.main([]) == 2
    packages = " ".join(sorted(set(TOOLS.values())))
    assert capfd.readouterr().err.endswith(f"install with: apt install {packages}\n")
