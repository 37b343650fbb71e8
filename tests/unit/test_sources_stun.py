"""Where STUN servers see us, and what the NAT does, from servers that are honest, lying, dead or contradicting."""

import asyncio
import errno
import time
from ipaddress import ip_address

import pytest
from stunserver import StunServer

from wgdisco.device.port import UDPPort
from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat
from wgdisco.sources.behaviour import discover
from wgdisco.sources.stun import StunSource
from wgdisco.stun import Attribute, Change, Message, Type, encode

INDEPENDENT, UNKNOWN = Behaviour.ENDPOINT_INDEPENDENT, Behaviour.UNKNOWN
ADDRESS, BOTH = Behaviour.ADDRESS_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT
FAST = (0.02, 0.04)


def at(text):
    """What a server says that sees every client at one place."""
    return lambda source, where, number: Endpoint.parse(text)


class OnlyIPv4(UDPPort):
    """A port on a host with one family, so that one answer more or less decides."""

    def _open(self, family):
        if family.version == 6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return super()._open(family)


@pytest.fixture
async def port():
    async with OnlyIPv4(0) as opened:
        yield opened


async def ask(port, *servers, behaviour=False, deadline=5.0):
    return await StunSource(port, [str(server.endpoint()) for server in servers], behaviour).find(deadline)


async def test_two_servers_that_agree_tell_where_we_are(port):
    async with StunServer() as one, StunServer("127.0.0.2") as two:
        where = await ask(port, one, two)
    mapped = Endpoint(ip_address("127.0.0.1"), port.port)
    detail = f"seen by {one.endpoint()}, {two.endpoint()}"
    assert where.found == [Found(mapped, Kind.SERVER_REFLEXIVE, "stun", detail)]
    assert (where.nat, where.problems) == (Nat(INDEPENDENT, UNKNOWN, False), [])


async def test_both_families_are_asked():
    async with UDPPort(0) as port, StunServer() as four, StunServer("::1") as six:
        where = await ask(port, four, six)
        assert {found.endpoint for found in where.found} == {
            Endpoint(ip_address("127.0.0.1"), port.port),
            Endpoint(ip_address("::1"), port.port),
        }


async def test_another_address_than_ours_means_translation(port):
    async with StunServer(see=at("192.0.2.9:1")) as one, StunServer("127.0.0.2", see=at("192.0.2.9:1")) as two:
        assert (await ask(port, one, two)).nat == Nat(INDEPENDENT, UNKNOWN, True)


async def test_two_servers_that_see_two_ports_mean_a_dependent_mapping(port):
    async with StunServer(see=at("192.0.2.9:1")) as one, StunServer("127.0.0.2", see=at("192.0.2.9:2")) as two:
        where = await ask(port, one, two)
    assert where.nat == Nat(ADDRESS, UNKNOWN, True)
    assert {str(found.endpoint) for found in where.found} == {"192.0.2.9:1", "192.0.2.9:2"}


async def test_one_server_alone_says_nothing_about_the_nat(port):
    async with StunServer(see=at("192.0.2.9:1")) as one:
        assert (await ask(port, one)).nat == Nat(UNKNOWN, UNKNOWN, True)


async def test_the_same_server_twice_is_one_witness(port):
    async with StunServer(see=at("192.0.2.9:1")) as one:
        assert (await ask(port, one, one)).nat.mapping is UNKNOWN


async def test_a_lying_server_is_outvoted_and_named(port):
    """T31: the honest candidate comes first, the verdict stays, and the problem names the liar."""
    victim = at("198.51.100.66:666")
    async with StunServer(see=victim) as liar, StunServer("127.0.0.2") as two, StunServer("127.0.0.3", lose=1) as three:
        where = await ask(port, liar, two, three)
    mine = Endpoint(ip_address("127.0.0.1"), port.port)
    assert [found.endpoint for found in where.found] == [mine, Endpoint.parse("198.51.100.66:666")]
    assert where.nat == Nat(INDEPENDENT, UNKNOWN, False)
    assert where.problems == [f"stun: {liar.endpoint()} sees us at 198.51.…, the others at 127.0.…"]


async def test_a_third_port_from_a_third_server_is_evidence_and_no_lie(port):
    """What most servers saw still comes first, though it was heard last."""
    seen = [at("192.0.2.9:2"), at("192.0.2.9:1"), at("192.0.2.9:1")]
    servers = [StunServer(f"127.0.0.{n + 1}", see=see, lose=n == 2) for n, see in enumerate(seen)]
    async with servers[0] as a, servers[1] as b, servers[2] as c:
        where = await ask(port, a, b, c)
    assert (where.nat.mapping, where.problems) == (ADDRESS, [])
    assert [str(found.endpoint) for found in where.found] == ["192.0.2.9:1", "192.0.2.9:2"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("224.0.0.1:1", "multicast"),
        ("169.254.169.254:80", "link-local"),
        ("0.0.0.0:1", "the unspecified address"),
        ("[::ffff:192.0.2.1]:1", "an IPv4 address written as IPv6"),
    ],
)
async def test_an_impossible_place_is_not_believed(port, said, why):
    async with StunServer(see=at(said)) as liar:
        where = await ask(port, liar)
    assert where.found == []
    assert (
        where.problems[0]
        == f"stun: {liar.endpoint()}: it says that we are at {Endpoint.parse(said).short}, which cannot be: {why}"
    )


async def test_an_answer_without_an_address_is_a_problem(port):
    async with StunServer(lie=lambda request, _: encode(request.answer(Type.SUCCESS, {})), answer_true=False) as empty:
        where = await ask(port, empty)
    assert where.problems[0] == f"stun: {empty.endpoint()}: its answer does not say where it sees us"


async def test_a_dead_server_neither_hides_nor_delays_two_that_agree(port):
    async with StunServer(lose=999) as dead, StunServer("127.0.0.2") as one, StunServer("127.0.0.3") as two:
        before = time.monotonic()
        where = await ask(port, dead, one, two, deadline=600)
        assert time.monotonic() - before < 60
    assert [found.endpoint.port for found in where.found] == [port.port]
    assert where.problems == []


async def test_a_dead_server_is_a_problem_when_its_vote_was_missed(port):
    async with StunServer(lose=999) as dead, StunServer("127.0.0.2") as one:
        where = await ask(port, dead, one, deadline=0.1)
    assert [found.endpoint.port for found in where.found] == [port.port]
    assert where.problems == [f"stun: {dead.endpoint()}: no answer in time"]


async def test_a_silent_server_is_not_blamed_for_the_family_it_has_no_address_of():
    async with UDPPort(0) as port, StunServer(lose=999) as dead, StunServer("127.0.0.2") as one:
        where = await ask(port, dead, one, deadline=0.1)
    assert where.problems == [f"stun: {dead.endpoint()}: no answer in time"]


async def test_without_any_answer_the_next_step_is_named(port):
    async with StunServer(lose=999) as dead:
        where = await ask(port, dead, deadline=0.05)
    assert where.found == []
    assert where.problems == [
        f"stun: {dead.endpoint()}: no answer in time",
        "stun: no server answered: name others, or say where this node is with --endpoint ADDRESS:PORT",
    ]


async def test_an_error_answer_is_told(port):
    refusal = {Attribute.ERROR_CODE: (401, "Un\x1b[31mauthenticated")}
    lie = lambda request, _: encode(request.answer(Type.ERROR, refusal))  # noqa: E731
    async with StunServer(lie=lie, answer_true=False) as server:
        where = await ask(port, server)
    assert where.problems[0] == (
        f"stun: {server.endpoint()}: {server.endpoint()} answered with error 401: 'Un\\x1b[31mauthenticated'"
    )


def test_a_misspelt_server_is_refused_before_anything_is_sent():
    with pytest.raises(UsageError, match="STUN server 'a:b:c': an IPv6 address is written in brackets"):
        StunSource(None, ["a:b:c"])


async def test_no_task_is_left_behind(port):
    async with StunServer(lose=999) as dead, StunServer("127.0.0.2") as one:
        await ask(port, dead, one, deadline=0.05)
        assert len(asyncio.all_tasks()) == 1


# ---- RFC 5780


def see_mapping(behaviour):
    """Where a NAT with that mapping behaviour is seen, for a server with two addresses and two ports."""
    ports = {INDEPENDENT: lambda *_: 1, ADDRESS: lambda where, _: 1 + where, BOTH: lambda where, n: 1 + where + 2 * n}
    return lambda _, where, number: Endpoint(ip_address("192.0.2.9"), ports[behaviour](where, number))


CHANGES = {INDEPENDENT: (), ADDRESS: (Change.ADDRESS | Change.PORT,), BOTH: (Change.ADDRESS | Change.PORT, Change.PORT)}


@pytest.mark.parametrize("filtering", CHANGES)
@pytest.mark.parametrize("mapping", [INDEPENDENT, ADDRESS, BOTH])
async def test_every_behaviour_gets_its_name(port, mapping, filtering):
    async with StunServer(second="127.0.0.2", see=see_mapping(mapping), blocked=CHANGES[filtering]) as server:
        assert await discover(port, server.endpoint(), FAST) == Nat(mapping, filtering, True)


async def test_filtering_is_measured_first_and_on_another_port(port):
    asked = []
    async with StunServer(
        second="127.0.0.2", see=lambda source, where, number: asked.append((source.port, where)) or source
    ) as server:
        await discover(port, server.endpoint(), FAST)
    fresh = [entry for entry in asked if entry[0] != port.port]
    assert asked[: len(fresh)] == fresh
    assert {where for _, where in fresh} == {0}  # the second address was never sent to from the fresh port


async def test_a_server_that_ignores_the_change_leaves_filtering_unknown(port):
    async with StunServer(second="127.0.0.2", ignores_change=True) as server:
        assert await discover(port, server.endpoint(), FAST) == Nat(INDEPENDENT, UNKNOWN, False)


async def test_a_server_with_one_address_is_no_help(port):
    async with StunServer() as server:
        with pytest.raises(ValueError, match=f"{server.endpoint()} has no second address that could be used"):
            await discover(port, server.endpoint(), FAST)


@pytest.mark.parametrize("other", ["224.0.0.1:5", "127.0.0.1:5", "[::1]:5", "255.255.255.255:5"])
async def test_a_server_cannot_send_us_anywhere_it_likes(port, other):
    attributes = {
        Attribute.XOR_MAPPED_ADDRESS: Endpoint.parse("192.0.2.9:1"),
        Attribute.OTHER_ADDRESS: Endpoint.parse(other),
    }
    lie = lambda request, _: encode(request.answer(Type.SUCCESS, attributes))  # noqa: E731
    async with StunServer(lie=lie, answer_true=False) as server:
        with pytest.raises(ValueError, match="second address"):
            await discover(port, server.endpoint(), FAST)


async def test_the_source_takes_the_measured_verdict_where_a_server_allows(port):
    async with (
        StunServer(see=see_mapping(BOTH), second="127.0.0.3") as able,
        StunServer("127.0.0.2", see=at("192.0.2.9:77")) as plain,
    ):
        assert (await ask(port, plain, able, behaviour=True)).nat == Nat(BOTH, INDEPENDENT, True)
        assert (await ask(port, plain, able)).nat == Nat(ADDRESS, UNKNOWN, True)


async def test_the_source_falls_back_when_no_server_can_measure(port):
    async with StunServer() as one, StunServer("127.0.0.2") as two:
        assert (await ask(port, one, two, behaviour=True)).nat == Nat(INDEPENDENT, UNKNOWN, False)


async def test_the_source_falls_back_when_the_second_address_is_dead(port):
    async with StunServer() as one, StunServer("127.0.0.2") as two:
        dead = {Attribute.OTHER_ADDRESS: Endpoint.parse("127.0.0.9:9")}
        one.lie = lambda request, source: encode(
            request.answer(Type.SUCCESS, {Attribute.XOR_MAPPED_ADDRESS: source, **dead})
        )
        one.answer_true = False
        where = await ask(port, one, two, behaviour=True, deadline=0.3)
    assert where.nat == Nat(INDEPENDENT, UNKNOWN, False)


def test_a_request_tells_the_server_nothing_but_itself():
    """What a public server sees: 20 bytes of header and a checksum; no name, no software, no key."""
    assert len(encode(Message())) == 28
