"""Fixtures of the tests that drive the cores: the pretend cluster of `zcluster.testing`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zcluster.testing import workloads
from zcluster.testing.fakes import Function, Store, function
from zcluster.testing.stepping import SteppedWorld


@pytest.fixture(scope="session")
def world() -> type[SteppedWorld]:
    """Return the pretend cluster, to be made with a seed."""
    return SteppedWorld


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
