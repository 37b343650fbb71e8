"""`python -m wgdisco`."""

from __future__ import annotations

from wgdisco.cli.main import entry

__all__: list[str] = []

if __name__ == "__main__":
    entry()
