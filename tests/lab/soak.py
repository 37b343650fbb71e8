"""Two pairs of agents and random faults, one after the other; after each the tunnel has to be mended by itself.

`python -m tests.lab.soak [SECONDS [SEED]]` (default: 3600 and a new seed, which is printed), or `make soak SECONDS=300`.
After every fault: the tunnel carries pings again within 60 s, both agents live, nothing they said is a bug, and in the
end neither their memory nor their descriptors have grown. One line a fault; exit code 1 when something was not so.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.lab.duo import Duo
from tests.lab.faults import (
    RedisServer,
    bring_back,
    home,
    redis,
    run_both,
    take_away,
    tracebacks,
    until_connected,
    usage,
)
from tests.lab.lab import Lab
from tests.lab.space import LabError, LabUnavailable

__all__ = ["main"]

MENDED = 60.0  # seconds for a tunnel to carry pings again
SITES = (("masq", "masq"), ("sym", "fullcone"))
GROWTH = 1.25, 12_000  # memory may become so many times what it was after the warm-up, and so many kB more
DESCRIPTORS = 8  # so many more may be open
WARM = 6  # faults after which memory and descriptors are first looked at


class Pair:
    """Two agents with two stores; a fault is a method, and takes the side it happens to."""

    def __init__(
        self, lab: Lab, folder: Path, sites: tuple[str, str], server: RedisServer, dice: random.Random
    ) -> None:
        (folder / "store").mkdir(parents=True)
        store = ["-b", "folder", "-o", f"folder.path={folder / 'store'}", *server.options]
        self.duo = Duo(lab, folder, *sites, store=store)
        self.server, self.dice, self.folder = server, dice, folder
        self.first: dict[int, tuple[int, int]] = {}
        run_both(self.duo)

    def pause(self, most: float = 8.0) -> None:
        """Some time."""
        time.sleep(self.dice.uniform(0.2, most))

    def interface_goes(self, side: int) -> None:
        """The interface is taken away and comes back with its key."""
        take_away(self.duo, side, self.dice.choice([signal.SIGTERM, signal.SIGKILL]))
        self.pause()
        bring_back(self.duo, side)

    def port_changes(self, side: int) -> None:
        """Another listen port."""
        self.duo.tunnels[side].set(f"listen_port={self.dice.randrange(20000, 60000)}")

    def peer_goes(self, side: int) -> None:
        """The peer is removed and added again."""
        other, address = self.duo.tunnels[1 - side].public, ("10.9.0.1/32", "10.9.0.2/32")[1 - side]
        self.duo.tunnels[side].remove(other)
        self.pause()
        self.duo.tunnels[side].peer(other, address)

    def host_moves(self, side: int) -> None:
        """Another address in the same home."""
        self.duo.hosts[side].readdress()
        # the lab's cone looks inner addresses up by the inner port, and the old address still holds the outer one
        if home(self.duo, side).profile == "fullcone":
            home(self.duo, side).reboot()

    def router_moves(self, side: int) -> None:
        """Another outer address, which nobody tells the host."""
        home(self.duo, side).readdress()

    def router_reboots(self, side: int) -> None:
        """All mappings are forgotten."""
        home(self.duo, side).reboot()

    def line_is_cut(self, side: int) -> None:
        """Nothing passes for a while."""
        cable = home(self.duo, side).cable
        cable.lose(100)
        self.pause(20.0)
        cable.lose(0)

    def agent_ends(self, side: int) -> None:
        """Stopped or killed, and started again."""
        self.duo.stop(side, self.dice.choice([signal.SIGTERM, signal.SIGKILL]))
        self.first.pop(side, None)
        self.pause()
        self.duo.run(side)

    def agent_sleeps(self, side: int) -> None:
        """Held, as by a suspended host."""
        self.duo.agents[side].send_signal(signal.SIGSTOP)
        self.pause(12.0)
        self.duo.agents[side].send_signal(signal.SIGCONT)

    def reload(self, side: int) -> None:
        """SIGHUP."""
        self.duo.agents[side].send_signal(signal.SIGHUP)

    def store_freezes(self, side: int) -> None:
        """Redis takes connections and does not answer; meanwhile something moves."""
        self.server.freeze()
        self.host_moves(side)
        self.pause()
        self.server.thaw()

    def store_dies(self, side: int) -> None:
        """Redis dies and comes back without its memory; meanwhile something moves."""
        self.server.kill()
        self.host_moves(side)
        self.pause()
        self.server.start()

    def stores_die(self, side: int) -> None:
        """Both stores are gone for a while."""
        self.server.kill()
        away = self.folder / "away"
        (self.folder / "store").rename(away)
        self.host_moves(side)
        self.pause()
        away.rename(self.folder / "store")
        self.server.start()

    def faults(self) -> Mapping[str, Callable[[int], None]]:
        """All of them by name."""
        names = (
            *("interface_goes", "port_changes", "peer_goes", "host_moves", "router_moves", "router_reboots"),
            *("line_is_cut", "agent_ends", "agent_sleeps", "reload", "store_freezes", "store_dies", "stores_die"),
        )
        return {name: getattr(self, name) for name in names}

    def check(self) -> float:
        """Seconds until the tunnel carries pings; raises LabError or AssertionError when something is not as it should."""
        start = time.time()
        took = self.duo.connected(MENDED) - start
        for side, agent in self.duo.agents.items():
            assert agent.poll() is None, f"the agent of {self.duo.hosts[side].name} has ended with {agent.poll()}"
        assert tracebacks(self.duo) == []
        return took

    def weigh(self) -> None:
        """Memory and descriptors of both agents against the first time; raises AssertionError when they have grown."""
        for side, agent in self.duo.agents.items():
            memory, descriptors = usage(agent.inner)
            before = self.first.setdefault(side, (memory, descriptors))
            name = self.duo.hosts[side].name
            print(
                f"  {name}: {memory} kB (first {before[0]}), {descriptors} descriptors (first {before[1]})", flush=True
            )
            assert memory < GROWTH[0] * before[0] + GROWTH[1], f"{name} has grown"
            assert descriptors <= before[1] + DESCRIPTORS, f"{name} leaves descriptors open"


def soak(seconds: float, seed: int) -> int:
    """Break and check for `seconds`; how many faults that were."""
    dice, end, count = random.Random(seed), time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as folder, redis() as server:
        labs = [Lab() for _ in SITES]
        try:
            pairs = [
                Pair(lab, Path(folder, str(number)), sites, server, dice)
                for number, (lab, sites) in enumerate(zip(labs, SITES, strict=True))
            ]
            try:
                for pair in pairs:
                    until_connected(pair.duo, MENDED)
                while time.monotonic() < end:
                    fault(dice.choice(pairs), pairs, dice, count)
                    count += 1
                    if count % WARM == 0:
                        for pair in pairs:
                            pair.weigh()
            except BaseException:
                for pair in pairs:
                    print(pair.duo.words())
                raise
        finally:
            for lab in labs:
                lab.close()
    return count


def fault(pair: Pair, pairs: list[Pair], dice: random.Random, count: int) -> None:
    """Let one thing go wrong at one side, and see everything mended."""
    name, side, number = dice.choice(sorted(pair.faults())), dice.randrange(2), pairs.index(pair)
    start = time.monotonic()
    print(f"{count}: {'-'.join(SITES[number])}, {pair.duo.hosts[side].name}: {name}", end="", flush=True)
    pair.faults()[name](side)
    broken, took = time.monotonic() - start, [each.check() for each in (pair, *pairs)]
    print(f" (took {broken:.1f} s): pings {took[0]:.1f} s later", flush=True)


def main(*words: str) -> int:
    """Run it; 0 when all went well."""
    seconds = float(words[0]) if words else 3600.0
    seed = int(words[1]) if len(words) > 1 else random.SystemRandom().randrange(10**6)
    print(f"soak: {seconds:.0f} s, seed {seed}", flush=True)
    try:
        count = soak(seconds, seed)
    except LabUnavailable as reason:
        print(f"no lab here: {reason}")
        return 1
    except (LabError, AssertionError) as error:
        print(f"\nsoak: failed with seed {seed}: {error}")
        return 1
    print(f"soak: {count} faults, everything was mended (seed {seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
