"""Fixtures of the tests that drive the cores: what `zcluster.testing` plays around them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zcluster.testing import workloads
from zcluster.testing.fakes import Function, Store, function


@pytest.fixture(scope="session")
def store() -> type[Store]:
    """Return the pretend memory of a node."""
    return Store


@pytest.fixture(scope="session")
def make_function() -> Callable[[str], Function]:
    """Return what makes callables."""
    return function


@pytest.fixture(scope="session")
def add_layer() -> Callable[..., int]:
    """Return what appends a layer to a graph."""
    return workloads.add_layer
