"""BIND and Knot with one zone that takes updates by TSIG, for tests."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import dns.message
import dns.query
import dns.rcode
import dns.tsigkeyring
import dns.update

from tests.support import Server, require_binary, wait_for
from wgdisco.backend import Secret
from wgdisco.backends.dns import DNS

__all__ = ["ZONE", "Bind", "DNSServer", "Knot", "certificate", "secret"]

ZONE = "wg.test"
ZONE_FILE = """$TTL 60
@ IN SOA ns1.wg.test. admin.wg.test. 1 3600 600 86400 5
@ IN NS ns1.wg.test.
ns1 IN A 127.0.0.1
*.wild IN TXT "v=spf1 -all"
*.alias IN CNAME target
"""


def secret(name: str) -> str:
    """The secret of a key, in base64."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A certificate of its own authority for an address, in NAME.pem, with its key in NAME.key."""
    made = folder / f"{name}.pem"
    subprocess.run(
        [require_binary("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=wgdisco test", "-addext", f"subjectAltName=IP:{name}",
         "-keyout", folder / f"{name}.key", "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


class DNSServer(Server):
    """A server of the zone wg.test; the key `writer` may write everywhere, `limited` below sub.wg.test alone."""

    def prepare(self) -> None:
        """Write zone and configuration; the zone only once, since it changes by update."""
        zone = self.folder / "zone"
        if not zone.exists():
            zone.write_text(ZONE_FILE)
        (self.folder / "conf").write_text(self.configuration())

    def configuration(self) -> str:
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers for the zone with authority."""
        try:
            answer = dns.query.udp(dns.message.make_query(ZONE, "SOA"), "127.0.0.1", 0.5, self.port)
        except (OSError, dns.exception.DNSException):
            return False
        return answer.rcode() == dns.rcode.NOERROR

    def freeze(self) -> None:
        """Stop every thread, and not only the first that notices."""
        super().freeze()
        tasks = Path(f"/proc/{self.pid}/task")
        wait_for(
            lambda: all(" T " in (each / "stat").read_text() for each in tasks.iterdir()), "all threads stand still"
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def backend(self, **options: Any) -> DNS:
        """A writer that asks this server."""
        key = options.pop("key", "writer")
        given = {"key_name": key, "key_secret": Secret(secret(key))} if key else {}
        return DNS(**{"zone": ZONE, "server": self.address, "direct": True, **given, **options})

    def update(self, *changes: tuple[Any, ...]) -> None:
        """Change the zone as any program with the key may: ("add", name, ttl, type, text) and so on."""
        update = dns.update.UpdateMessage(ZONE, keyring=dns.tsigkeyring.from_text({"writer": secret("writer")}))
        for how, *arguments in changes:
            getattr(update, how)(*arguments)
        answer = dns.query.tcp(update, "127.0.0.1", 5, self.port)
        assert answer.rcode() == dns.rcode.NOERROR, answer

    def serial(self) -> int:
        """The zone's serial number, which every change raises."""
        answer = dns.query.tcp(dns.message.make_query(ZONE, "SOA"), "127.0.0.1", 5, self.port)
        return int(answer.answer[0][0].serial)

    def texts(self, name: str) -> dict[bytes, int]:
        """The TXT records of a name below the zone, each with its TTL."""
        answer = dns.query.tcp(dns.message.make_query(f"{name}.{ZONE}", "TXT"), "127.0.0.1", 5, self.port)
        return {b"".join(each.strings): rrset.ttl for rrset in answer.answer for each in rrset}


class Bind(DNSServer):
    """BIND 9; with a certificate in its folder also DNS over TLS (second port) and HTTPS (third)."""

    program = "named"
    ports_needed = 3
    arguments: ClassVar[tuple[str, ...]] = ("-g", "-n", "1", "-c", "{folder}/conf")

    def configuration(self) -> str:
        pem = self.folder / "127.0.0.1.pem"
        encrypted = f"""
            listen-on port {self.ports[1]} tls own {{ 127.0.0.1; }};
            listen-on port {self.ports[2]} tls own http default {{ 127.0.0.1; }};
        """
        keys = "".join(
            f'key "{name}" {{ algorithm hmac-sha256; secret "{secret(name)}"; }};\n' for name in ("writer", "limited")
        )
        tls = f'tls own {{ cert-file "{pem}"; key-file "{pem.with_suffix(".key")}"; }};' if pem.exists() else ""
        return f"""
            {keys} {tls} controls {{}};
            options {{
                directory "{self.folder}"; pid-file "{self.folder}/pid"; session-keyfile "{self.folder}/session";
                listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
                {encrypted if tls else ""}
                recursion no; dnssec-validation no; allow-transfer {{ none; }}; notify no;
            }};
            zone "{ZONE}" {{
                type primary; file "{self.folder}/zone";
                update-policy {{ grant writer zonesub TXT; grant limited subdomain sub.{ZONE}. TXT; }};
            }};
        """


class Knot(DNSServer):
    """Knot DNS."""

    program = "knotd"
    arguments: ClassVar[tuple[str, ...]] = ("-c", "{folder}/conf")

    def configuration(self) -> str:
        keys = "".join(
            f"  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret(name)}\n"
            for name in ("writer", "limited")
        )
        return f"""
server:
    rundir: {self.folder}
    listen: 127.0.0.1@{self.port}
    user: root:root
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {self.folder}
log:
  - target: stderr
    any: warning
key:
{keys}
acl:
  - id: everywhere
    action: update
    key: writer
  - id: below
    action: update
    key: limited
    update-type: TXT
    update-owner: name
    update-owner-match: sub
    update-owner-name: sub
zone:
  - domain: {ZONE}
    storage: {self.folder}
    file: zone
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: all
    journal-max-depth: 10000
    semantic-checks: off
    acl: [everywhere, below]
"""
