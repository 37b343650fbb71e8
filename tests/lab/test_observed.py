"""Where am I without any STUN server: three nodes of a DHT see WireGuard's own port, and a live tunnel notices nothing."""

import json
import sys

import pytest

from tests.lab import where
from tests.lab.space import HERE
from wgdisco.endpoint import Endpoint
from wgdisco.sources import Behaviour, Nat

pytestmark = pytest.mark.lab

INDEPENDENT, ADDRESS, UNKNOWN = Behaviour.ENDPOINT_INDEPENDENT, Behaviour.ADDRESS_DEPENDENT, Behaviour.UNKNOWN
PORT = 6881
FALSE = "198.51.100.66:666"


def dht_node(lab, name, *words):
    """A storing node on the internet, ready: where it answers."""
    host = lab.public(name)
    process = host.wgdisco("dht-node", "--port", str(PORT), "--bind", host.address, *words)
    assert "listens on" in process.stdout.readline()
    return f"{host.address}:{PORT}"


def liar(lab, name):
    """A node that tells everybody to be somewhere else."""
    host = lab.public(name)
    process = host.popen(sys.executable, HERE / "dhtliar.py", host.address, str(PORT), FALSE)
    assert process.stdout.readline() == "ready\n"
    return f"{host.address}:{PORT}"


@pytest.fixture
def nodes(lab):
    """Three nodes that know each other."""
    first = dht_node(lab, "n1")
    return [first, *(dht_node(lab, name, "--bootstrap", first) for name in ("n2", "n3"))]


@pytest.mark.parametrize("kind", ["masq", "sym"])
def test_dht_nodes_tell_the_mapping_of_wireguards_port(lab, nodes, kind):
    host = lab.site("host", kind)
    host.wireguard("wg0")
    found = host.call(where.observed, nodes)
    outer = host.network.address
    if kind == "masq":
        assert [str(each.endpoint) for each in found.found] == [f"{outer}:51820"]
        assert found.nat == Nat(INDEPENDENT, UNKNOWN, True)
    else:
        assert [str(each.endpoint.address) for each in found.found] == [outer] * 3
        assert found.nat == Nat(ADDRESS, UNKNOWN, True)
    assert found.problems == []


def test_a_lying_node_is_outvoted(lab, nodes):
    host = lab.site("host", "masq")
    host.wireguard("wg0")
    false = liar(lab, "liar")
    found = host.call(where.observed, [false, *nodes[:2]])
    outer = f"{host.network.address}:51820"
    assert [str(each.endpoint) for each in found.found] == [outer]
    short, most = (Endpoint.parse(each).short for each in (FALSE, outer))
    assert found.problems == [f"observed: {false} sees us at {short}, most DHT nodes at {most}"]


def test_the_command_asks_the_nodes_of_the_store_when_there_is_no_stun_server(lab, nodes):
    host = lab.site("host", "masq")
    host.wireguard("wg0")
    host.path("/etc/wgdisco").mkdir()
    host.path("/etc/wgdisco/wg0.toml").write_text(f"stun = []\n[backends.dht]\nbootstrap = {json.dumps(nodes)}\n")
    told = json.loads(host.run(sys.executable, "-m", "wgdisco", "endpoints", "-i", "wg0", "--json").stdout)
    (observed,) = [each for each in told["endpoints"] if each["source"] == "observed"]
    assert observed == {
        "address": host.network.address,
        "port": 51820,
        "kind": "observed",
        "source": "observed",
        "detail": "seen by 3 of 3 DHT nodes",
    }
    assert (told["nat"]["mapping"], told["problems"]) == ("endpoint-independent", [])


@pytest.mark.full
def test_the_nodes_answer_where_the_stun_servers_are_silent(lab, nodes):
    host, silent = lab.site("host", "masq"), lab.public("silent")
    host.wireguard("wg0")
    words = [word for node in nodes for word in ("--observer", node)]
    shown = host.run(
        sys.executable, "-m", "wgdisco", "endpoints", "-i", "wg0", "--stun", f"{silent.address}:3478", *words
    )
    assert f"endpoint: {host.network.address}:51820 (observed; seen by 3 of 3 DHT nodes)" in shown.stdout
    assert "stun: no result within 3 s" in shown.stderr


def test_a_live_tunnel_is_undisturbed(lab, nodes):
    one, other = lab.public("one"), lab.public("other")
    here, there = one.wireguard("wg0", "10.9.0.1/24"), other.wireguard("wg0", "10.9.0.2/24")
    here.peer(there.public, "10.9.0.2/32", endpoint=f"{other.address}:51820")
    there.peer(here.public, "10.9.0.1/32", endpoint=f"{one.address}:51820")
    assert one.ping("10.9.0.2")
    before = here.peers()[there.public]
    pinging = one.popen("ping", "-n", "-q", "-i", "0.01", "-c", "200", "10.9.0.2")
    assert one.call(where.observed_often, nodes, 10) == 10
    assert "200 received" in pinging.communicate(timeout=30)[0]
    after = here.peers()[there.public]
    assert (after.endpoint, after.handshake) == (before.endpoint, before.handshake)
