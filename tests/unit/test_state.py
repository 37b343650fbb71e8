"""What survives a restart: kill -9, a full or read-only disk, damaged files, two processes; nothing of it crashes."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import cannot_run
from tests.unit.records import ALICE, BOB, NET, NOW, W, candidate, here, record, sealed
from wgdisco.freshness import Mark, Marks
from wgdisco.keys import PrivateKey
from wgdisco.record import encode, sign
from wgdisco.state import Published, State, Written, folder_for
from wgdisco.state.tables import set_fact

KEY, PEER = ALICE.public, BOB.public
DAY = 86_400_000
ROOT = Path(__file__).parents[2]
STAMPER = [sys.executable, str(Path(__file__).parent / "stamper.py")]


@contextmanager
def opened(folder: Path):
    state = State.open(KEY, folder)
    try:
        yield state
    finally:
        state.close()


@pytest.fixture
def state(tmp_path):
    with opened(tmp_path) as one:
        yield one


def marks_of(*issued: int) -> Marks:
    return Marks(Mark(each, {b"n" * 16: each.to_bytes(32, "big")}) for each in issued)


def file_of(folder: Path) -> Path:
    return next(folder.glob("key-*.sqlite"))


def fill(state: State) -> None:
    """Something of everything."""
    state.stamp(NOW)
    state.keep_published(NET.network, b"statement", NOW, NOW + 1000)
    state.keep_blob(b"i" * 20, b"blob", NOW + 1000)
    state.wrote("folder", b"i" * 20, b"p" * 32, NOW + 1000)
    state.remember(PEER, marks_of(NOW))
    state.keep_good(ALICE.public, sealed(), here(), "folder", NOW)


def all_of(state: State) -> tuple:
    """Everything that `fill` put there, but for the stamp."""
    return (
        state.published(NET.network),
        state.latest_end(NET.network),
        state.blob(b"i" * 20),
        state.obsolete(NOW + DAY),
        state.marks(PEER),
        state.good(ALICE.public),
        state.instance(),
    )


# ---- what is remembered


def test_everything_is_there_after_a_restart(tmp_path) -> None:
    with opened(tmp_path) as state:
        fill(state)
        before = all_of(state)
    with opened(tmp_path) as state:
        assert all_of(state) == before
        assert state.stamp(NOW) == NOW + 1
        assert state.problems == []
    assert before[:5] == (
        Published(NOW, NOW + 1000, b"statement"),
        NOW + 1000,
        b"blob",
        [Written("folder", b"i" * 20, b"p" * 32, NOW + 1000)],
        marks_of(NOW),
    )


def test_a_new_state_knows_nothing(state) -> None:
    assert (state.published(b"n"), state.latest_end(b"n"), state.blob(b"i")) == (None, 0, None)
    assert (state.obsolete(NOW), state.marks(PEER), state.good(PEER)) == ([], Marks(), None)


def test_each_key_has_a_state_of_its_own(tmp_path) -> None:
    with opened(tmp_path) as state:
        fill(state)
    other = State.open(PEER, tmp_path)
    assert other.marks(PEER) == Marks()
    assert other.stamp(NOW) == NOW
    other.close()


def test_file_names_are_safe_for_every_key(tmp_path) -> None:
    """Keys whose base64 has slashes, pluses or a leading minus."""
    keys = [PrivateKey(number.to_bytes(32, "big")).public for number in range(60)]
    assert any("/" in str(key) for key in keys)
    for key in keys[:60:4]:
        State.open(key, tmp_path).close()
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 15
    assert all(
        name.removeprefix("key-").removesuffix(".sqlite").replace("-", "").replace("_", "").isalnum() for name in names
    )


def test_only_the_owner_can_read_it(tmp_path) -> None:
    before = os.umask(0)
    try:
        with opened(tmp_path / "below" / "state") as state:
            fill(state)
            folder = tmp_path / "below" / "state"
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    finally:
        os.umask(before)


def test_a_file_that_others_can_read_is_closed_to_them(tmp_path) -> None:
    State.open(KEY, tmp_path).close()
    file_of(tmp_path).chmod(0o644)
    State.open(KEY, tmp_path).close()
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600


def test_no_private_key_is_in_the_file(tmp_path) -> None:
    with opened(tmp_path) as state:
        fill(state)
        stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert ALICE._clamped not in stored
    assert ALICE._scalar not in stored


@pytest.mark.parametrize(
    ("environment", "user", "expected"),
    [
        ({}, 0, "/var/lib/wgdisco"),
        ({"STATE_DIRECTORY": "/var/lib/one:/var/lib/two", "XDG_STATE_HOME": "/x"}, 0, "/var/lib/one"),
        ({"STATE_DIRECTORY": "/var/lib/one"}, 1000, "/var/lib/one"),
        ({"XDG_STATE_HOME": "/x"}, 0, "/var/lib/wgdisco"),
        ({"XDG_STATE_HOME": "/x"}, 1000, "/x/wgdisco"),
        ({"XDG_STATE_HOME": "relative"}, 1000, "/home/nn/.local/state/wgdisco"),
        ({"XDG_STATE_HOME": ""}, 1000, "/home/nn/.local/state/wgdisco"),
        ({}, 1000, "/home/nn/.local/state/wgdisco"),
    ],
)
def test_folder(environment: dict, user: int, expected: str, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/nn")
    assert folder_for(environment, user) == Path(expected)


# ---- the publisher's half


def test_the_last_statement_counts_even_when_a_wrong_clock_made_a_newer_one(state) -> None:
    state.keep_published(NET.network, b"ahead", NOW + 1000 * DAY, NOW + 1001 * DAY)
    state.keep_published(NET.network, b"mended", NOW, NOW + 60_000)
    assert state.published(NET.network) == Published(NOW, NOW + 60_000, b"mended")


def test_latest_end_is_that_of_the_longest_record(state) -> None:
    for step, life in enumerate([DAY, 60_000, 3_600_000]):
        issued = state.stamp(NOW + step)
        state.keep_published(NET.network, b"", issued, issued + life)
        assert state.latest_end(NET.network) == NOW + DAY
    assert state.latest_end(b"other") == 0


def test_latest_end_leaves_out_what_a_clock_years_ahead_signed(state) -> None:
    """A thousand slots would be written otherwise, for each peer."""
    ahead = state.stamp(NOW + 1000 * DAY)
    state.keep_published(NET.network, b"", ahead, ahead + DAY)
    issued = state.stamp(NOW)
    state.keep_published(NET.network, b"", issued, issued + 60_000)
    assert state.latest_end(NET.network) == NOW + 60_000


def test_latest_end_remembers_the_present_over_a_clock_years_ahead(state) -> None:
    for now, life in [(NOW, DAY), (NOW + 1000 * DAY, DAY), (NOW + 5, 60_000)]:
        issued = state.stamp(now)
        state.keep_published(NET.network, b"", issued, issued + life)
    assert state.latest_end(NET.network) == NOW + DAY


@pytest.mark.parametrize("seed", range(6))
def test_latest_end_is_never_too_early_however_much_was_said(state, seed: int) -> None:
    """Hundreds of records of all lifetimes by clocks right and wrong, of which sixteen ends are kept."""
    chance, said, now = random.Random(seed), [], NOW
    with state.transaction():
        for _ in range(200):
            now += chance.choice([1000, 60_000, 1_200_000, DAY, -DAY, 300 * DAY, -300 * DAY])
            end = now + 1000 * chance.choice([60, 3600, 86400])
            said.append((now, end))
            state.keep_published(NET.network, b"", now, end)
            stamped = chance.choice(said)[0] + chance.choice([0, 0, 5000])
            state.database.write(lambda db, value=stamped: set_fact(db, "stamp", value))
            latest = max((until for issued, until in said if issued <= stamped), default=0)
            assert latest <= state.latest_end(NET.network) <= stamped + DAY
    rows = state.database.read(lambda db: db.execute("SELECT issued, until FROM ends ORDER BY issued").fetchall())
    assert 1 < len(rows) <= 16
    assert all(one < other for (_, one), (_, other) in pairwise(rows))


def test_blobs_that_have_ended_are_forgotten(state) -> None:
    state.keep_blob(b"old", b"1", NOW - 2 * DAY)
    state.keep_blob(b"now", b"2", NOW + DAY)
    state.stamp(NOW)
    assert (state.blob(b"old"), state.blob(b"now")) == (None, b"2")


def test_slots_are_obsolete_when_no_reader_accepts_their_record(state) -> None:
    state.wrote("etcd", b"i" * 20, b"p" * 32, NOW)
    assert state.obsolete(NOW + W) == []
    assert [(each.backend, each.text) for each in state.obsolete(NOW + W + 1)] == [
        ("etcd", "nfuws2ljnfuws2ljnfuws2ljnfuws2lj")
    ]


def test_a_slot_written_again_lasts_longer_never_shorter(state) -> None:
    for end in (NOW, NOW + DAY, NOW + 5):
        state.wrote("etcd", b"i" * 20, b"p" * 32, end)
    state.wrote("folder", b"i" * 20, b"p" * 32, NOW)
    assert [each.backend for each in state.obsolete(NOW + W + 10)] == ["folder"]


def test_forgetting_a_slot_spares_what_was_written_meanwhile(state) -> None:
    state.wrote("etcd", b"i" * 20, b"p" * 32, NOW)
    (written,) = state.obsolete(NOW + DAY)
    state.wrote("etcd", b"i" * 20, b"p" * 32, NOW + 5)
    state.forget(written)
    (again,) = state.obsolete(NOW + DAY)
    state.forget(again)
    assert state.obsolete(NOW + DAY) == []


def test_instances_differ_and_stay(tmp_path) -> None:
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        first = one.instance()
        assert len(first) == 8
        assert first != two.instance()
        assert one.instance() == first


def test_a_timestamp_is_synced_to_disk_before_it_is_given_out(state) -> None:
    """SQLite: synchronous FULL makes the commit wait for the disk; what readers remember need not wait."""
    done: list[str] = []
    state.database.read(lambda db: db.set_trace_callback(done.append))
    state.stamp(NOW)
    assert (done[0], done[1], done[-1]) == ("PRAGMA synchronous=FULL", "BEGIN IMMEDIATE", "COMMIT")
    done.clear()
    state.keep_blob(b"i", b"b", NOW)
    assert (done[0], done[1], done[-1]) == ("PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE", "COMMIT")


def test_no_timestamp_inside_a_transaction(state) -> None:
    with pytest.raises(ValueError, match="not be durable"), state.transaction():
        state.stamp(NOW)
    assert state.stamp(NOW) == NOW


# ---- the reader's half


def test_marks_of_two_processes_are_united(tmp_path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as two:
        ours, theirs = one.marks(PEER), two.marks(PEER)
        ours.add(NOW).digests[b"n"] = b"1"
        theirs.add(NOW).digests[b"n"] = b"2"
        theirs.add(NOW + 5).digests[b"n"] = b"3"
        two.remember(PEER, theirs)
        one.remember(PEER, ours)
        united = Marks([Mark(NOW, {b"n": b"2"}), Mark(NOW + 5, {b"n": b"3"})])
        assert one.marks(PEER) == two.marks(PEER) == united


def test_marks_are_a_copy(state) -> None:
    state.remember(PEER, marks_of(NOW))
    state.marks(PEER).add(NOW + 1)
    assert state.marks(PEER) == marks_of(NOW)


def test_remembering_nothing_new_writes_nothing(state) -> None:
    state.remember(PEER, marks_of(NOW))
    changes = state.database.read(lambda db: db.total_changes)
    state.remember(PEER, state.marks(PEER))
    assert state.database.read(lambda db: db.total_changes) == changes


def test_the_last_good_record_is_given_back_decoded(state) -> None:
    said = record(candidates=(candidate("198.51.100.7:7"),), hints={"checks": True})
    blob = sealed(said)
    state.keep_good(ALICE.public, blob, here(), "etcd", NOW + 3)
    good = state.good(ALICE.public)
    assert good is not None
    assert (good.record, good.blob, good.network, good.period) == (said, blob, NET.network, here().period)
    assert (good.backend, good.seen) == ("etcd", NOW + 3)


def test_a_good_record_that_was_tampered_with_on_disk_is_none(state) -> None:
    state.keep_good(ALICE.public, sealed(), here(), "etcd", NOW)
    forged = sign(encode(record(NOW + 1)), BOB)
    state.database.write(lambda db: db.execute("UPDATE good SET statement = ?", (forged,)))
    assert state.good(ALICE.public) is None


# ---- transactions


def test_a_transaction_is_one_commit_and_all_or_nothing(tmp_path) -> None:
    with opened(tmp_path) as state, opened(tmp_path) as other:
        with state.transaction():
            state.keep_blob(b"1", b"1", NOW)
            with state.transaction():
                state.keep_blob(b"2", b"2", NOW)
            assert (state.blob(b"2"), other.blob(b"1")) == (b"2", None)
        assert (other.blob(b"1"), other.blob(b"2")) == (b"1", b"2")
        with pytest.raises(KeyError), state.transaction():
            state.keep_blob(b"3", b"3", NOW)
            raise KeyError
        assert (state.blob(b"3"), other.blob(b"3")) == (None, None)


def test_ten_thousand_peers_in_one_transaction(tmp_path) -> None:
    peers = [PrivateKey(number.to_bytes(32, "big")).public for number in range(1000)] * 10
    with opened(tmp_path) as state:
        with state.transaction():
            for number, peer in enumerate(peers):
                state.remember(peer, marks_of(NOW + number // 1000))
        assert all(state.marks(peer).last(NOW + W).issued == NOW + 9 for peer in peers[:1000])


# ---- kill -9


def stamps(output: str) -> list[int]:
    """The numbers a stamper printed; its last line may be cut."""
    return [int(line) for line in output.split("\n")[:-1] if line.isdigit()]


def test_kill_at_any_moment_never_repeats_a_timestamp(tmp_path) -> None:
    """The clock stands still, so that only what is on disk keeps them apart."""
    moments, given = random.Random(3), []
    for _ in range(12):
        process = subprocess.Popen([*STAMPER, str(tmp_path), str(NOW)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.random() * 0.03)
        process.kill()
        given += stamps(process.communicate()[0])
    assert len(given) > 12
    assert given == sorted(set(given))
    with opened(tmp_path) as state:
        assert state.stamp(NOW) > given[-1]
        assert state.problems == []


def test_kill_while_the_file_is_being_made(tmp_path) -> None:
    moments = random.Random(4)
    for number in range(10):
        process = subprocess.Popen([*STAMPER, str(tmp_path / str(number)), str(NOW), "1"], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 5
        while not (tmp_path / str(number)).exists() and time.monotonic() < until:
            pass
        time.sleep(moments.random() * 0.004)
        process.kill()
        process.wait()
        with opened(tmp_path / str(number)) as state:
            assert state.stamp(NOW) >= NOW
            assert state.problems == []


def test_a_commit_that_was_begun_is_not_seen_after_a_kill(tmp_path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from wgdisco.state import State; from tests.unit.records import ALICE\n"
        "state = State.open(ALICE.public, Path(sys.argv[1]))\n"
        "state.keep_blob(b'1', b'1', 1)\n"
        "with state.transaction():\n"
        "    state.keep_blob(b'2', b'2', 1)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
    with opened(tmp_path) as state:
        assert (state.blob(b"1"), state.blob(b"2")) == (b"1", None)


# ---- two processes


def test_two_processes_never_get_the_same_timestamp(tmp_path) -> None:
    """A publish from cron beside the agent; both make the file, too."""
    command = [*STAMPER, str(tmp_path), str(NOW), "200"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    given = [stamps(output) for output in outputs]
    assert [len(each) for each in given] == [200, 200]
    assert sorted(given[0] + given[1]) == list(range(NOW, NOW + 400))
    assert [each == sorted(each) for each in given] == [True, True]
    assert [output.split("\n")[-2] for output in outputs] == ["", ""]


def test_two_states_in_one_process_never_give_the_same_timestamp(tmp_path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as two:
        assert [state.stamp(NOW) for _ in range(20) for state in (one, two)] == list(range(NOW, NOW + 40))


def test_a_process_that_holds_the_lock_for_ever_does_not_stop_us(tmp_path, monkeypatch) -> None:
    from wgdisco.state import database

    monkeypatch.setattr(database, "BUSY", 0.05)
    with opened(tmp_path) as state:
        fill(state)
        holder = sqlite3.connect(file_of(tmp_path), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        assert state.stamp(NOW) == NOW + 1
        assert "database is locked; floors not persistent" in state.problems[0]
        holder.execute("ROLLBACK")
        holder.close()
        assert state.stamp(NOW) == NOW + 2
        assert state.problems == []
    with opened(tmp_path) as state:
        assert state.stamp(NOW) == NOW + 3


# ---- a full disk


def test_a_full_file_goes_on_in_memory_and_returns(tmp_path) -> None:
    with opened(tmp_path) as state:
        fill(state)
        before = all_of(state)
        limit(state, 0)
        with state.transaction():
            state.keep_blob(b"1", b"small", NOW)
            state.keep_blob(b"2", bytes(100_000), NOW)
            state.keep_blob(b"3", b"after", NOW)
        assert "database or disk is full; floors not persistent" in state.problems[0]
        assert [state.blob(each) for each in (b"1", b"2", b"3")] == [b"small", bytes(100_000), b"after"]
        assert all_of(state) == before
        assert state.stamp(NOW) == NOW + 1  # here it finds that the file can be written again
        assert state.problems == []
    with opened(tmp_path) as state:
        assert all_of(state) == before
        assert (state.blob(b"3"), state.stamp(NOW)) == (b"after", NOW + 2)


def limit(state: State, more: int) -> None:
    """Let the database grow by so many pages only."""
    state.database.read(
        lambda db: db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0] + more}")
    )


def test_what_was_in_memory_is_written_at_the_end(tmp_path) -> None:
    with opened(tmp_path) as state:
        limit(state, 0)
        state.keep_blob(b"2", bytes(100_000), NOW)
        state.remember(PEER, marks_of(NOW))
        assert len(state.problems) == 1
    with opened(tmp_path) as state:
        assert (state.blob(b"2"), state.marks(PEER)) == (bytes(100_000), marks_of(NOW))


def test_return_unites_with_what_another_process_did_meanwhile(tmp_path) -> None:
    with opened(tmp_path) as state, opened(tmp_path) as other:
        limit(state, 0)
        state.keep_blob(b"2", bytes(100_000), NOW)
        state.remember(PEER, marks_of(NOW))
        other.remember(PEER, marks_of(NOW + 1))
        assert [other.stamp(NOW), state.stamp(NOW)] == [NOW, NOW + 1]
        assert state.marks(PEER) == other.marks(PEER) == marks_of(NOW, NOW + 1)


ON_SMALL_DISK = """
import sys
from pathlib import Path
from wgdisco.state import State
from tests.unit.records import ALICE, NOW
folder = Path(sys.argv[1])
state = State.open(ALICE.public, folder)
given = [state.stamp(NOW) for _ in range(3)]
try:
    (folder / "filler").write_bytes(bytes(1 << 23))
except OSError:
    pass
given += [state.stamp(NOW) for _ in range(100)]
for number in range(300):
    state.keep_blob(number.to_bytes(20, "big"), bytes(600), NOW)
kept = [state.blob(number.to_bytes(20, "big")) for number in range(300)]
said = list(state.problems)
(folder / "filler").unlink()
given += [state.stamp(NOW) for _ in range(3)]
assert given == list(range(NOW, NOW + 106)), given
assert kept == [bytes(600)] * 300
assert len(said) == 1 and "floors not persistent" in said[0], said
assert state.problems == [], state.problems
state.close()
state = State.open(ALICE.public, folder)
assert state.stamp(NOW) == NOW + 106
assert state.blob(bytes(20)) == bytes(600)
print("fine")
"""


def run_on_tmpfs(script: str, folder: Path, options: str) -> str:
    """Run a script on a small file system of its own, in a mount namespace (as root, or as root of a user namespace)."""
    folder.mkdir()
    shell = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        cannot_run("no mount namespace can be made here (neither root nor user namespaces)")
    command = [*unshare, "sh", "-c", shell, str(folder), sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize("size", ["1m", "4m"])
def test_a_really_full_disk(tmp_path, size: str) -> None:
    """Sooner or later: timestamps go on, nothing said is lost, and it returns when there is room."""
    assert run_on_tmpfs(ON_SMALL_DISK, tmp_path / "small", f"size={size}") == "fine\n"


def test_no_room_even_for_the_file(tmp_path) -> None:
    script = (
        "import sys; from pathlib import Path; from wgdisco.state import State\n"
        "from tests.unit.records import ALICE, NOW\n"
        "state = State.open(ALICE.public, Path(sys.argv[1]))\n"
        "print([state.stamp(NOW) - NOW for _ in range(3)], len(state.problems), 'not persistent' in state.problems[0])\n"
    )
    assert run_on_tmpfs(script, tmp_path / "none", "nr_inodes=1") == "[0, 1, 2] 1 True\n"


def test_a_limit_on_file_sizes(tmp_path) -> None:
    """RLIMIT_FSIZE fails a write with EFBIG in the midst of a commit."""
    script = (
        "import resource, sys; from pathlib import Path; from wgdisco.state import State\n"
        "from tests.unit.records import ALICE, NOW\n"
        "state = State.open(ALICE.public, Path(sys.argv[1]))\n"
        "first = state.stamp(NOW)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, -1))\n"
        "given = [state.stamp(NOW) for _ in range(60)]\n"
        "assert state.problems and given == list(range(NOW + 1, NOW + 61)), (given, state.problems)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "assert state.stamp(NOW) == NOW + 61 and state.problems == []\n"
        "state.close()\n"
        "print('fine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == "fine\n"
    with opened(tmp_path) as state:
        assert state.stamp(NOW) == NOW + 62


# ---- a disk that cannot be written at all


def test_a_read_only_disk_is_read(tmp_path) -> None:
    """Floors hold, timestamps go on in memory."""
    script = (
        "import subprocess, sys; from pathlib import Path; from wgdisco.state import State\n"
        "from tests.unit.records import ALICE, BOB, NOW\n"
        "from tests.unit.test_state import all_of, fill\n"
        "folder = Path(sys.argv[1])\n"
        "state = State.open(ALICE.public, folder); fill(state); before = all_of(state); state.close()\n"
        "subprocess.run(['mount', '-o', 'remount,ro', str(folder)], check=True)\n"
        "state = State.open(ALICE.public, folder)\n"
        "assert all_of(state) == before, all_of(state)\n"
        "assert [state.stamp(NOW), state.stamp(NOW)] == [NOW + 1, NOW + 2]\n"
        "assert len(state.problems) == 1 and 'floors not persistent' in state.problems[0], state.problems\n"
        "subprocess.run(['mount', '-o', 'remount,rw', str(folder)], check=True)\n"
        "assert state.stamp(NOW) == NOW + 3 and state.problems == []\n"
        "print('fine')\n"
    )
    assert run_on_tmpfs(script, tmp_path / "disk", "size=1m") == "fine\n"


def test_a_disk_that_becomes_read_only_under_way(tmp_path) -> None:
    script = (
        "import subprocess, sys; from pathlib import Path; from wgdisco.state import State\n"
        "from tests.unit.records import ALICE, NOW\n"
        "from tests.unit.test_state import all_of, fill\n"
        "folder = Path(sys.argv[1])\n"
        "state = State.open(ALICE.public, folder); fill(state); before = all_of(state); state.close()\n"
        "state = State.open(ALICE.public, folder); state.marks(ALICE.public)\n"
        "subprocess.run(['mount', '-o', 'bind', str(folder), str(folder)], check=True)\n"
        "subprocess.run(['mount', '-o', 'remount,bind,ro', str(folder)], check=True)\n"
        "assert all_of(state) == before\n"
        "state.close()\n"
        "state = State.open(ALICE.public, folder)\n"
        "assert all_of(state) == before\n"
        "assert [state.stamp(NOW), state.stamp(NOW)] == [NOW + 1, NOW + 2] and len(state.problems) == 1\n"
        "print('fine')\n"
    )
    assert run_on_tmpfs(script, tmp_path / "disk", "size=1m") == "fine\n"


@pytest.mark.parametrize(
    "made", ["a file where the folder should be", "a folder where the file should be", "a loop of links"]
)
def test_a_folder_that_cannot_be_used(tmp_path, made: str) -> None:
    folder = tmp_path / "state"
    if made.startswith("a file"):
        folder.write_text("")
    elif made.startswith("a loop"):
        folder.symlink_to(folder)
    else:
        State.open(KEY, folder).close()
        path = file_of(folder)
        path.unlink()
        path.mkdir()
    with opened(folder) as state:
        fill(state)
        assert state.stamp(NOW) == NOW + 1
        assert len(state.problems) == 1
        assert f"cannot write the state file {str(folder)!r}"[:-1] in state.problems[0]
        assert "floors not persistent" in state.problems[0]


def test_an_account_without_a_home_has_no_folder(monkeypatch) -> None:
    """Then it works from memory, and says so."""
    monkeypatch.setattr(Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("no home")))
    assert folder_for({}, 1000) == Path("/nonexistent/wgdisco")


# ---- damaged files


def damaged_by(change, folder: Path) -> State:
    """The state after its file was changed."""
    with opened(folder) as state:
        for number in range(200):
            state.remember(PrivateKey(number.to_bytes(32, "big")).public, marks_of(*range(NOW, NOW + 50)))
        fill(state)
    change(file_of(folder))
    return State.open(KEY, folder)


def at(start: int, data: bytes):
    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(data)

    return change


def cut(size: int):
    return lambda path: os.truncate(path, size)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE marks (a, b, c)")
    db.close()


def later(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()


DAMAGE = {
    "text": lambda path: path.write_text("[Interface]\n" * 1000),
    "the header": at(0, b"not a database"),
    "the page size": at(16, b"\xff\xff"),
    "the schema": at(100, b"\xff" * 3000),
    "cut to 50 bytes": cut(50),
    "cut to 511 bytes": cut(511),
    "cut to a page": cut(4096),
    "cut within a page": cut(10_000),
    "cut in the middle": cut(200_000),
    "another program's database": foreign,
    "a later version": later,
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_file_is_moved_aside_and_said(tmp_path, change) -> None:
    state = damaged_by(change, tmp_path)
    fill(state)
    assert state.stamp(NOW) == NOW + 1
    (problem,) = state.problems
    assert f"the state file {str(file_of(tmp_path))!r} could not be used" in problem
    (aside,) = tmp_path.glob("*.bad-*Z")
    assert f"moved to {str(aside)!r}" in problem
    state.close()
    with opened(tmp_path) as again:
        assert again.stamp(NOW) == NOW + 2
        assert again.problems == []


def test_damage_in_the_middle_is_noticed_when_it_is_read(tmp_path) -> None:
    """Whatever page is overwritten: no crash, and it goes on, either undisturbed or anew."""
    pages = set()
    for number in range(0, 60, 7):
        folder = tmp_path / str(number)
        state = damaged_by(at(4096 * (number + 1), os.urandom(4096)), folder)
        for peer in range(0, 200, 3):
            state.marks(PrivateKey(peer.to_bytes(32, "big")).public)
            state.remember(PrivateKey(peer.to_bytes(32, "big")).public, marks_of(NOW + 100))
        fill(state)
        all_of(state)
        assert state.stamp(NOW) >= NOW
        pages.add(len(list(folder.glob("*.bad-*Z"))) == bool(state.problems))
        state.close()
    assert pages == {True}


def test_damage_under_way_does_not_interrupt_a_transaction(tmp_path) -> None:
    with opened(tmp_path) as state:
        with state.transaction():
            state.keep_blob(b"1", b"1", NOW)
            state.database.write(lambda db: db.execute("DROP TABLE IF EXISTS marks") if aside(tmp_path) == 0 else None)
            state.remember(PEER, marks_of(NOW))
            state.keep_blob(b"2", b"2", NOW)
        assert (state.blob(b"1"), state.blob(b"2"), state.marks(PEER)) == (b"1", b"2", marks_of(NOW))
        assert aside(tmp_path) == 1


def aside(folder: Path) -> int:
    return len(list(folder.glob("*.bad-*Z")))


def test_a_damaged_row_is_damage(tmp_path) -> None:
    with opened(tmp_path) as state:
        state.remember(PEER, marks_of(NOW))
        state.database.write(lambda db: db.execute("UPDATE marks SET marks = x'c1'"))
        assert state.marks(PEER) == Marks()
        assert "marks cannot be decoded" in state.problems[0]


@pytest.mark.parametrize("size", [0, 1])
def test_an_empty_file_is_said(tmp_path, size: int) -> None:
    State.open(KEY, tmp_path).close()
    path = file_of(tmp_path)
    os.truncate(path, size)
    os.utime(path, (1, 1))
    with opened(tmp_path) as state:
        assert state.problems == [f"the state file {str(path)!r} was empty; what was remembered is lost"]
        assert state.stamp(NOW) == NOW
    with opened(tmp_path) as state:
        assert state.problems == []


def test_a_damaged_file_that_cannot_be_moved_leaves_us_in_memory(tmp_path) -> None:
    script = (
        "import subprocess, sys; from pathlib import Path; from wgdisco.state import State\n"
        "from tests.unit.records import ALICE, NOW\n"
        "folder = Path(sys.argv[1])\n"
        "state = State.open(ALICE.public, folder); path = state.database.path; state.close()\n"
        "path.write_bytes(path.read_bytes()[:100] + bytes(9000))\n"
        "subprocess.run(['mount', '-o', 'remount,ro', str(folder)], check=True)\n"
        "state = State.open(ALICE.public, folder)\n"
        "print([state.stamp(NOW) - NOW for _ in range(2)], len(state.problems), 'not persistent' in state.problems[0])\n"
    )
    assert run_on_tmpfs(script, tmp_path / "disk", "size=1m") == "[0, 1] 1 True\n"


@pytest.mark.parametrize("change", [foreign, later, cut(20_000)], ids=["foreign", "later", "cut"])
def test_a_file_of_no_use_on_a_read_only_disk_leaves_us_in_memory(tmp_path, change, monkeypatch) -> None:
    """It can neither be moved aside nor be used where it is."""

    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("wgdisco.state.database.move_aside", refuse)
    state = damaged_by(change, tmp_path)
    fill(state)
    assert state.stamp(NOW) == NOW + 1
    assert len(state.problems) == 1
    assert "Read-only file system; floors not persistent" in state.problems[0]
    state.close()


@pytest.mark.parametrize("how", ["removed", "moved away", "its folder removed", "replaced by an older copy"])
def test_a_file_that_disappears_under_way_is_made_again_with_all_that_is_known(tmp_path, how: str) -> None:
    folder = tmp_path / "state"
    with opened(folder) as state:
        fill(state)
        before, path = all_of(state), state.database.path
        if how == "moved away":
            path.rename(tmp_path / "away")
        elif how == "its folder removed":
            subprocess.run(["rm", "-r", folder], check=True)
        else:
            path.unlink()
            if how.startswith("replaced"):
                State.open(KEY, folder).close()
        assert state.stamp(NOW) == NOW + 1
        assert state.problems == []
    with opened(folder) as state:
        assert all_of(state) == before
        assert state.stamp(NOW) == NOW + 2


def test_it_leaks_no_file_descriptor(tmp_path) -> None:
    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = held()
    for number in range(5):
        state = damaged_by(DAMAGE["text"], tmp_path / str(number))
        limit(state, 0)
        state.keep_blob(b"2", bytes(100_000), NOW)
        state.stamp(NOW)
        state.close()
    assert held() == before


def test_no_file_descriptor_left_works_from_memory(tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        state = State.open(KEY, tmp_path)
        given = state.stamp(NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert given == NOW
    assert "floors not persistent" in state.problems[0]
    assert state.stamp(NOW) == NOW + 1
    assert state.problems == []
    state.close()


def test_what_root_makes_in_an_accounts_folder_belongs_to_that_account(tmp_path: Path) -> None:
    """The agent has an account of its own (contrib/systemd) and shares its folder with the commands that root types."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    folder = tmp_path / "wgdisco"
    folder.mkdir(mode=0o700)
    os.chown(folder, 61184, 61185)
    with opened(folder) as state:
        fill(state)
        assert {(each.stat().st_uid, each.stat().st_gid) for each in folder.iterdir()} == {(61184, 61185)}
        assert state.problems == []
