"""The local network by multicast DNS, on loopback: several responders in one process, nothing leaves the machine."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from contextlib import AbstractAsyncContextManager, aclosing, suppress

import pytest

from tests.backends.common import LATER, opening
from wgdisco.backend import Backend
from wgdisco.backends import _lan_air
from wgdisco.backends._lan_air import from_strings, places, to_strings
from wgdisco.backends.lan import Lan
from wgdisco.cli.main import main
from wgdisco.errors import ConfigError
from wgdisco.testing import Author, BackendContract


def on_loopback(patience: float = 1.5) -> Lan:
    return Lan(interfaces=["lo"], patience=patience)


def opened(patience: float = 1.5) -> AbstractAsyncContextManager[Lan]:
    return opening(on_loopback(patience))


class TestContract(BackendContract):
    """What every backend has to do; two of its tests mean something else where a record goes with its process."""

    def backend(self) -> Backend:
        return on_loopback()

    def test_another_instance_sees_what_was_stored(self) -> None:
        """As long as the writer answers, another instance finds the record; afterwards nobody does."""
        author = Author()

        async def work(backend: Backend) -> None:
            async with self.opened() as writer:
                await writer.put(author.slot(), b"kept", LATER)
                assert await self.until(backend, author.reading(), bool) == [b"kept"]
            assert await self.until(backend, author.reading(), lambda values: not values) == []

        self.run(work)

    def test_an_instance_sees_what_another_one_changed(self) -> None:
        """Two processes that answer for one slot are both heard."""
        author = Author()

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(), b"old", LATER)
            assert await self.until(backend, author.reading(), bool) == [b"old"]
            async with self.opened() as other:
                await other.put(author.slot(), b"new", LATER)
                assert b"new" in await self.until(backend, author.reading(), lambda values: b"new" in values)

        self.run(work)


async def test_a_record_ends_with_its_lifetime() -> None:
    author = Author()
    async with opened() as backend, aclosing(backend.watch(author.reading())) as values:
        await backend.put(author.slot(), b"short", 1)
        async with asyncio.timeout(10):
            while await anext(values) != [b"short"]:
                pass
            assert await anext(values) == []


async def test_a_refresh_extends_the_lifetime() -> None:
    author = Author()
    async with opened() as backend:
        await backend.put(author.slot(), b"same", 1)
        await backend.put(author.slot(), b"same", LATER)
        await asyncio.sleep(1.3)
        assert await backend.get(author.reading()) == [b"same"]


async def test_whoever_answers_first_does_not_hide_the_others() -> None:
    """A get returns every answer, not only the first: an impostor on the network is usually the quickest."""
    author = Author()
    async with opened() as impostor, opened() as honest, opened() as reader:
        await impostor.put(author.slot(), b"forged", LATER)
        await honest.put(author.slot(), b"genuine", LATER)
        assert sorted(await reader.get(author.reading())) == [b"forged", b"genuine"]


async def test_a_txt_record_of_another_program_is_skipped() -> None:
    author = Author()
    async with opened() as other, opened(patience=0.3) as reader:
        await other._air.say(f"{author.reading().text}.{_lan_air.TYPE}", b"\x09txtvers=1", LATER)
        assert await reader.get(author.reading()) == []


async def test_what_got_lost_is_asked_for_again() -> None:
    """A watch that missed the announcement hears of it at its next question."""
    author = Author()
    async with opened() as writer, opened(patience=0.2) as reader:
        reader.poll = 0.2
        async with aclosing(reader.watch(author.reading())) as values, asyncio.timeout(10):
            assert await anext(values) == []
            radio = await reader._air.tune()
            await writer.put(author.slot(), b"there", LATER)
            radio.zeroconf.cache.async_remove_records(
                radio.zeroconf.cache.async_entries_with_name(f"{author.reading().text}.{_lan_air.TYPE}")
            )
            assert await anext(values) == [b"there"]


async def test_new_addresses_are_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the host moved to another network it answers there for what it said before."""
    author = Author()
    async with opened() as reader:
        monkeypatch.setattr(_lan_air, "places", lambda _: ["127.0.0.2"])
        async with opened() as mover:
            await mover.put(author.slot(), b"moved", LATER)
            before = await mover._air.tune()
            monkeypatch.setattr(_lan_air, "places", lambda _: ["127.0.0.1"])
            assert await mover._air.tune() is not before
            assert await reader.get(author.reading()) == [b"moved"]


async def test_no_network_is_a_clear_error_until_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    author = Author()
    backend = Lan(interfaces=["nosuch0"])
    with pytest.raises(ConnectionError) as caught:
        await backend.open()
    await backend.close()
    assert str(caught.value) == (
        "cannot multicast to 224.0.0.251 from interfaces nosuch0 (no interface that is up and can multicast); "
        "connect to a network, name an interface with -o interfaces=NAME, or use another backend"
    )
    async with opened() as backend:
        backend._air.wanted = ["nosuch0"]
        with pytest.raises(ConnectionError):
            await backend.put(author.slot(), b"x", LATER)
        backend._air.wanted = ["lo"]
        await backend.put(author.slot(), b"x", LATER)
        assert await backend.get(author.reading()) == [b"x"]


async def test_patience_has_to_be_positive() -> None:
    with pytest.raises(ConfigError, match="patience 0: expected seconds above 0"):
        await Lan(patience=0).open()


def test_loopback_is_used_only_when_named() -> None:
    assert places(["lo"]) == ["127.0.0.1"]
    with suppress(ConnectionError):  # this machine may have nothing else
        assert not {"127.0.0.1", 1} & set(places([]))


@pytest.mark.parametrize("size", [1, 250, 251, 500, 681])
def test_a_blob_survives_the_strings_of_a_txt_record(size: int) -> None:
    blob = os.urandom(size)
    text = to_strings(blob)
    assert from_strings(text) == blob
    assert len(text) <= size + 3 * 3


@pytest.mark.parametrize("text", [b"", b"\0", b"\x05", b"\x03a=b", b"\x041=ab", b"\x030=a\x030=b", b"\x030=a\xff1=b"])
def test_other_txt_records_are_none_of_ours(text: bytes) -> None:
    assert from_strings(text) is None


@pytest.mark.parametrize(("more", "code"), [(False, 3), (True, 0)])
def test_publishing_to_the_lan_alone_says_that_it_is_of_no_use(tmp_path, monkeypatch, capsys, more, code) -> None:
    """A one-shot publish ends, and its answers with it: that fails unless another store keeps the record."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    key = tmp_path / "key"
    key.write_text(b64encode(os.urandom(32)).decode())
    key.chmod(0o600)
    words = ["publish", "--private-key-file", str(key), "--to", "key", "-e", "192.0.2.7:51820"]
    words += ["-b", "lan", "-o", "lan.interfaces=lo"]
    if more:
        (tmp_path / "shelf").mkdir()
        words += ["-b", "folder", "-o", f"folder.path={tmp_path / 'shelf'}"]
    assert main(words) == code
    remark = "lan: answers only while wgdisco runs, so nobody finds this now"
    assert (remark in capsys.readouterr().err) is not more
