"""Misspells the hook."""

import wgdisco


@wgdisco.hookimpl
def wgdisco_backend() -> list[type[wgdisco.Backend]]:
    """No hook has this name."""
    return []
