"""What every backend has to do, as tests that a plugin author subclasses; plain pytest is enough.

```python
import pytest
from wgdisco.testing import BackendContract

class TestWebDAV(BackendContract):
    @pytest.fixture(autouse=True)
    def server(self, my_server):            # a server of the author's own fixtures
        self.control = my_server            # optional: with freeze(), thaw(), kill(), restart(), or some of them

    def backend(self):                      # unopened; every call gives another instance for the same store
        return WebDAV(url=self.control.url)
```

`deadline` and `impatience` can be set beside them for a slow store. What a store or its control cannot do is skipped
with the reason. Install it with: pip install 'wgdisco[testing]'
"""

from __future__ import annotations

from wgdisco.testing.news import News
from wgdisco.testing.trouble import Trouble
from wgdisco.testing.values import Values

__all__ = ["BackendContract"]


class BackendContract(Values, News, Trouble):
    """Subclass it as `Test…` and define `backend()`; `control` unlocks the tests of a frozen and a killed server."""
