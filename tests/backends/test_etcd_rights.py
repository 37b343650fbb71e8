"""Users, rights, certificates and options of etcd: what the documentation says works, and refusals explain themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.backends.common import slot
from tests.backends.etcdclient import LATER, asked, following, opened
from tests.backends.etcdserver import VERSIONS, EtcdServer, certificate, folder, started
from wgdisco.backend import RetryLater, Secret
from wgdisco.backends.etcd import Etcd
from wgdisco.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs" / "backends" / "etcd.md"


# users and rights


@contextmanager
def guarded_by(*more: str, kind: type[EtcdServer]) -> Iterator[EtcdServer]:
    """A server set up by the commands in the documentation, with authentication on."""
    with started(*more, kind=kind) as running:
        commands = DOCS.read_text().partition("## Least privilege")[2].partition("```sh\n")[2].partition("```")[0]
        for name, password in (("etcd-password", "secret"), ("etcd-reader-password", "other"), ("root", "root")):
            (running.folder / name).write_text(password + "\n")
        running.etcdctl(commands.replace("/etc/wgdisco", str(running.folder)) + enabling(running))
        yield running


def enabling(server: EtcdServer) -> str:
    return f"etcdctl user add root --interactive=false < {server.folder}/root\netcdctl auth enable\n"


@pytest.fixture(scope="module", params=VERSIONS)
def guarded(request: pytest.FixtureRequest) -> Iterator[EtcdServer]:
    """A guarded server of each version, with tokens that live for a second."""
    with guarded_by("--auth-token-ttl=1", kind=VERSIONS[request.param]) as running:
        yield running


WRITER = {"user": "wgdisco", "password": Secret("secret"), "prefix": "/wgdisco/"}
READER = {"user": "reader", "password": Secret("other"), "prefix": "/wgdisco/"}


async def test_the_documented_rights_suffice(guarded: EtcdServer) -> None:
    """A writer publishes and removes, a reader looks up and follows."""
    async with (
        opened(guarded, **WRITER) as writer,
        opened(guarded, **READER) as reader,
        following(reader, "a") as follower,
    ):
        for blob in (b"1", b"2"):
            await writer.put(slot("a"), blob, LATER)
            await follower.until(a=blob)
        assert [b"2"] in [values async for _, values in reader.fetch([slot("a"), *map(slot, range(20))])]
        assert await reader.get(slot("a")) == [b"2"]
        await writer.remove(slot("a"))
        await follower.until(a=None)


async def test_a_forbidden_write_says_what_to_grant(guarded: EtcdServer) -> None:
    async with opened(guarded, **READER) as reader:
        with pytest.raises(RetryLater) as caught:
            await reader.put(slot("a"), b"x", LATER)
    assert str(caught.value) == (
        f"{guarded.url} refused kv/txn: etcdserver: permission denied; "
        "grant the user's role 'readwrite' (to readers 'read') on the whole prefix"
    )
    assert caught.value.seconds == 60


async def test_a_forbidden_watch_is_an_error(guarded: EtcdServer) -> None:
    """The range is refused before the watch; a watch that alone is refused ends by the same error."""
    async with opened(guarded, **WRITER | {"prefix": "/elsewhere/"}) as backend:
        with pytest.raises(RetryLater, match="refused kv/range: etcdserver: permission denied"):
            await anext(backend.follow([slot("a")]))
        with pytest.raises(
            RetryLater, match=r"etcd ended the watch of '/elsewhere/': .*permission denied; grant"
        ) as caught:
            await anext(backend._view.changes(1))
    assert caught.value.seconds == 60


async def test_a_wrong_password_is_tried_once(guarded: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try costs etcd a bcrypt, and every publish is many calls."""
    async with opened(guarded, **WRITER | {"password": Secret("wrong")}) as backend:
        paths = asked(backend, monkeypatch)
        results = await asyncio.gather(
            *(backend.put(slot(number), b"x", LATER) for number in range(20)), return_exceptions=True
        )
        assert paths == ["auth/authenticate"]
        message = "refused auth/authenticate: etcdserver: authentication failed, invalid user ID or password"
        assert {str(each) for each in results} == {f"{guarded.url} {message}; check the options user and password"}
        assert {each.seconds for each in results} == {60}
        backend._gateway._barred = (time.monotonic(), backend._gateway._barred[1])  # a minute later
        with pytest.raises(RetryLater):
            await backend.get(slot("a"))
        assert paths == ["auth/authenticate"] * 2


async def test_without_a_user_the_options_are_named(guarded: EtcdServer) -> None:
    async with opened(guarded, prefix="/wgdisco/") as backend:
        for attempt in (backend.get(slot("a")), backend.put(slot("a"), b"x", LATER)):
            with pytest.raises(RetryLater, match=r"user name is empty; this etcd wants the options user and password$"):
                await attempt


async def test_an_expired_token_is_renewed_once_for_all(guarded: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(guarded, **WRITER) as backend:
        await backend.put(slot("a"), b"x", LATER)
        await asyncio.sleep(2.5)
        paths = asked(backend, monkeypatch)
        assert await asyncio.gather(*(backend.get(slot("a")) for _ in range(10))) == [[b"x"]] * 10
        assert paths.count("auth/authenticate") == 1


@pytest.mark.parametrize("kind", VERSIONS.values(), ids=VERSIONS)
async def test_a_restart_that_loses_every_token_is_survived(kind: type[EtcdServer]) -> None:
    """Tokens are in memory, and come back from the log only as long as there is no snapshot after them."""
    with guarded_by("--snapshot-count=1", kind=kind) as own:
        async with (
            opened(own, **WRITER) as writer,
            opened(own, **READER) as reader,
            following(reader, "a") as follower,
        ):
            await follower.until(a=None)
            for blob in (b"1", b"2", b"3"):
                await writer.put(slot("a"), blob, LATER)
                await follower.until(a=blob)
            tokens = writer._gateway._token, reader._gateway._token
            own.kill()
            own.start()
            await writer.put(slot("a"), b"after", LATER)
            await follower.until(a=b"after")
            assert writer._gateway._token != tokens[0]
            assert reader._gateway._token != tokens[1]


async def test_a_user_is_no_obstacle_while_authentication_is_off() -> None:
    """It is off at first in many clusters, and during repairs; once it is on, the user counts."""
    with started() as server:
        async with opened(server, **WRITER | {"user": "root", "password": Secret("root")}) as backend:
            await backend.put(slot("a"), b"x", LATER)
            assert await backend.get(slot("a")) == [b"x"]
            (server.folder / "root").write_text("root")
            server.etcdctl(enabling(server))
            assert await backend.get(slot("a")) == [b"x"]


async def test_nothing_shows_the_password(guarded: EtcdServer) -> None:
    async with opened(guarded, **WRITER) as backend:
        await backend.get(slot("a"))
        assert "secret" not in repr(backend)
        assert backend._gateway._token not in repr(backend)


# TLS


class SecureEtcd(EtcdServer):
    """A server that wants client certificates; its folder holds a CA and the server's certificate already."""

    scheme = "https"


CERTIFICATES = (
    "--cert-file={folder}/server.pem",
    "--key-file={folder}/server.key",
    "--client-cert-auth",
    "--trusted-ca-file={folder}/ca.pem",
)


@pytest.fixture(scope="module")
def secure() -> Iterator[EtcdServer]:
    with folder() as path:
        certificate(path, "ca", subject="/O=test CA")
        certificate(path, "server", "ca")
        certificate(path, "client", "ca")
        certificate(path, "named", "ca", subject="/CN=wgdisco")
        certificate(path, "stranger", "", subject="/O=stranger")
        with SecureEtcd(path, *CERTIFICATES) as running:
            yield running


def options_for(server: EtcdServer, client: str = "client") -> dict[str, object]:
    path = server.folder
    return {"ca": f"{path}/ca.pem", "cert": f"{path}/{client}.pem", "key": f"{path}/{client}.key"}


async def test_tls_with_a_client_certificate(secure: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor a bundle of certificates that the environment names gets in between."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, f"{secure.folder}/stranger.pem")
    async with opened(secure, **options_for(secure)) as backend, following(backend, "a") as follower:
        await backend.put(slot("a"), b"x", LATER)
        await follower.until(a=b"x")


@pytest.mark.parametrize("client", ["", "stranger"])
async def test_tls_without_a_client_certificate_that_counts_is_refused(secure: EtcdServer, client: str) -> None:
    """The refusal arrives after the handshake, as an alert (a bare ssl.SSLError) or as a broken connection."""
    options = options_for(secure, client) if client else {"ca": f"{secure.folder}/ca.pem"}
    async with opened(secure, **options) as backend:
        for _ in range(5):
            with pytest.raises(ConnectionError, match=f"^no endpoint can serve: {secure.url}: .*certificate"):
                await backend.get(slot("a"))


async def test_a_server_with_a_certificate_of_strangers_is_not_talked_to(secure: EtcdServer) -> None:
    async with opened(secure, **options_for(secure) | {"ca": f"{secure.folder}/stranger.pem"}) as backend:
        with pytest.raises(ConnectionError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
            await backend.get(slot("a"))


async def test_a_server_certificate_without_client_usage_is_explained() -> None:
    """The gateway shows the server's certificate to etcd itself, as a client."""
    with folder() as path:
        certificate(path, "ca", subject="/O=test CA")
        certificate(path, "server", "ca", usage="serverAuth")
        certificate(path, "client", "ca")
        with SecureEtcd(path, *CERTIFICATES) as running:
            async with opened(running, **options_for(running)) as backend:
                with pytest.raises(ConnectionError, match="lacks clientAuth in its extendedKeyUsage"):
                    await backend.get(slot("a"))


@pytest.fixture(scope="module")
def secure_guarded(secure: EtcdServer) -> EtcdServer:
    """The same with authentication switched on; tests of the unguarded one come before."""
    path = secure.folder
    flags = {
        "ETCDCTL_CACERT": f"{path}/ca.pem",
        "ETCDCTL_CERT": f"{path}/client.pem",
        "ETCDCTL_KEY": f"{path}/client.key",
    }
    (path / "password").write_text("secret\n")
    secure.etcdctl(f"etcdctl user add root --interactive=false < {path}/password\netcdctl auth enable", **flags)
    return secure


async def test_a_common_name_in_the_client_certificate_is_explained(secure_guarded: EtcdServer) -> None:
    options = options_for(secure_guarded, "named") | {"user": "root", "password": Secret("secret")}
    async with opened(secure_guarded, **options) as backend:
        with pytest.raises(
            RetryLater, match="takes only client certificates without a CommonName; issue one with O= alone"
        ):
            await backend.get(slot("a"))


async def test_user_and_client_certificate_together(secure_guarded: EtcdServer) -> None:
    options = options_for(secure_guarded) | {"user": "root", "password": Secret("secret")}
    async with opened(secure_guarded, **options) as backend, following(backend, "a") as follower:
        await backend.put(slot("a"), b"x", LATER)
        await follower.until(a=b"x")


async def test_a_client_certificate_alone_is_denied(secure_guarded: EtcdServer) -> None:
    """etcd says "permission denied" here, and "user name is empty" without a client certificate."""
    async with opened(secure_guarded, **options_for(secure_guarded)) as backend:
        with pytest.raises(RetryLater, match=r"permission denied|user name is empty") as caught:
            await backend.get(slot("a"))
    assert caught.value.seconds == 60


# options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoints": []}, "endpoints is empty; expected URLs like 'https://etcd.example:2379'"),
        ({"endpoints": ["host:2379"]}, "endpoint 'host:2379' is no URL like 'https://etcd.example:2379'"),
        ({"endpoints": ["http://"]}, "endpoint 'http://' is no URL like 'https://etcd.example:2379'"),
        (
            {"endpoints": ["http://u:pass@h:1"]},
            "endpoint 'http://…@h:1' has a user in it; use the options user and password",
        ),
        (
            {"endpoints": ["http://a:1", "https://b:1"]},
            "endpoints http://a:1, https://b:1 mix http and https; one would give away what the other hides",
        ),
        ({"prefix": ""}, "prefix '' would be the whole of etcd; expected something like '/wgdisco/'"),
        ({"user": "u"}, "user 'u' and password go together, and only one of them is set"),
        ({"ca": "/x"}, "ca and cert are for https, but endpoints are http://127.0.0.1:2379"),
        ({"key": "/k"}, "key '/k' is set without cert; expected the client's certificate too"),
        (
            {"endpoints": ["https://h:1"], "ca": "/nonexistent"},
            "ca '/nonexistent': No such file or directory; expected a file with certificates in PEM",
        ),
        (
            {"endpoints": ["https://h:1"], "cert": "/nonexistent"},
            "cert '/nonexistent': No such file or directory; expected PEM files that belong together",
        ),
    ],
    ids=str,
)
async def test_an_option_that_cannot_be_used_is_quoted(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await Etcd(**options).open()
    assert str(caught.value) == message


def test_the_documentation_names_every_option() -> None:
    table = DOCS.read_text().partition("## Options")[2].partition("##")[0]
    named = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == {each.name for each in dataclasses.fields(Etcd)}
