"""WireGuard's port shared by raw sockets, and a plain port with the same interface, against real servers on loopback."""

import asyncio
import ctypes
import errno
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from stunserver import StunServer

from wgdisco.device.port import AT_ONCE, Arrival, Refused, UDPPort, WireGuardPort
from wgdisco.device.raw import udp_frame, unframe
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError
from wgdisco.stun import Attribute, Message, Type, decode, encode

FAST = (0.05, 0.1, 0.2)
LONG = (5,)
CAP_NET_RAW = 13


async def until(condition):
    """Wait for what no event announces."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def is_raw_allowed() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP).close()
    except PermissionError:
        return False
    return True


RAW = is_raw_allowed()
needs_raw = pytest.mark.skipif(not RAW, reason="raw sockets need root or CAP_NET_RAW")


class Owner:
    """A plain UDP socket in the place of WireGuard: it owns the port, and sees everything that arrives there."""

    def __init__(self, family=socket.AF_INET, address="127.0.0.1", port=0):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.socket.settimeout(5)
        self.port = self.socket.getsockname()[1]
        self.endpoint = Endpoint(ip_address(address), self.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data, to):
        self.socket.sendto(data, (str(to.address), to.port))


@pytest.fixture(params=["udp", pytest.param("raw", marks=needs_raw)])
async def port(request):
    """Either port, where it can run."""
    with Owner() as owner:
        if request.param == "udp":
            owner.socket.close()
        async with (UDPPort if request.param == "udp" else WireGuardPort)(owner.port) as opened:
            yield opened


async def test_a_binding_request_comes_back_with_our_own_port(port):
    async with StunServer() as server:
        answer = await port.transact(Message(), server.endpoint())
        assert answer.mapped == Endpoint(ip_address("127.0.0.1"), port.port)


async def test_the_same_over_ipv6(port):
    async with StunServer("::1") as server:
        answer = await port.transact(Message(), server.endpoint())
        assert answer.mapped == Endpoint(ip_address("::1"), port.port)


async def test_a_lost_request_is_sent_again(port):
    async with StunServer(lose=2) as server:
        await port.transact(Message(), server.endpoint(), waits=FAST)
        assert server.requests == 3


async def test_a_dead_server_is_named_after_all_tries(port):
    async with StunServer(lose=99) as server:
        with pytest.raises(TimeoutError, match=f"no answer from {server.endpoint()} within 0.35 s"):
            await port.transact(Message(), server.endpoint(), waits=FAST)
        assert server.requests == len(FAST)


async def test_an_error_answer_says_what_the_server_said(port):
    async with StunServer() as server:
        request = Message(attributes={Attribute.CHANGE_REQUEST: 6})
        with pytest.raises(Refused, match=r"answered with error 420: 'Unknown Attribute'") as caught:
            await port.transact(request, server.endpoint())
        assert caught.value.answer.attributes[Attribute.UNKNOWN_ATTRIBUTES] == (3,)


def spoilt(data):
    """Another last byte."""
    return data[:-1] + bytes([data[-1] ^ 1])


VICTIM = {Attribute.XOR_MAPPED_ADDRESS: Endpoint.parse("192.0.2.66:666")}
LIES = {
    "another transaction": (lambda request, _: encode(Message(Type.SUCCESS, VICTIM)), False),
    "another port of the server": (lambda request, _: encode(request.answer(Type.SUCCESS, VICTIM)), True),
    "an attribute beyond us": (
        lambda request, _: b"\x01\x01\0\4" + request.raw[4:20] + b"\x7f\xff\0\0",
        False,
    ),
    "a wrong fingerprint": (lambda request, _: spoilt(encode(request.answer(Type.SUCCESS, VICTIM))), False),
    "a cut message": (lambda request, _: encode(request.answer(Type.SUCCESS, VICTIM))[:-4], False),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_not_believed_and_the_truth_behind_it_is(port, lie):
    make, elsewhere = LIES[lie]
    async with StunServer(lie=make, lie_elsewhere=elsewhere) as server:
        answer = await port.transact(Message(), server.endpoint(), waits=LONG)
        assert answer.mapped == Endpoint(ip_address("127.0.0.1"), port.port)
        assert port.ignored == 1


async def test_an_echo_of_our_request_is_no_answer(port):
    async with StunServer(lie=lambda request, _: request.raw) as server:
        answer = await port.transact(Message(), server.endpoint(), waits=LONG)
        assert answer.type is Type.SUCCESS


async def test_garbage_from_the_server_is_not_believed(port):
    async with StunServer(lie=lambda *_: os.urandom(300)) as server:
        assert (await port.transact(Message(), server.endpoint(), waits=LONG)).mapped.port == port.port


async def test_an_answer_may_be_expected_from_elsewhere(port):
    async with StunServer("127.0.0.1", "127.0.0.2") as server:
        request = Message(attributes={Attribute.CHANGE_REQUEST: 6})
        answer, arrival = await port.exchange(request, server.endpoint(), origins=[server.endpoint(1, 1)])
        assert answer.attributes[Attribute.RESPONSE_ORIGIN] == server.endpoint(1, 1)
        assert arrival == Arrival(server.endpoint(1, 1), ip_address("127.0.0.1"))


async def test_with_a_key_only_a_signed_answer_counts(port):
    """RFC 8489 section 9.1.4: an answer without the right code is discarded, and the retransmission goes on."""
    asked = []

    def forged_then_signed(request, source):
        asked.append(request.signed_by(b"key"))
        answer = request.answer(Type.SUCCESS, {Attribute.XOR_MAPPED_ADDRESS: source})
        return encode(answer, [None, b"other", b"key"][len(asked) - 1])

    async with StunServer(lie=forged_then_signed, answer_true=False) as server:
        answer = await port.transact(Message(), server.endpoint(), key=b"key", waits=(*FAST, 5))
        assert answer.signed_by(b"key")
        assert asked == [True, True, True]


async def test_many_transactions_at_once_do_not_mix(port):
    async with StunServer() as one, StunServer("127.0.0.2") as two:
        servers = [one.endpoint(), two.endpoint()] * 20
        answers = await asyncio.gather(*(port.transact(Message(), server) for server in servers))
        assert [answer.attributes[Attribute.RESPONSE_ORIGIN] for answer in answers] == servers


async def test_a_closed_port_ends_its_transactions(port):
    async with StunServer(lose=99) as server:
        waiting = asyncio.ensure_future(port.transact(Message(), server.endpoint(), waits=LONG))
        await until(lambda: server.requests)
        port._close()
        with pytest.raises(ConnectionAbortedError, match=r"closed before 127\.0\.0\.1:\d+ answered"):
            await waiting


@pytest.mark.parametrize("kind", [Type.REQUEST, Type.INDICATION])
async def test_a_request_reaches_the_handler_with_both_addresses(port, kind):
    loop = asyncio.get_running_loop()
    got = loop.create_future()
    port.on_request = lambda *what: got.set_result(what)
    request = Message(kind, {Attribute.USERNAME: "me"})
    with Owner() as peer:
        peer.send(encode(request, b"key"), Endpoint(ip_address("127.0.0.1"), port.port))
        message, arrival = await asyncio.wait_for(got, 5)
    assert (message, message.signed_by(b"key")) == (request, True)
    assert arrival == Arrival(peer.endpoint, ip_address("127.0.0.1"))


@pytest.mark.parametrize("local", ["127.0.0.1", "127.0.0.3", "::1"])
async def test_an_answer_leaves_from_the_address_that_was_asked(port, local):
    def answer(message, arrival):
        port.send(encode(message.answer(Type.SUCCESS, {})), arrival.source, source=arrival.local)

    port.on_request = answer
    async with UDPPort(0) as asking:
        await asking.transact(Message(), Endpoint(ip_address(local), port.port))


async def test_a_handler_that_fails_leaves_the_port_alive(port):
    loop = asyncio.get_running_loop()
    failures = []
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    port.on_request = lambda *_: 1 / 0
    async with StunServer() as server:
        with Owner() as peer:
            peer.send(encode(Message()), Endpoint(ip_address("127.0.0.1"), port.port))
            await port.transact(Message(), server.endpoint())
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


@pytest.mark.parametrize(("address", "level", "ask", "number"), [("127.0.0.1", 0, 12, 2), ("::1", 41, 51, 52)])
async def test_a_datagram_has_its_own_ttl(port, address, level, ask, number):
    family = socket.AF_INET if level == 0 else socket.AF_INET6
    with Owner(family, address) as peer:
        peer.socket.setsockopt(level, ask, 1)
        for ttl in (3, None, 7):
            port.send(b"punch", peer.endpoint, ttl=ttl)
        seen = [peer.socket.recvmsg(100, 100) for _ in range(3)]
    ttls = [struct.unpack("=i", control[0][2])[0] for _, control, _, _ in seen]
    assert [ttls[0], ttls[2]] == [3, 7]
    assert ttls[1] > 7
    assert {(data, source[1]) for data, _, _, source in seen} == {(b"punch", port.port)}


async def test_no_route_is_an_error_that_names_the_endpoint(port):
    without = port._sockets.pop(6)
    with pytest.raises(OSError, match=r"this host has no IPv6 to reach \[2001:db8::1\]:1") as caught:
        port.send(b"", Endpoint.parse("[2001:db8::1]:1"))
    port._sockets[6] = without
    assert caught.value.errno == errno.EAFNOSUPPORT


async def test_a_system_without_ipv6_still_has_ipv4(monkeypatch):
    opened = UDPPort._open

    def without_ipv6(self, family):
        if family.version == 6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return opened(self, family)

    monkeypatch.setattr(UDPPort, "_open", without_ipv6)
    async with StunServer() as server, UDPPort(0) as port:
        assert port.families == {4}
        assert (await port.transact(Message(), server.endpoint())).mapped.port == port.port


async def test_a_system_without_any_ip_says_so(monkeypatch):
    def nothing(self, family):
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(UDPPort, "_open", nothing)
    with pytest.raises(AccessError, match="cannot use UDP port 5: this system has neither IPv4 nor IPv6"):
        async with UDPPort(5):
            pass


async def test_a_port_in_use_says_what_to_do():
    expected = r"UDP port \d+ is in use; choose another one, or 0 for any"
    with Owner(address="0.0.0.0") as owner, pytest.raises(AccessError, match=expected):
        async with UDPPort(owner.port):
            pass


def with_capabilities(capabilities, task):
    """What `task()` returns in a thread that has only these capabilities in effect (capset(2) is per thread)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)

    def run():
        assert libc.capget(header, data) == 0
        data[0], data[3] = capabilities & 0xFFFFFFFF, 0
        assert libc.capset(header, data) == 0
        return asyncio.run(task())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


async def ask_through(port, **options):
    async with StunServer() as server, WireGuardPort(port, **options) as opened:
        return (await opened.transact(Message(), server.endpoint())).mapped.port


@needs_raw
def test_without_the_capability_the_message_says_what_is_missing_and_what_to_do():
    with pytest.raises(AccessError) as caught:
        with_capabilities(0, lambda: ask_through(51820))
    assert str(caught.value) == (
        "cannot share WireGuard's port 51820 for STUN: the capability CAP_NET_RAW is missing; run as root, or set "
        "AmbientCapabilities=CAP_NET_RAW in the systemd unit (setcap on a Python program has no effect), "
        "or say where this node is: --endpoint ADDRESS:PORT"
    )


@needs_raw
def test_the_one_capability_is_enough():
    with Owner() as owner:
        assert with_capabilities(1 << CAP_NET_RAW, lambda: ask_through(owner.port)) == owner.port


@needs_raw
def test_a_mark_that_is_not_allowed_says_so():
    async def plain():
        async with UDPPort(0, fwmark=0xCA6C):
            pass

    with pytest.raises(AccessError, match=r"cannot send with the interface's fwmark 0xca6c: that needs CAP_NET_RAW"):
        with_capabilities(0, plain)


@needs_raw
async def test_the_owner_of_the_port_keeps_everything_and_we_see_only_stun():
    with Owner() as owner, Owner() as peer:
        async with WireGuardPort(owner.port) as port:
            got = asyncio.get_running_loop().create_future()
            port.on_request = lambda message, _: got.set_result(message)
            data = b"\x04\0\0\0" + bytes(60)
            elsewhere = encode(Message())
            last = encode(Message(attributes={Attribute.USERNAME: "last"}))
            turn = b"\x00\x03" + encode(Message())[2:]
            peer.send(elsewhere, peer.endpoint)
            for datagram in (data, b"", b"\0\1", turn, last):
                peer.send(datagram, owner.endpoint)
            assert await asyncio.wait_for(got, 5) == decode(last)
            assert port.ignored == 0  # the filter dropped the rest in the kernel
            assert [owner.socket.recv(200) for _ in range(5)] == [data, b"", b"\0\1", turn, last]


@needs_raw
async def test_an_ip_header_with_options_is_read():
    with Owner() as owner, Owner() as peer:
        async with WireGuardPort(owner.port) as port:
            got = asyncio.get_running_loop().create_future()
            port.on_request = lambda *what: got.set_result(what)
            peer.socket.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1] * 8))
            request = Message()
            peer.send(encode(request), owner.endpoint)
            assert await asyncio.wait_for(got, 5) == (request, Arrival(peer.endpoint, ip_address("127.0.0.1")))


@needs_raw
async def test_what_came_before_the_filter_is_drained():
    """Datagrams that slip in between socket() and the filter must not be taken for STUN later."""
    from wgdisco.device import raw

    with Owner() as owner:
        attach = raw._attach

        def late(*arguments):
            owner.send(b"early", owner.endpoint)
            attach(*arguments)

        raw._attach, kept = late, attach
        try:
            async with WireGuardPort(owner.port) as port:
                with pytest.raises(BlockingIOError):
                    port._sockets[4].recv(100)
        finally:
            raw._attach = kept


@needs_raw
@pytest.mark.parametrize("size", [0, 1, 20, 147, 1000])
async def test_checksums_are_what_the_receiver_computes(size):
    """A raw socket receives what was written, so both sums can be computed again; 0xffff is a right sum."""
    payload = os.urandom(size)
    source, to = ip_address("192.0.2.1"), Endpoint.parse("198.51.100.2:3478")
    frame = udp_frame(51820, to, payload, source)
    pseudo = source.packed + to.address.packed + struct.pack("!xBH", 17, len(frame))
    data = pseudo + frame + bytes(len(frame) % 2)
    assert sum(struct.unpack(f"!{len(data) // 2}H", data)) % 0xFFFF == 0
    assert frame[6:8] != b"\0\0"
    assert unframe(4, b"\x45" + bytes(19) + frame) == (51820, payload)


@needs_raw
@pytest.mark.parametrize("kind", [UDPPort, WireGuardPort])
async def test_the_fwmark_is_on_every_socket(kind):
    with Owner() as owner:
        number = 0 if kind is UDPPort else owner.port
        async with kind(number, fwmark=0xCA6C) as port:
            marks = {sock.getsockopt(socket.SOL_SOCKET, 36) for sock in port._sockets.values()}
            assert marks == {0xCA6C}


@pytest.mark.parametrize("pause", [0.001, 3600])
async def test_a_flood_is_read_in_portions_with_a_rest_between(port, pause, monkeypatch):
    monkeypatch.setattr("wgdisco.device.port.PAUSE", pause)
    turns = []
    port.on_request = lambda *_: turns.append(1)
    with Owner() as peer:
        for _ in range(2 * AT_ONCE + 1):
            peer.send(encode(Message()), Endpoint(ip_address("127.0.0.1"), port.port))
    await until(lambda: len(turns) == (AT_ONCE if pause == 3600 else 2 * AT_ONCE + 1))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(turns) == (AT_ONCE if pause == 3600 else 2 * AT_ONCE + 1)


class Echo(asyncio.DatagramProtocol):
    """A node that sends back what it gets, except the first `lose` datagrams; `got` are all of them."""

    def __init__(self, lose=0):
        self.lose, self.got = lose, []

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.got.append(data)
        if len(self.got) > self.lose:
            self.transport.sendto(data, address)


@asynccontextmanager
async def echo(address="127.0.0.1", lose=0):
    """An echoing node and where it is."""
    loop = asyncio.get_running_loop()
    transport, node = await loop.create_datagram_endpoint(lambda: Echo(lose), (address, 0))
    yield node, Endpoint(ip_address(address), transport.get_extra_info("sockname")[1])
    transport.close()


def same(data):
    """What reads one answer and no other."""
    return lambda heard: heard if heard == data else None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_node_is_asked_again_until_it_answers(port, address):
    async with echo(address, lose=2) as (node, where):
        assert await port.ask(b"d1:xe", where, same(b"d1:xe"), waits=FAST) == b"d1:xe"
        assert node.got == [b"d1:xe"] * 3


async def test_an_answer_that_cannot_be_read_does_not_count(port):
    async with echo() as (node, where):
        with pytest.raises(TimeoutError, match=f"no answer from {where} within 0.35 s"):
            await port.ask(b"d1:xe", where, same(b"d1:ye"), waits=FAST)
    assert (len(node.got), port.ignored) == (3, 3)


async def test_questions_to_one_node_do_not_mix(port):
    async with echo() as (_, where):
        texts = [b"d1:%de" % number for number in range(9)]
        assert await asyncio.gather(*(port.ask(text, where, same(text)) for text in texts)) == texts


async def test_a_dictionary_from_elsewhere_is_not_even_read(port):
    read = []
    async with echo(lose=9) as (node, where):
        asking = asyncio.ensure_future(port.ask(b"d1:xe", where, read.append, waits=LONG))
        await until(lambda: node.got)
        with Owner() as other:
            other.send(b"d1:xe", Endpoint(ip_address("127.0.0.1"), port.port))
            await until(lambda: port.ignored)
        asking.cancel()
    assert read == []


async def test_a_closed_port_ends_its_questions(port):
    async with echo(lose=9) as (node, where):
        waiting = asyncio.ensure_future(port.ask(b"d1:xe", where, same(b""), waits=LONG))
        await until(lambda: node.got)
        port._close()
        with pytest.raises(ConnectionAbortedError, match=r"closed before 127\.0\.0\.1:\d+ answered"):
            await waiting


@needs_raw
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_dictionaries_for_wireguards_port_reach_us_only_while_somebody_asks(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with Owner(family, address) as owner, Owner(family, address) as peer:
        async with WireGuardPort(owner.port) as port, UDPPort(0) as asking, echo(address, lose=9) as (node, where):
            sources = set()

            def answer(message, arrival):
                sources.add(arrival.source)
                port.send(encode(message.answer(Type.SUCCESS, {})), arrival.source, source=arrival.local)

            port.on_request = answer

            async def seen(*datagrams):
                before = port.ignored
                for datagram in datagrams:
                    peer.send(datagram, owner.endpoint)
                for datagram in (encode(Message()), b"d1:xe"):
                    peer.send(datagram, peer.endpoint)  # another port
                await asking.transact(Message(), owner.endpoint)  # by then the port has seen the rest
                return port.ignored - before

            # WireGuard's four messages, something like STUN's cookie, and dictionaries
            others = [*(bytes([kind, 0, 0, 0]) + bytes(60) for kind in (1, 2, 3, 4)), b"e1:xd", b"", b"d"]
            assert await seen(*others, b"d1:xe") == 0
            waiting = asyncio.ensure_future(port.ask(b"d1:xe", where, same(b""), waits=LONG))
            await until(lambda: node.got)
            assert await seen(*others, b"d1:xe") == 2  # two begin with a d
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert await seen(*others, b"d1:xe") == 0
            assert {source.port for source in sources} == {asking.port}


def test_a_checksum_of_zero_is_sent_as_all_ones():
    """RFC 768: zero would mean that there is none."""
    source, to = ip_address("192.0.2.1"), Endpoint.parse("198.51.100.2:3478")
    payload = udp_frame(51820, to, bytes(2), source)[6:8]  # makes the whole sum to 0xffff
    assert udp_frame(51820, to, payload, source)[6:8] == b"\xff\xff"


@pytest.mark.parametrize("data", [b"", b"\x45" + bytes(19), b"\x4f" + bytes(60)])
def test_a_cut_datagram_is_no_datagram(data):
    with pytest.raises(ValueError, match=f"{len(data)} bytes hold no UDP header"):
        unframe(4, data)
