"""Make the secret of a network: 32 random bytes in base64. Whoever holds it can read the records of the members."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from base64 import b64encode
from contextlib import suppress

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no options."""
    parser.epilog = "Example:  umask 077; wgdisco genkey > /etc/wgdisco/network.key"


def run(_: argparse.Namespace) -> int:
    """Print the secret."""
    if sys.stdout.isatty():
        print("# keep this in a file of mode 0600: umask 077; wgdisco genkey > network.key", file=sys.stderr)
    elif mode := _open_to_others():
        print(f"wgdisco: others can read this file (mode {mode:04o}); chmod 600 it", file=sys.stderr)
    print(b64encode(os.urandom(32)).decode())
    return 0


def _open_to_others() -> int:
    """The mode of the file we write into when others can read it, else 0."""
    with suppress(OSError, ValueError):  # no file at all
        mode = os.fstat(sys.stdout.fileno()).st_mode
        return stat.S_IMODE(mode) if stat.S_ISREG(mode) and mode & 0o077 else 0
    return 0
