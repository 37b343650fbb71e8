"""What every backend has to do, as tests that a plugin author subclasses; plain pytest is enough.

```python
from wgdisco.testing import BackendContract

class TestWebDAV(BackendContract):
    def backend(self):                      # unopened; every call gives another instance for the same store
        return WebDAV(url="http://127.0.0.1:8080/records")

    @pytest.fixture(autouse=True)
    def server(self, my_server):            # optional: something with freeze(), thaw(), kill() and restart()
        self.control = my_server
```
"""

from __future__ import annotations

from wgdisco.testing.news import News
from wgdisco.testing.trouble import Trouble
from wgdisco.testing.values import Values

__all__ = ["BackendContract"]


class BackendContract(Values, News, Trouble):
    """Subclass it as `Test…` and define `backend()`; `control` unlocks the tests of a frozen and a killed server."""
