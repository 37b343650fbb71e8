"""MQTT brokers that are down, frozen, killed, strict or encrypted, and options that cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.backends.common import slot
from tests.backends.dnsservers import certificate
from tests.backends.mqttserver import Mosquitto, opened
from tests.support import free_ports
from wgdisco.backend import Secret
from wgdisco.backends import _mqtt_inbox, mqtt
from wgdisco.backends.mqtt import MQTT
from wgdisco.errors import ConfigError, StoreError

USERS = {"writer": "w-secret", "reader": "r-secret", "stranger": "s-secret"}
ACL = """
user writer
topic readwrite wgdisco/#
user reader
topic read wgdisco/#
topic write wgdisco/barrier/#
user stranger
topic readwrite elsewhere/#
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that the test may break."""
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker with users and rights."""
    with Mosquitto(tmp_path_factory.mktemp("strict"), users=USERS, acl=ACL) as running:
        yield running


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker with TLS; its key is readable by root alone."""
    folder = tmp_path_factory.mktemp("encrypted")
    pem = certificate(folder)
    with Mosquitto(folder, f"certfile {pem}", f"keyfile {pem.with_suffix('.key')}") as running:
        yield running


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience, so that tests of silent brokers are short."""
    monkeypatch.setattr(_mqtt_inbox, "ANSWER", 0.4)
    monkeypatch.setattr(mqtt, "ANSWER", 0.4)
    monkeypatch.setattr(mqtt, "CONNECT", 0.4)
    monkeypatch.setattr(mqtt, "PATIENCE", 0.5)
    monkeypatch.setattr(mqtt, "PAUSE", 0.1)


def opened_as(running: Mosquitto, user: str, /) -> AbstractAsyncContextManager[MQTT]:
    """A backend of one of the users."""
    return opened(running, user=user, password=Secret(USERS[user]))


# down, frozen, killed


async def test_a_closed_port_is_an_error_at_once() -> None:
    (port,) = free_ports()
    backend = MQTT(host="127.0.0.1", port=port)
    await backend.open()
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}: .*refused"):
        await backend.get(slot("a"))
    await backend.close()


@pytest.mark.parametrize("call", ["put", "get", "remove"])
async def test_a_frozen_broker_is_an_error_and_is_used_again(own: Mosquitto, hasty: None, call: str) -> None:
    async with opened(own) as backend:
        await backend.put(slot("a"), b"before", 600)
        arguments = (slot("a"), b"x", 600) if call == "put" else (slot("a"),)
        own.freeze()
        try:
            with pytest.raises(ConnectionError):
                await getattr(backend, call)(*arguments)
        finally:
            own.thaw()
        await backend.put(slot("a"), b"after", 600)
        assert await backend.get(slot("a")) == [b"after"]


async def test_a_broker_that_is_frozen_already_is_an_error(own: Mosquitto, hasty: None) -> None:
    """The kernel accepts the connection, and then nobody answers."""
    own.freeze()
    try:
        async with opened(own) as backend:
            with pytest.raises(ConnectionError, match="timed out"):
                await backend.get(slot("a"))
    finally:
        own.thaw()


async def test_a_broker_that_freezes_under_a_watch_is_noticed(own: Mosquitto, hasty: None) -> None:
    """By its missing sign of life, within twice the keepalive."""
    async with opened(own, keepalive=1) as backend, aclosing(backend.watch(slot("a"))) as changes:
        assert await anext(changes) == []
        own.freeze()
        try:
            with pytest.raises(ConnectionError):
                await anext(changes)
        finally:
            own.thaw()


async def test_a_call_ends_with_its_connection(own: Mosquitto) -> None:
    """It does not wait for an answer that cannot come any more."""
    async with opened(own) as backend:
        await backend.get(slot("a"))
        own.freeze()
        asked = asyncio.ensure_future(backend.get(slot("a")))
        await asyncio.sleep(0.1)
        own.kill()
        with pytest.raises(ConnectionError, match="connection is lost"):
            await asked


async def test_a_broker_killed_in_mid_watch_and_back_is_followed_on(own: Mosquitto) -> None:
    async with opened(own) as backend, aclosing(backend.watch(slot("a"))) as changes:
        async with opened(own) as writer:
            await writer.put(slot("a"), b"before", 600)
        assert await anext(changes) == [b"before"]
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        own.kill()
        own.start()
        async with opened(own) as writer:
            await writer.put(slot("a"), b"after", 600)
        assert b"after" in (await waiting or await anext(changes))


async def test_a_watch_ends_when_the_broker_stays_away(own: Mosquitto, hasty: None) -> None:
    """So that `status` shows it as down."""
    async with opened(own) as backend, aclosing(backend.watch(slot("a"))) as changes:
        await anext(changes)
        own.kill()
        with pytest.raises(ConnectionError, match="refused"):
            await anext(changes)


async def test_closing_does_not_wait_for_a_frozen_broker(own: Mosquitto) -> None:
    async with opened(own) as backend:
        await backend.get(slot("a"))
        own.freeze()
        try:
            async with asyncio.timeout(2):
                await backend.close()
        finally:
            own.thaw()


# rights


async def test_a_wrong_password_is_refused_and_not_shown(strict: Mosquitto) -> None:
    async with opened(strict, user="writer", password=Secret("wrong-secret")) as backend:
        with pytest.raises(StoreError, match=r"refused us: .*correct user and password") as caught:
            await backend.get(slot("a"))
    assert "wrong-secret" not in str(caught.value)


async def test_nobody_is_refused_where_users_are_needed(strict: Mosquitto) -> None:
    async with opened(strict) as backend:
        with pytest.raises(StoreError, match="refused us"):
            await backend.get(slot("a"))


async def test_a_watch_that_is_refused_raises_at_once(strict: Mosquitto) -> None:
    async with opened(strict) as backend, aclosing(backend.watch(slot("a"))) as changes:
        with pytest.raises(StoreError, match="refused us"):
            await anext(changes)


async def test_a_publication_that_the_acl_forbids_is_an_error(strict: Mosquitto) -> None:
    """mosquitto acknowledges it, and the library says nothing."""
    async with opened_as(strict, "reader") as backend:
        with pytest.raises(StoreError, match=f"did not keep 'wgdisco/{slot('forbidden').text}'; the ACL has to"):
            await backend.put(slot("forbidden"), b"x", 600)


async def test_a_removal_that_the_acl_forbids_is_an_error(strict: Mosquitto) -> None:
    async with opened_as(strict, "writer") as writer, opened_as(strict, "reader") as reader:
        await writer.put(slot("stays"), b"x", 600)
        with pytest.raises(StoreError, match="did not remove"):
            await reader.remove(slot("stays"))
        assert await reader.get(slot("stays")) == [b"x"]


async def test_the_documented_rights_suffice(strict: Mosquitto) -> None:
    async with opened_as(strict, "writer") as writer, opened_as(strict, "reader") as reader:  # noqa: SIM117 - too long
        async with aclosing(reader.watch(slot("rights"))) as changes:
            assert await anext(changes) == []
            await writer.put(slot("rights"), b"x", 600)
            assert await anext(changes) == [b"x"]
            await writer.remove(slot("rights"))
            assert await anext(changes) == []


async def test_without_rights_on_the_prefix_reading_is_an_error(strict: Mosquitto, hasty: None) -> None:
    """Nothing comes back then, not even our own barrier: that must not look like an empty slot."""
    async with opened_as(strict, "stranger") as backend:
        with pytest.raises(StoreError, match=r"wgdisco/barrier/.* does not come back; the ACL"):
            await backend.get(slot("a"))


# TLS


async def test_tls(encrypted: Mosquitto) -> None:
    ca = str(encrypted.folder / "127.0.0.1.pem")
    async with opened(encrypted, tls=True, ca=ca) as backend:
        await backend.put(slot("a"), b"x", 600)
        assert await backend.get(slot("a")) == [b"x"]


async def test_a_certificate_nobody_signed_is_refused(encrypted: Mosquitto) -> None:
    async with opened(encrypted, tls=True) as backend:
        with pytest.raises(ConnectionError, match="certificate verify failed"):
            await backend.get(slot("a"))


async def test_a_frozen_handshake_is_given_up(encrypted: Mosquitto, hasty: None) -> None:
    """It happens in a thread, for which the end of the process would wait for the keepalive otherwise."""
    ca = str(encrypted.folder / "127.0.0.1.pem")
    encrypted.freeze()
    try:
        async with asyncio.timeout(5), opened(encrypted, tls=True, ca=ca) as backend:
            with pytest.raises(ConnectionError, match="timed out"):
                await backend.get(slot("a"))
    finally:
        encrypted.thaw()


async def test_plain_text_to_a_tls_port_is_an_error(encrypted: Mosquitto, hasty: None) -> None:
    async with opened(encrypted) as backend:
        with pytest.raises(ConnectionError):
            await backend.get(slot("a"))


# options

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "user without password": ({"user": "me"}, "user 'me' and password go together"),
    "password without user": ({"password": Secret("hunter2")}, "user '' and password go together"),
    "empty prefix": ({"prefix": ""}, "prefix '': expected levels that end in a slash"),
    "prefix without slash": ({"prefix": "wg"}, "prefix 'wg'"),
    "wildcard": ({"prefix": "wg/+/"}, r"prefix 'wg/\+/'"),
    "the broker's own": ({"prefix": "$SYS/"}, r"prefix '\$SYS/'"),
    "ca without tls": ({"ca": "/ca.pem"}, "ca '/ca.pem' is for TLS; set tls = true too"),
    "ca missing": ({"tls": True, "ca": "/missing.pem"}, "ca '/missing.pem': No such file"),
    "key without cert": ({"tls": True, "key": "/key.pem"}, "key '/key.pem' is set without cert"),
    "cert missing": ({"tls": True, "cert": "/missing.pem"}, "cert '/missing.pem', key '': No such file"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_options_that_cannot_be_used_are_quoted(name: str) -> None:
    options, message = WRONG[name]
    with pytest.raises(ConfigError, match=message) as caught:
        await MQTT(**options).open()
    assert "hunter2" not in str(caught.value)
