"""A home router that forwards ports when asked: Debian's miniupnpd (PCP, NAT-PMP, UPnP IGD) in a router of the lab."""

from __future__ import annotations

import subprocess
import textwrap
import uuid

from tests.lab.space import wait_until
from tests.lab.stations import Router
from tests.support import require_binary

__all__ = ["OUTSIDE", "Miniupnpd"]

OUTSIDE = "100.200.0.10"
"""An outer address that miniupnpd takes for a public one: it refuses private and documentation ones."""

CHAINS = """
table inet firewall {
    chain miniupnpd {}
    chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority srcnat; jump postrouting_miniupnpd; }
    chain prerouting_miniupnpd {}
    chain postrouting_miniupnpd {}
}
insert rule inet firewall forward jump miniupnpd
"""
CONFIGURATION = """
    ext_ifname=wan
    ext_ifname6=wan
    listening_ip=lan
    http_port=5000
    enable_upnp={upnp}
    enable_natpmp={pcp}
    secure_mode=yes
    system_uptime=no
    notify_interval=60
    min_lifetime=60
    max_lifetime=86400
    uuid={uuid}
    upnp_table_name=firewall
    upnp_nat_table_name=firewall
    upnp_forward_chain=miniupnpd
    upnp_nat_chain=prerouting_miniupnpd
    upnp_nat_postrouting_chain=postrouting_miniupnpd
    {more}
    allow 1024-65535 0.0.0.0/0 1024-65535
    deny 0-65535 0.0.0.0/0 0-65535
"""


class Miniupnpd:
    """miniupnpd in a router: `upnp`, and `pcp` with NAT-PMP, as wanted; `more` lines of its configuration."""

    def __init__(self, router: Router, *, upnp: bool = False, pcp: bool = True, more: str = "") -> None:
        require_binary("miniupnpd")
        self.router = router
        said = {True: "yes", False: "no"}
        text = CONFIGURATION.format(upnp=said[upnp], pcp=said[pcp], uuid=uuid.uuid4(), more=more)
        router.path("/run/miniupnpd.conf").write_text(textwrap.dedent(text))
        self.start()

    def start(self) -> None:
        """Begin with no mapping, and wait until it listens."""
        self.router.nft(CHAINS)
        command = ["miniupnpd", "-d", "-f", "/run/miniupnpd.conf", "-P", "/run/miniupnpd.pid"]
        with self.router.path("/run/miniupnpd.log").open("w") as log:
            self.process = self.router.popen(*command, stdout=log, stderr=subprocess.STDOUT)
        wait_until(lambda: "istening " in self.log, "miniupnpd listens")

    @property
    def log(self) -> str:
        """What it has said since it was started."""
        return self.router.path("/run/miniupnpd.log").read_text()

    @property
    def rules(self) -> str:
        """The ports it forwards, as nftables rules."""
        return self.router.run("nft", "list", "chain", "inet", "firewall", "prerouting_miniupnpd").stdout

    def reboot(self) -> None:
        """What a power failure does: every mapping is forgotten, by the router and by its firewall."""
        self.process.kill()
        self.process.wait()
        self.router.reboot()
        self.start()
