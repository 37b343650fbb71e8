"""What plugin authors use: the contract every backend keeps, slots to test with, and a store that lies."""

from __future__ import annotations

import pytest

# before they are imported, so that a failed assert shows its values outside our own tests too
pytest.register_assert_rewrite("wgdisco.testing.base", "wgdisco.testing.values", "wgdisco.testing.news")

from wgdisco.testing.base import Control  # noqa: E402 - see above
from wgdisco.testing.contract import BackendContract  # noqa: E402
from wgdisco.testing.liar import LIES, Liar  # noqa: E402
from wgdisco.testing.slots import Author  # noqa: E402

__all__ = ["LIES", "Author", "BackendContract", "Control", "Liar"]
