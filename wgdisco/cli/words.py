"""The options that several commands share: who we are, which stores, who may read, where we are."""

from __future__ import annotations

import argparse

__all__ = ["add_audience", "add_backends", "add_identity", "add_secret", "add_whereabouts", "seconds"]


def seconds(text: str) -> float:
    """A positive number of seconds on the command line."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds from above 0 to 86400")
    return number


def add_identity(parser: argparse.ArgumentParser, *, key_file: bool = True) -> None:
    """Who we are; not `key_file` for a command that works on an interface alone."""
    parser.set_defaults(key_file=key_file)
    group = parser.add_argument_group("who we are")
    group.add_argument("-i", "--interface", metavar="NAME", help="the WireGuard interface (default: the only one)")
    group.add_argument(
        "--private-key-file",
        metavar="FILE",
        help="a private key in a file of mode 0600, for a host without interface" if key_file else argparse.SUPPRESS,
    )
    group.add_argument("--config", metavar="FILE", help="default: /etc/wgdisco/INTERFACE.toml, if it exists")


def add_backends(parser: argparse.ArgumentParser) -> None:
    """Which stores."""
    group = parser.add_argument_group("stores")
    group.add_argument(
        "-b",
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="may be given several times (default: dht, and lan where its library is installed)",
    )
    group.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the backend; NAME.KEY=VALUE when there are several",
    )
    group.add_argument(
        "--deadline",
        type=seconds,
        metavar="SECONDS",
        help="for each call (default: the store's own, mostly 5)",
    )


def add_audience(parser: argparse.ArgumentParser) -> None:
    """Who may read."""
    group = parser.add_argument_group("who may read")
    group.add_argument(
        "--to",
        choices=("peers", "network", "key"),
        help="each peer of the interface (default), whoever has the network secret, or whoever knows our public key",
    )
    add_secret(parser)


def add_secret(parser: argparse.ArgumentParser) -> None:
    """The secret of a network."""
    parser.add_argument("--secret-file", metavar="FILE", help="a network secret as `wgdisco genkey` prints it")


def add_whereabouts(parser: argparse.ArgumentParser) -> None:
    """Where we are."""
    group = parser.add_argument_group("where we are")
    group.add_argument(
        "-e", "--endpoint", action="append", default=[], metavar="ADDRESS:PORT", help="say this instead of finding out"
    )
    group.add_argument(
        "--stun", action="append", default=[], metavar="HOST:PORT", help="STUN servers to ask instead; `none` asks none"
    )
    group.add_argument(
        "--observer",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)",
    )
    group.add_argument("--portmap", action="store_true", help="ask the router to forward our port (PCP, NAT-PMP, UPnP)")
    group.add_argument(
        "--expose-hosts", action="store_true", help="with --to key: also the addresses inside our own network"
    )
