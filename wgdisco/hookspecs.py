"""Every hook there is. A plugin is a module named in the entry-point group `wgdisco` that implements these.

Further kinds of plugins (directories, sources, gateways, observers) will come as further hooks in this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from wgdisco.backend import Backend

__all__ = ["hookimpl", "wgdisco_backends"]

hookspec = pluggy.HookspecMarker("wgdisco")
hookimpl = pluggy.HookimplMarker("wgdisco")


@hookspec
def wgdisco_backends() -> list[type[Backend]]:  # type: ignore[empty-body]
    """Return the backend classes of this module; one of them has the entry point's name as its `name`."""
