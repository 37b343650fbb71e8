"""Make the secret of a network: 32 random bytes in base64. Whoever holds it can read the records of the members."""

from __future__ import annotations

import argparse
import os
import sys
from base64 import b64encode

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no options."""
    parser.epilog = "Example:  umask 077; wgdisco genkey > /etc/wgdisco/network.key"


def run(_: argparse.Namespace) -> int:
    """Print the secret."""
    if sys.stdout.isatty():
        print("# keep this in a file of mode 0600: umask 077; wgdisco genkey > network.key", file=sys.stderr)
    print(b64encode(os.urandom(32)).decode())
    return 0
