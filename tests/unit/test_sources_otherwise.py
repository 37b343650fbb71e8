"""DHT nodes are asked only where STUN servers say nothing, and which ones that are."""

import argparse
import asyncio

import pytest

from wgdisco.bep44.known import MANY, known
from wgdisco.bep44.memory import Memory, remembered_in
from wgdisco.cli.endpoints import THOROUGH, thorough
from wgdisco.cli.setting import Setting
from wgdisco.cli.whereabouts import sources
from wgdisco.cli.words import add_whereabouts
from wgdisco.config import Config, load
from wgdisco.device.port import UDPPort
from wgdisco.device.types import Interface
from wgdisco.endpoint import Endpoint
from wgdisco.errors import ConfigError, UsageError
from wgdisco.keys import PrivateKey
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat, Where
from wgdisco.sources.observed import ObservedSource
from wgdisco.sources.otherwise import Otherwise
from wgdisco.sources.stun import DEFAULT_STUN_SERVERS, StunSource

ONE, TWO = (Found(Endpoint.parse(f"198.51.100.7:{port}"), Kind.OBSERVED, "fixed") for port in (1, 2))
NAT = Nat(Behaviour.ENDPOINT_INDEPENDENT, Behaviour.UNKNOWN, True)


class Fixed:
    """A source that does what it is told; `deadlines` are those it was given."""

    def __init__(self, where=None, seconds=0.0, error=None, name="fixed"):
        self.where, self.seconds, self.error, self.name, self.deadlines = where or Where(), seconds, error, name, []

    async def find(self, deadline):
        self.deadlines.append(deadline)
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return self.where


async def test_the_second_is_left_alone_when_the_first_finds_something():
    second = Fixed(Where([TWO]))
    where = await Otherwise(Fixed(Where([ONE], NAT, ["p"])), second).find(3)
    assert (where, second.deadlines) == (Where([ONE], NAT, ["p"]), [])


async def test_the_second_answers_where_the_first_finds_nothing():
    first = Fixed(Where(problems=["nobody"]), name="stun")
    assert await Otherwise(first, Fixed(Where([TWO], NAT, ["q"]))).find(3) == Where([TWO], NAT, ["nobody", "q"])


async def test_a_broken_first_does_not_hide_the_second():
    where = await Otherwise(Fixed(error=ValueError("bug"), name="stun"), Fixed(Where([TWO]))).find(3)
    assert where == Where([TWO], problems=["stun: bug"])


async def test_a_slow_first_is_not_waited_for_when_the_second_finds_something():
    second = Fixed(Where([TWO], NAT, ["q"]))
    async with asyncio.timeout(5):
        where = await Otherwise(Fixed(Where([ONE]), 600, name="stun"), second, patience=0.01).find(900)
    assert where == Where([TWO], NAT, ["stun: no result within 0.01 s", "q"])
    assert second.deadlines[0] < 900


async def test_a_slow_first_is_waited_for_when_the_second_finds_nothing():
    second = Fixed(Where(problems=["q"]))
    where = await Otherwise(Fixed(Where([ONE], NAT), 0.1), second, patience=0.01).find(900)
    assert where == Where([ONE], NAT, ["q"])


async def test_giving_up_stops_both():
    asking = asyncio.ensure_future(Otherwise(Fixed(seconds=600), Fixed(seconds=600), 0.01).find(900))
    await asyncio.sleep(0.05)
    asking.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert asyncio.all_tasks() == {asyncio.current_task()}


# which nodes

APART = [Endpoint.parse(f"{number}.1.1.1:6881") for number in range(11, 11 + MANY)]


async def test_names_are_added_to_the_few_nodes_that_are_remembered():
    nodes = await known(["127.0.0.1:5", "[::1]:6", "12.1.1.1:6881"], APART[:2])
    assert nodes == [*APART[:2], Endpoint.parse("127.0.0.1:5"), Endpoint.parse("[::1]:6")]


async def test_no_name_is_looked_up_where_enough_networks_are_remembered():
    assert await known(["127.0.0.1:5"], APART) == APART


async def test_many_nodes_of_one_network_are_not_enough():
    crowd = [Endpoint.parse(f"8.8.0.{number}:6881") for number in range(1, 30)]
    assert await known(["127.0.0.1:5"], crowd) == [*crowd, Endpoint.parse("127.0.0.1:5")]


async def test_a_name_without_an_address_hides_no_other():
    assert await known(["no..name:5", "127.0.0.1:5"]) == [Endpoint.parse("127.0.0.1:5")]


async def test_a_name_of_the_wrong_form_is_quoted():
    with pytest.raises(UsageError, match=r"node '127\.0\.0\.1': expected HOST:PORT"):
        await known(["127.0.0.1"])


# which sources


@pytest.fixture
async def port():
    async with UDPPort(0) as opened:
        yield opened


def setting(*words, config=None, **options):
    parser = argparse.ArgumentParser()
    add_whereabouts(parser)
    private = PrivateKey.generate()
    interface = Interface("wg0", private, private.public, 51820, 0, {})
    return Setting(
        parser.parse_args(words, argparse.Namespace(**options)), config or Config(), object(), interface, private
    )


def outside(port, *words, **options):
    """The sources beside the interface itself."""
    return sources(setting(*words, **options), port)[1:]


def test_by_default_dht_nodes_stand_behind_the_stun_servers(port):
    (either,) = outside(port)
    assert isinstance(either, Otherwise)
    assert either.first == StunSource(port, DEFAULT_STUN_SERVERS)
    assert isinstance(either.second, ObservedSource)


@pytest.mark.parametrize("how", [{"words": ["--stun", "none"]}, {"config": Config(stun=())}], ids=["option", "file"])
def test_without_stun_servers_dht_nodes_are_asked_at_once(port, how):
    (observed,) = outside(port, *how.pop("words", ()), **how)
    assert isinstance(observed, ObservedSource)


def test_without_the_store_dht_no_node_is_asked(port):
    assert outside(port, backend=["memory"]) == [StunSource(port, DEFAULT_STUN_SERVERS)]
    assert outside(port, config=Config(backends={"memory": {}}, stun=())) == []


def test_nodes_can_be_forbidden(port):
    assert outside(port, config=Config(observers=())) == [StunSource(port, DEFAULT_STUN_SERVERS)]


async def test_named_nodes_are_asked_whatever_the_store(port):
    for given in ({"words": ["--observer", "127.0.0.1:5"]}, {"config": Config(observers=("127.0.0.1:5",))}):
        (either,) = outside(port, *given.pop("words", ()), backend=["memory"], **given)
        assert await either.second.nodes() == [Endpoint.parse("127.0.0.1:5")]


async def test_the_nodes_of_the_store_are_those_it_remembers_and_starts_from(port, monkeypatch, tmp_path):
    monkeypatch.setattr("wgdisco.state.folder_for", lambda *_: tmp_path)
    Memory((APART[0],)).save(remembered_in(tmp_path / "cache" / "dht", "nodes", ["127.0.0.1:5", "127.0.0.1:6"]))
    (observed,) = outside(port, "--stun", "none", backend=["dht"], option=["bootstrap=127.0.0.1:5,127.0.0.1:6"])
    assert await observed.nodes() == [APART[0], Endpoint.parse("127.0.0.1:5"), Endpoint.parse("127.0.0.1:6")]


def test_a_node_of_the_wrong_form_is_quoted(port, tmp_path):
    with pytest.raises(UsageError, match="node 'here': expected HOST:PORT"):
        outside(port, "--observer", "here")
    path = tmp_path / "wg0.toml"
    path.write_text('observers = ["here"]')
    with pytest.raises(ConfigError, match=r"wg0\.toml:1: node 'here': expected HOST:PORT"):
        load(path)


def test_a_thorough_look_still_does_the_nat_tests(port):
    either = thorough(outside(port)[0])
    assert (either.first, either.patience) == (StunSource(port, DEFAULT_STUN_SERVERS, behaviour=True), THOROUGH / 2)
