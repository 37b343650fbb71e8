"""Where nodes of the DHT see us: real storing nodes and libtorrent's on loopback, and nodes that lie."""

import asyncio
import errno
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address

import pytest

from tests.backends.dhtnodes import node
from tests.support import free_ports
from tests.unit.test_bep44_libtorrent import sessions
from wgdisco.bep44.krpc import Failure, Query, Reply, read
from wgdisco.device.port import UDPPort
from wgdisco.endpoint import Endpoint
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat
from wgdisco.sources.observed import MOST, Jury, ObservedSource, Sighting

__all__ = ["sessions"]  # a fixture

INDEPENDENT, ADDRESS, UNKNOWN = Behaviour.ENDPOINT_INDEPENDENT, Behaviour.ADDRESS_DEPENDENT, Behaviour.UNKNOWN
ADVICE = "name nodes with --observer HOST:PORT, or say where this node is with --endpoint ADDRESS:PORT"
FALSE = Endpoint.parse("198.51.100.66:666")


@pytest.fixture
async def port():
    async with UDPPort(0) as opened:
        yield opened


class OnlyIPv4(UDPPort):
    """A port on a host with one family."""

    def _open(self, family):
        if family.version == 6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return super()._open(family)


def at(text):
    """A node that says to have seen everybody at one place."""
    return lambda query, source: Reply(query.transaction, {b"id": bytes(20)}, Endpoint.parse(text))


class Teller(asyncio.DatagramProtocol):
    """A node that answers what `tell(query, source)` says: messages, bytes, nothing, or seconds and then a message."""

    def __init__(self, tell):
        self.tell = tell

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        told = self.tell(read(data), Endpoint(ip_address(address[0]), address[1]))
        for each in told if isinstance(told, list) else [told]:
            seconds, message = each if isinstance(each, tuple) else (0, each)
            if message is not None:
                answer = message if isinstance(message, bytes) else message.encode()
                asyncio.get_running_loop().call_later(seconds, self.transport.sendto, answer, address)


@asynccontextmanager
async def tellers(*tells):
    """Nodes that tell these things, and where they are."""
    loop = asyncio.get_running_loop()
    made = [await loop.create_datagram_endpoint(lambda tell=tell: Teller(tell), ("127.0.0.1", 0)) for tell in tells]
    yield [Endpoint(ip_address("127.0.0.1"), each.get_extra_info("sockname")[1]) for each, _ in made]
    for transport, _ in made:
        transport.close()


async def ask(port, nodes, deadline=5.0):
    async def known():
        return nodes

    return await ObservedSource(port, known).find(deadline)


async def told(port, *tells, deadline=5.0):
    async with tellers(*tells) as nodes:
        return await ask(port, nodes, deadline)


def endpoints(where):
    return [str(found.endpoint) for found in where.found]


@asynccontextmanager
async def honest(number, address="127.0.0.1"):
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node(storing=True, address=address)) for _ in range(number)]
        yield [endpoint for _, endpoint in nodes]


async def test_three_storing_nodes_tell_where_we_are(port):
    async with honest(3) as nodes:
        where = await ask(port, nodes)
    mapped = Endpoint(ip_address("127.0.0.1"), port.port)
    assert where.found == [Found(mapped, Kind.OBSERVED, "observed", "seen by 3 of 3 DHT nodes")]
    assert (where.nat, where.problems) == (Nat(INDEPENDENT, UNKNOWN, False), [])


async def test_libtorrents_nodes_tell_it_too(port, sessions):
    nodes = [endpoint for _, endpoint in sessions(3)]
    for _ in range(20):  # its node answers some time after its session is there
        where = await ask(port, nodes, 1.0)
        if where.found:
            break
    assert endpoints(where) == [f"127.0.0.1:{port.port}"]


async def test_both_families_are_asked(port):
    async with honest(3) as four, honest(3, "::1") as six:
        assert endpoints(await ask(port, [*six, *four])) == [f"127.0.0.1:{port.port}", f"[::1]:{port.port}"]


async def test_a_family_in_which_nobody_answers_is_no_problem(port):
    async with honest(3) as four:
        where = await ask(port, [*four, Endpoint.parse(f"[::1]:{free_ports()[0]}")], 0.3)
    assert (len(where.found), where.problems) == (1, [])


async def test_an_address_that_is_not_ours_means_translation(port):
    where = await told(port, *[at("198.51.100.7:1")] * 3)
    assert (endpoints(where), where.nat) == (["198.51.100.7:1"], Nat(INDEPENDENT, UNKNOWN, True))


async def test_three_ports_mean_a_dependent_mapping(port):
    where = await told(port, *(at(f"198.51.100.7:{number}") for number in (1, 2, 3)))
    assert where.nat == Nat(ADDRESS, UNKNOWN, True)
    assert set(endpoints(where)) == {f"198.51.100.7:{number}" for number in (1, 2, 3)}
    assert where.problems == []


@pytest.mark.parametrize("lie", [FALSE, "198.51.100.7:666"], ids=["address", "port"])
async def test_a_lying_node_is_outvoted_and_named(port, lie):
    async with tellers(at(str(lie)), at("198.51.100.7:1"), at("198.51.100.7:1")) as nodes:
        where = await ask(port, nodes)
    assert (endpoints(where), where.nat) == (["198.51.100.7:1"], Nat(INDEPENDENT, UNKNOWN, True))
    assert where.problems == [
        f"observed: {nodes[0]} sees us at {Endpoint.parse(str(lie)).short}, most DHT nodes at 198.51.…:1"
    ]


async def test_a_liar_before_a_symmetric_nat_chooses_no_address(port):
    where = await told(port, at(str(FALSE)), at("198.51.100.7:1"), at("198.51.100.7:2"))
    assert (set(endpoints(where)), where.nat.mapping) == ({"198.51.100.7:1", "198.51.100.7:2"}, ADDRESS)


async def test_two_answers_are_not_enough(port):
    where = await told(port, at("198.51.100.7:1"), at("198.51.100.7:1"), lambda *_: None, deadline=0.3)
    assert (where.found, where.nat) == ([], Nat())
    assert where.problems == [
        f"observed: 2 of 3 DHT nodes say where they see us, and 3 in different places have to: {ADVICE}"
    ]


async def test_without_a_majority_nothing_is_believed(port):
    async with tellers(*(at(f"198.51.100.{number}:1") for number in (1, 2, 3, 3))) as nodes:
        where = await ask(port, nodes)
    assert (where.found, where.nat) == ([], Nat())
    (problem,) = where.problems
    assert problem.startswith("observed: no majority of the DHT nodes sees us at one address: ")
    assert f"{nodes[0]} at 198.51.…:1" in problem


@pytest.mark.parametrize("nodes", [[], ["224.0.0.1:1"], ["255.255.255.255:1"], ["[::1]:1"]], ids=str)
async def test_without_nodes_that_can_be_asked_it_says_what_to_do(nodes):
    async with OnlyIPv4(0) as port:
        where = await ask(port, [Endpoint.parse(each) for each in nodes])
    assert (where.found, where.problems) == ([], [f"observed: no DHT node is known; {ADVICE}"])


NO_ANSWERS = {
    "another transaction": lambda query, source: Reply(b"12345678", {b"id": bytes(20)}, FALSE),
    "no answer but our question": lambda query, source: query,
    "without an observation": lambda query, source: Reply(query.transaction, {b"id": bytes(20)}),
    "the other family": at("[2001:db8::66]:666"),
    "multicast": at("224.0.0.1:666"),
    "port 0": lambda query, source: Reply(query.transaction, {b"id": bytes(20)}, FALSE._replace(port=0)),
    "no dictionary": lambda query, source: b"d1:t",
}


@pytest.mark.parametrize("lie", NO_ANSWERS)
async def test_what_is_no_answer_is_no_voice_and_the_truth_behind_it_is(port, lie):
    def both(query, source):
        return [NO_ANSWERS[lie](query, source), Reply(query.transaction, {b"id": bytes(20)}, source)]

    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    assert endpoints(await told(port, both, both, both)) == [f"127.0.0.1:{port.port}"]
    assert failures == []


async def test_an_error_tells_where_we_are_as_well(port):
    def refuse(query, source):
        return Failure(query.transaction, 202, "busy", source)

    assert endpoints(await told(port, refuse, refuse, refuse)) == [f"127.0.0.1:{port.port}"]


def silent(query, source):
    """Says nothing."""


async def test_dead_nodes_do_not_hold_up_the_others_for_long(port, monkeypatch):
    monkeypatch.setattr("wgdisco.sources.observed.SETTLE", 0.01)
    async with asyncio.timeout(5):
        where = await told(port, *[silent] * 4, *[at("198.51.100.7:1")] * 3, deadline=600)
    assert (endpoints(where), where.problems) == (["198.51.100.7:1"], [])


async def test_a_slow_node_that_is_needed_is_waited_for(port, monkeypatch):
    monkeypatch.setattr("wgdisco.sources.observed.SETTLE", 0.01)

    def slow(query, source):
        return 0.2, at("198.51.100.7:1")(query, source)

    assert endpoints(await told(port, at("198.51.100.7:1"), at("198.51.100.7:1"), slow)) == ["198.51.100.7:1"]


async def test_questions_are_read_only_unlinkable_pings(port):
    queries = []

    def note(query, source):
        queries.append(query)
        return Reply(query.transaction, {b"id": bytes(20)}, source)

    await told(port, note, note, note)
    assert queries == [Query(each.transaction, b"ping", each.arguments, True) for each in queries]
    assert len({each.arguments[b"id"] for each in queries}) == 3
    assert {len(each.transaction) for each in queries} == {8}


async def test_at_most_eight_nodes_are_asked(port):
    asked = []

    def note(query, source):
        asked.append(query)
        return Reply(query.transaction, {b"id": bytes(20)}, source)

    where = await told(port, *[note] * 12)
    assert (len(asked), len(where.found)) == (MOST, 1)


# who has a voice

OURS, THEIRS = Endpoint.parse("198.51.100.7:1"), FALSE
CROWD = [Endpoint.parse(f"8.8.0.{number}:6881") for number in range(1, 9)]
APART = [Endpoint.parse(f"{number}.1.1.1:6881") for number in (11, 12, 13)]


def jury(nodes, seen):
    return Jury(nodes, [Sighting(node, seen[node]) for node in seen])


def test_nodes_of_other_networks_are_asked_before_a_second_one_of_any():
    assert Jury([*CROWD, *APART]).nodes == [CROWD[0], *APART, *CROWD[1:5]]


def test_a_network_has_one_voice_where_there_are_three():
    """Who rents a /16 full of nodes is outvoted by three others."""
    seen = dict.fromkeys(CROWD, THEIRS) | dict.fromkeys(APART, OURS)
    assert jury([*CROWD, *APART], seen).believed == [OURS]


def test_what_a_network_says_first_counts():
    nodes = [CROWD[0], *APART[:2], CROWD[1]]
    seen = dict(zip(nodes, (OURS, OURS, THEIRS, THEIRS), strict=True))
    assert (jury(nodes, seen).believed, len(jury(nodes, seen).voices)) == ([OURS], 3)


def test_the_port_is_a_matter_of_those_who_see_our_address():
    four = [*APART, Endpoint.parse("14.1.1.1:6881")]
    seen = dict(zip(four, (OURS, OURS, OURS._replace(port=2), THEIRS), strict=True))
    assert (jury(four, seen).believed, jury(four, seen).mapping) == ([OURS], INDEPENDENT)


def test_a_crowd_is_not_believed_while_the_others_are_silent():
    silent = jury([*CROWD, *APART], dict.fromkeys(CROWD, THEIRS))
    assert (silent.believed, silent.has_enough, silent.is_sure(3)) == ([], False, False)


def test_a_host_has_one_voice_where_there_are_no_three_networks():
    nodes = [*CROWD[:3], *(CROWD[0]._replace(port=port) for port in (1, 2, 3))]
    seen = {node: OURS if node.address != CROWD[0].address else THEIRS for node in nodes}
    assert jury(nodes, seen).believed == [OURS]


def test_an_ipv6_network_is_a_32():
    crowd = [Endpoint.parse(f"[2a00:1:{number}::1]:6881") for number in range(1, 9)]
    apart = [Endpoint.parse(f"[2a00:{number}::1]:6881") for number in (2, 3, 4)]
    assert Jury([*crowd, *apart]).nodes[:4] == [crowd[0], *apart]


def test_others_are_waited_for_while_they_could_change_it():
    three = jury(APART, dict.fromkeys(APART, OURS))
    assert (three.is_sure(2), three.is_sure(3)) == (True, False)
