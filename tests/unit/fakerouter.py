"""A router on loopback that says what no real one should: PCP and NAT-PMP on port 5351, SSDP on 1900, HTTP beside them.

Written apart from wgdisco's codec. Every router has an address of its own in 127.0.0.0/8.
"""

from __future__ import annotations

import asyncio
import random
import re
import struct
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

from wgdisco.device.routes import Route

OUTSIDE = "198.51.100.7"
DESCRIPTION = """<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">%(base)s<device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType><controlURL>/common</controlURL>
</service><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>%(control)s</controlURL></service></serviceList></device></root>"""
SOAP = """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body>
</s:Envelope>"""
ACTIONS = {
    "GetExternalIPAddress": "address",
    "GetSpecificPortMappingEntry": "entry",
    "AddPortMapping": "add",
    "DeletePortMapping": "delete",
}
FAULT = "<s:Fault><detail><UPnPError><errorCode>%d</errorCode></UPnPError></detail></s:Fault>"


class FakeRouter(asyncio.DatagramProtocol):
    """`pcp(request)` and `pmp(request)` give the answers' bytes; `asked` keeps what came, as (version, opcode, bytes).

    `elsewhere` sends the answers from another port. `started` is when its epoch began.
    """

    def __init__(self, pcp=None, pmp=None, *, elsewhere=False):
        self.address = f"127.{random.randrange(100, 250)}.{random.randrange(256)}.1"
        self.pcp, self.pmp, self.elsewhere = pcp or self.mapped, pmp or self.pmp_mapped, elsewhere
        self.asked: list[bytes] = []
        self.epoch, self.lifetime, self.outside = 1000, 3600, OUTSIDE
        self.outer = 0  # the port that it grants, if not the one of the request
        self._stack = AsyncExitStack()

    @property
    def way(self) -> Route:
        source = ip_address(self.address) + 1
        return Route("lo", source, on_link=False, gateway=ip_address(self.address))

    def count(self, *head: int) -> int:
        """How many requests began with these bytes."""
        return sum(request.startswith(bytes(head)) for request in self.asked)

    def mapped(self, request: bytes, result: int = 0) -> bytes:
        """The right answer of PCP, or a refusal."""
        lifetime = min(self.lifetime, *struct.unpack_from("!I", request, 4))
        head = struct.pack("!BBBBII12x", 2, 0x80 | request[1], 0, result, lifetime, self.epoch)
        if request[1] == 0:
            return head
        outer = b"\0" * 10 + b"\xff\xff" + ip_address(self.outside).packed
        return head + request[24:42] + self.port(request[40:42]) + outer

    def pmp_mapped(self, request: bytes, result: int = 0) -> bytes:
        """The right answer of NAT-PMP, or a refusal."""
        head = struct.pack("!BBHI", 0, 0x80 | request[1], result, self.epoch)
        if request[1] == 0:
            return head + ip_address(self.outside).packed
        return head + request[4:6] + self.port(request[4:6]) + request[8:12]

    def port(self, inner: bytes) -> bytes:
        """The outer port that is granted."""
        return self.outer.to_bytes(2) if self.outer else inner

    def datagram_received(self, data, address):
        self.asked.append(data)
        answers = (self.pcp if data[0] == 2 else self.pmp)(data)
        for answer in answers if isinstance(answers, list) else [answers]:
            if answer:
                (self.other if self.elsewhere else self.transport).sendto(answer, address)

    def connection_made(self, transport):
        self.transport = transport
        self._stack.callback(transport.close)

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, (self.address, 5351))
        self.other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (self.address, 0))
        self._stack.callback(self.other.close)
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()
        await asyncio.sleep(0)  # asyncio closes its sockets in the next turn

    async def announce(self, url: str, sender: str = "") -> None:
        """Answer SSDP searches with this URL, from another address if given."""

        class Ssdp(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                (other or self.transport).sendto(f"HTTP/1.1 200 OK\r\nLOCATION: {url}\r\n\r\n".encode(), address)

        loop = asyncio.get_running_loop()
        other = None
        if sender:
            other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (sender, 0))
            self._stack.callback(other.close)
        transport, _ = await loop.create_datagram_endpoint(Ssdp, (self.address, 1900))
        self._stack.callback(transport.close)

    def serve(self, answer: Callable[[str, str], str], address: str = "") -> tuple[str, list[str]]:
        """An HTTP server: `answer(action or path, body)` gives the text; its URL, and the requests it has had."""
        requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.respond(self.path, "")

            def do_POST(self):
                action = self.headers["SOAPAction"].strip('"').partition("#")[2]
                self.respond(action, self.rfile.read(int(self.headers["Content-Length"])).decode())

            def respond(self, what, body):
                requests.append(what)
                text = answer(what, body).encode()
                self.send_response(500 if b"errorCode" in text else 200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer((address or self.address, 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return f"http://{address or self.address}:{server.server_port}", requests


class FakeIgd:
    """Port mappings as an IGD keeps them: `entries` by outer port.

    It may allow `permanent` leases only, be `lax` and let one host overwrite what another has, or `shy` and show none.
    """

    def __init__(self, control="/control", base="", *, permanent=False, lax=False, shy=False, outside=OUTSIDE):
        self.control, self.base, self.outside = control, base, outside
        self.permanent, self.lax, self.shy = permanent, lax, shy
        self.entries: dict[int, dict[str, str]] = {}

    def __call__(self, what: str, body: str) -> str:
        if what.startswith("/"):
            return DESCRIPTION % {"control": self.control, "base": self.base}
        said = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
        return SOAP % getattr(self, ACTIONS[what])(int(said.get("NewExternalPort") or 0), said)

    def address(self, _port, _said):
        return (
            '<u:GetExternalIPAddressResponse xmlns:u="x"><NewExternalIPAddress>'
            f"{self.outside}</NewExternalIPAddress></u:GetExternalIPAddressResponse>"
        )

    def entry(self, port, _said):
        if port not in self.entries or self.shy:
            return FAULT % 714
        names = "NewInternalPort", "NewInternalClient", "NewEnabled", "NewPortMappingDescription", "NewLeaseDuration"
        parts = "".join(f"<{name}>{self.entries[port][name]}</{name}>" for name in names)
        return f'<u:GetSpecificPortMappingEntryResponse xmlns:u="x">{parts}</u:GetSpecificPortMappingEntryResponse>'

    def add(self, port, said):
        if self.permanent and said["NewLeaseDuration"] != "0":
            return FAULT % 725
        if not self.lax and self.entries.get(port, said)["NewInternalClient"] != said["NewInternalClient"]:
            return FAULT % 718
        self.entries[port] = said
        return '<u:AddPortMappingResponse xmlns:u="x"></u:AddPortMappingResponse>'

    def delete(self, port, _said):
        return (
            '<u:DeletePortMappingResponse xmlns:u="x"></u:DeletePortMappingResponse>' if self.entries.pop(port) else ""
        )
