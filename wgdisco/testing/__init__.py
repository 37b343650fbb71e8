"""What plugin authors use: the contract every backend keeps, slots to test with, and a store that lies."""

from __future__ import annotations

from wgdisco.testing.base import Control
from wgdisco.testing.contract import BackendContract
from wgdisco.testing.liar import Liar
from wgdisco.testing.slots import Author

__all__ = ["Author", "BackendContract", "Control", "Liar"]
