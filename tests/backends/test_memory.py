"""The memory backend keeps the contract."""

from __future__ import annotations

from uuid import uuid4

import pytest

from wgdisco.backends.memory import Memory
from wgdisco.testing import BackendContract


class TestMemory(BackendContract):
    @pytest.fixture(autouse=True)
    def room(self) -> None:
        self.name = uuid4().hex

    def backend(self) -> Memory:
        return Memory(room=self.name)
