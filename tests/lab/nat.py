"""What a router lets through: NAT profiles as nftables rules, and how to make a router forget (RFC 4787's terms).

    profile     mapping                 filtering                 like
    masq        endpoint-independent    address and port          most home routers
    masq_open   endpoint-independent    address and port          a router that accepts the early packet itself
    addrrest    endpoint-independent    address                   "restricted cone"
    fullcone    endpoint-independent    endpoint-independent      "full cone"
    hairpin     as fullcone, and hosts behind it reach each other by its outer address
    sym         address and port        address and port          "symmetric", mobile carriers
    fw          none                    address and port          a stateful firewall before public addresses

IPv6 is never translated and passes the same stateful firewall in every profile.
"""

from __future__ import annotations

import socket
import struct

from tests.lab.node import Node

__all__ = ["PROFILES", "forget", "rules"]

PROFILES = ("masq", "masq_open", "addrrest", "fullcone", "hairpin", "sym", "fw")
NFNL_CONNTRACK_DELETE = 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE; without a tuple: all of them
NLM_REQUEST_ACK = 5
NETLINK_NETFILTER = 12

FIREWALL = """
table inet firewall {
    chain input {
        type filter hook input priority filter; policy %(input)s;
        iifname != "wan" accept
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        iifname "lan" accept
        ct state established,related accept
        ct status dnat accept
    }
}
"""
MASQUERADE = """
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname "wan" masquerade %(flags)s
    }
}
"""
# masquerading keeps the source port where it can, so the outer port is looked up under the inner one
CONE = """
table ip cone {
    map inner { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; }
    set contacted { type inet_service . ipv4_addr; flags dynamic,timeout; timeout 5m; }
    chain learn {
        type filter hook postrouting priority srcnat - 10;
        oifname "wan" meta l4proto udp update @inner { udp sport : ip saddr . udp sport }
        oifname "wan" meta l4proto udp update @contacted { udp sport . ip daddr }
    }
    chain prerouting {
        type nat hook prerouting priority dstnat;
        %(entry)s meta l4proto udp %(allowed)s dnat ip to udp dport map @inner
    }
    %(more)s
}
"""
FROM_OUTSIDE = 'iifname "wan"'
TO_OURSELVES = "ip daddr %s"
CONTACTED = "udp dport . ip saddr @contacted"
HAIRPIN = """
    chain hairpin {
        type nat hook postrouting priority srcnat;
        iifname "lan" oifname "lan" ct status dnat snat ip to %s
    }
"""


def rules(profile: str, outer: str) -> str:
    """The rules of a router whose outer IPv4 address is `outer` (may be empty); KeyError for an unknown profile."""
    cones = {
        "fullcone": {"entry": FROM_OUTSIDE, "allowed": "", "more": ""},
        "addrrest": {"entry": FROM_OUTSIDE, "allowed": CONTACTED, "more": ""},
        "hairpin": {"entry": TO_OURSELVES % outer, "allowed": "", "more": HAIRPIN % outer},
    }
    text = "flush ruleset\n" + FIREWALL % {"input": "accept" if profile == "masq_open" else "drop"}
    if profile != "fw":
        text += MASQUERADE % {"flags": "random,fully-random" if profile == "sym" else ""}
    return text + (CONE % cones[profile] if profile in cones else "")


def forget(node: Node) -> None:
    """Flush the node's connection tracking, as `conntrack -F` does (nfnetlink, linux/netfilter/nfnetlink_conntrack.h)."""
    message = struct.pack("=IHHIIBBH", 20, NFNL_CONNTRACK_DELETE, NLM_REQUEST_ACK, 1, 0, socket.AF_UNSPEC, 0, 0)
    with node.socket(socket.SOCK_RAW, socket.AF_NETLINK, NETLINK_NETFILTER) as channel:
        channel.send(message)
        (error,) = struct.unpack_from("=i", channel.recv(4096), 16)
    if error:
        raise OSError(-error, "flush of the connection tracking table")
