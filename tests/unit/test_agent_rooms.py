"""The agent from one session to the next: another configuration, other peers, and what has to outlive them."""

from __future__ import annotations

import argparse
import asyncio
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import ClassVar

import pytest

import wgdisco.cli.run
from tests.attacks.scene import Tunnel
from tests.unit.records import ALICE, BOB
from wgdisco.account import Diary
from wgdisco.agent import Agent
from wgdisco.device import Interface, Peer
from wgdisco.device.routes import Route
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, NoDevice, UsageError
from wgdisco.sources import Where

STAYS = "the configuration before that stays in use"
HERE = Endpoint.parse("192.0.2.9:9")


class Everywhere:
    """Routes of a host with one uplink."""

    def lookup(self, address, mark=0) -> Route:
        return Route("eth0", ip_address("198.51.100.1"), on_link=False)

    def close(self) -> None:
        """A lookup needs no socket."""


class Wire:
    """WireGuard's port without a socket; each is counted."""

    opened: ClassVar[list[Wire]] = []

    def __init__(self, port: int, *, fwmark: int = 0) -> None:
        self.port, self.fwmark, self.closed, self.on_request = port, fwmark, False, None

    async def __aenter__(self):
        self.opened.append(self)
        return self

    async def __aexit__(self, *_) -> None:
        self.closed = True


class Forwards:
    """A source that asks somebody else for something, and takes it back when it is closed."""

    name = "forwards"

    def __init__(self) -> None:
        self.closed = 0

    async def find(self, deadline: float) -> Where:
        return Where()

    async def close(self) -> None:
        self.closed += 1


class Wireguard(Tunnel):
    """A device of one peer whose port, mark, number and key can change, and that can be gone."""

    def __init__(self) -> None:
        super().__init__(BOB, Peer(ALICE.public))
        self.fields: dict[str, object] = {"index": 7}
        self.there = True

    def read(self) -> Interface:
        if not self.there:
            raise NoDevice("there is no interface wg9")
        return replace(super().read(), **self.fields)


class Service:
    """The agent with a configuration file, on a device of ours; nothing leaves the process."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.device, self.said = folder, Wireguard(), []
        self.file = folder / "etc" / "wg9.toml"
        self.file.parent.mkdir()
        self.asked: list[Forwards] = []
        self.broken = False
        self.configure(self.plain)
        (folder / "shelf").mkdir()
        monkeypatch.setenv("STATE_DIRECTORY", str(folder / "state"))
        monkeypatch.setattr("wgdisco.config.FOLDER", self.file.parent)
        for module in ("wgdisco.agent", "wgdisco.device"):
            monkeypatch.setattr(f"{module}.open_device", self.open)
        monkeypatch.setattr("wgdisco.agent.WAIT", 0.01)
        monkeypatch.setattr("wgdisco.agent.GONE", 0.0)
        monkeypatch.setattr("wgdisco.look.LOOK", 0.02)
        monkeypatch.setattr("wgdisco.footing.WireGuardPort", Wire)
        monkeypatch.setattr("wgdisco.session.Routes", Everywhere)
        monkeypatch.setattr(Wire, "opened", [])
        parser = argparse.ArgumentParser()
        wgdisco.cli.run.configure(parser)
        self.options = parser.parse_args(["-i", "wg9"])
        self.agent = Agent("wg9", self.prepare, self.said.append, self.said.append, folder / "run")

    @property
    def plain(self) -> str:
        return f"{HERE_ALONE}[backends.folder]\npath = '{self.folder / 'shelf'}'\n"

    def configure(self, text: str) -> None:
        self.file.write_text(text)

    def open(self, _name: str) -> Wireguard:
        self.device.read()
        return self.device

    def prepare(self, _interface):
        """What the command makes of the file, and one more source."""
        means = wgdisco.cli.run._means(self.options, "wg9")

        def sources(interface, port):
            if self.broken:
                raise UsageError("no such source")
            self.asked.append(Forwards())
            return [*means.sources(interface, port), self.asked[-1]]

        return replace(means, sources=sources)

    @asynccontextmanager
    async def running(self):
        task = asyncio.ensure_future(self.agent.run())
        try:
            await self.until(lambda: self.agent.session is not None)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, self.said
            await asyncio.sleep(0.01)

    async def another_session(self):
        """Wait for it; the one before must have been asked for already."""
        before = self.agent.session
        await self.until(lambda: self.agent.session not in (None, before))
        return self.agent.session

    def count(self, text: str) -> int:
        return sum(text in each for each in self.said)


@pytest.fixture
def service(tmp_path, monkeypatch) -> Service:
    return Service(tmp_path, monkeypatch)


# ---- SIGHUP with a configuration that cannot be used


HERE_ALONE = "endpoints = ['203.0.113.7:51820']\n"
UNUSABLE = {
    "no TOML": ("stun = 'what\n", "wg9.toml:1: "),
    "unknown key": ("stum = []\n", "unknown key 'stum'"),
    "unknown backend": (HERE_ALONE + "[backends.etdc]\n", "etdc"),
    "two unknown backends": (HERE_ALONE + "[backends.etdc]\n[backends.folda]\n", "etdc"),
    "wrong option": (HERE_ALONE + "[backends.folder]\npaht = '/tmp'\n", "paht"),
    "missing option": (HERE_ALONE + "[backends.folder]\n", "path"),
    "secret of a backend": (
        HERE_ALONE + "[backends.redis]\nurl = 'redis://h'\npassword = {file = '/no/such'}\n",
        "/no/such",
    ),
    "secret of a network": ("networks = [{file = '/no/such'}]\n{plain}", "/no/such"),
    "network without a secret": ("to = 'network'\n{plain}", "--to network needs the network's secret"),
    "wrong endpoint": ("endpoints = ['here']\n", "'here'"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
async def test_a_configuration_that_cannot_be_used_leaves_the_one_before_at_work(service: Service, kind: str) -> None:
    """The very same session goes on, what is wrong is said once, and a good configuration is used afterwards."""
    text, said = UNUSABLE[kind]
    async with service.running():
        session = service.agent.session
        service.configure(text.replace("{plain}", service.plain))
        service.agent.reload()
        await service.until(lambda: service.count(STAYS))
        await asyncio.sleep(0.1)
        assert service.agent.session is session
        assert ([service.count(STAYS), service.count(said)], service.count("going on without it")) == ([1, 1], 0)
        assert all(not each.closed for each in [*service.asked[:1], *Wire.opened[:1]])
        (service.folder / "second").mkdir()
        service.configure(service.plain.replace("shelf", "second"))
        service.agent.reload()
        await service.another_session()
        await service.until(lambda: list((service.folder / "second").iterdir()))
    assert all(each.closed for each in Wire.opened)


async def test_a_configuration_with_one_store_whose_secret_is_there_is_used(service: Service) -> None:
    """The other one says so itself, and is tried again."""
    async with service.running():
        service.configure(f"{service.plain}[backends.redis]\nurl = 'redis://h'\npassword = {{file = '/no/such'}}\n")
        service.agent.reload()
        await service.another_session()
        assert service.count(STAYS) == 0


async def test_a_configuration_with_one_good_backend_is_used(service: Service) -> None:
    """What is wrong with the other one is said, and nothing else."""
    async with service.running():
        service.configure(f"{service.plain}[backends.etdc]\n")
        service.agent.reload()
        await service.another_session()
        assert (service.count("etdc"), service.count("going on without it"), service.count(STAYS)) == (1, 1, 0)


async def test_what_was_opened_for_a_configuration_that_cannot_be_used_is_closed(service: Service) -> None:
    """A source is the last thing to be made; the node and the port were open already."""
    async with service.running():
        service.broken = True
        service.agent.reload()
        await service.until(lambda: service.count(STAYS))
        assert [each.closed for each in Wire.opened] == [False, True]


async def test_a_configuration_that_cannot_be_used_is_said_once_however_often_the_interface_returns(
    service: Service,
) -> None:
    async with service.running():
        service.configure(f"{HERE_ALONE}[backends.etdc]\n")
        for _ in range(2):
            service.device.there = False
            await service.until(lambda: service.agent.session is None)
            service.device.there = True
            await service.until(lambda: service.agent.session is not None)
        assert service.count(STAYS) == 1


# ---- what outlives a session


async def test_the_forwarded_port_stays_when_peers_change(service: Service) -> None:
    async with service.running():
        first = service.asked[0]
        service.device.peer = replace(service.device.peer, allowed_ips=(ip_network("10.9.0.2/32"),))
        await service.another_session()
        assert service.count("its peers changed") == 1
        assert (first.closed, [each.closed for each in Wire.opened]) == (0, [False])
    assert (first.closed, [each.closed for each in Wire.opened]) == (1, [True])


@pytest.mark.parametrize("change", [{"listen_port": 40000}, {"fwmark": 7}], ids=str)
async def test_the_forwarded_port_is_taken_back_when_it_is_another_one(service: Service, change) -> None:
    async with service.running():
        first = service.asked[0]
        service.device.fields |= change
        await service.another_session()
        assert (first.closed, [each.closed for each in Wire.opened]) == (1, [True, False])
        assert (Wire.opened[-1].port, Wire.opened[-1].fwmark) == (
            change.get("listen_port", 51820),
            change.get("fwmark", 0),
        )


async def test_the_forwarded_port_is_taken_back_by_another_key(service: Service) -> None:
    async with service.running():
        first = service.asked[0]
        service.device.fields |= {"private": ALICE, "public": ALICE.public}
        await service.until(lambda: service.count(ALICE.public.short))
        assert first.closed == 1


async def armed(service: Service):
    """Have the link set 25 s, and change the peers; the link of the next session."""
    [tender] = service.agent.session.tenders.values()
    tender.link.fire(HERE)
    tender.link.settle()
    assert service.device.peer.keepalive == 25
    # a session that lives: else the endpoint and the keepalive would be put back
    service.device.peer = replace(service.device.peer, handshake=time.time())


async def another_link(service: Service):
    service.device.peer = replace(service.device.peer, allowed_ips=(ip_network("10.9.0.2/32"),))
    await service.another_session()
    [tender] = service.agent.session.tenders.values()
    return tender.link


async def test_the_keepalive_that_we_set_is_not_the_users_in_the_next_session(service: Service) -> None:
    async with service.running():
        await armed(service)
        link = await another_link(service)
        assert link.users == 0
        link.behind_nat = False
        link.settle()
        assert service.device.peer.keepalive == 0


async def test_a_keepalive_that_the_user_sets_together_with_other_peers_is_the_users(service: Service) -> None:
    async with service.running():
        await armed(service)
        service.device.peer = replace(service.device.peer, keepalive=11)
        assert (await another_link(service)).users == 11


async def test_the_keepalive_of_an_interface_that_was_made_anew_is_the_users(service: Service) -> None:
    async with service.running():
        await armed(service)
        service.device.fields["index"] = 8
        assert (await another_link(service)).users == 25


async def test_a_peer_that_was_removed_is_forgotten(service: Service) -> None:
    async with service.running():
        await armed(service)
        peer = service.device.peer
        service.device.peer = Peer(BOB.public)
        await service.another_session()
        service.device.peer = peer
        await service.another_session()
        [tender] = service.agent.session.tenders.values()
        assert tender.link.users == 25


def test_a_diary_knows_no_keepalive_at_first() -> None:
    assert Diary().users_of(Interface("wg9")) == {}


# ---- the network secret, wherever it is


async def test_a_network_secret_that_can_be_read_again_is_used(service: Service) -> None:
    """The file comes later than the configuration: the next SIGHUP takes it."""
    secret = service.folder / "network.key"
    async with service.running():
        service.configure(f"to = 'network'\nnetworks = [{{file = '{secret}'}}]\n{service.plain}")
        service.agent.reload()
        await service.until(lambda: service.count(STAYS))
        secret.write_text(b64encode(b"n" * 32).decode())
        service.agent.reload()
        session = await service.another_session()
        assert [each.scope.name for each in session.announcer.audiences] == ["NETWORK"]


async def test_where_no_configuration_was_ever_good_it_waits_and_says_why_once(tmp_path, monkeypatch) -> None:
    service = Service(tmp_path, monkeypatch)
    service.configure(f"{HERE_ALONE}[backends.etdc]\n[backends.folda]\n")
    task = asyncio.ensure_future(service.agent.run())
    try:
        await service.until(lambda: service.count("; waiting"))
        await asyncio.sleep(0.1)
        assert (service.count("etdc"), service.count("folda"), len(service.said)) == (1, 1, 1)
        service.configure(service.plain)
        await service.until(lambda: service.agent.session is not None)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_port_that_may_not_be_opened_is_said_once_for_all_sessions(service: Service, monkeypatch) -> None:
    def refused(*_, **__):
        raise AccessError("no raw socket here")

    monkeypatch.setattr("wgdisco.footing.WireGuardPort", refused)
    async with service.running():
        service.device.peer = replace(service.device.peer, allowed_ips=(ip_network("10.9.0.2/32"),))
        await service.another_session()
        assert service.count("no raw socket here") == 1
