"""Fixtures for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings

from tests.lab.lab import Lab, LabUnavailable
from tests.support import cannot_run

# the ordinary run is the same every time; `make fuzz` looks for something new
settings.register_profile("ordinary", max_examples=60, deadline=None, derandomize=True, database=None)
settings.register_profile("fuzz", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ordinary"))


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    """Labs with the arguments of `Lab`, ended with the test; skips with the reason where none can be had."""
    with ExitStack() as kept:

        def make(**arguments: bool) -> Lab:
            try:
                return kept.enter_context(Lab(**arguments))
            except LabUnavailable as error:
                cannot_run(f"lab: {error}", "WGDISCO_LAB")

        yield make


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A lab with nothing in it but the internet (tests/lab/lab.py shows its use)."""
    return make_lab()
