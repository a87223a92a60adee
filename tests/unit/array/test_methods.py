"""The methods of arrays come from the families."""

from __future__ import annotations

from types import ModuleType

import pytest

from zcluster.array import methods
from zcluster.array.core import Array, asarray


def test_methods_of_all_families_are_there() -> None:
    """Functions as methods, properties as properties; no two families give the same name."""
    seen: dict[str, str] = {}
    for family in methods._FAMILIES:
        for name, function in getattr(family, "METHODS", {}).items():
            assert getattr(Array, name) is function
            assert seen.setdefault(name, family.__name__) == family.__name__
        for name, function in getattr(family, "PROPERTIES", {}).items():
            assert getattr(Array, name).fget is function
            assert seen.setdefault(name, family.__name__) == family.__name__


def test_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a family says is hung onto the class."""
    family = ModuleType("family")
    family.METHODS = {"twice": lambda array: array + array}  # type: ignore[attr-defined]
    family.PROPERTIES = {"half": lambda array: array / 2}  # type: ignore[attr-defined]
    monkeypatch.setattr(methods, "_FAMILIES", (family,))
    for name in ("twice", "half"):
        monkeypatch.setattr(Array, name, None, raising=False)
    methods.install()
    x = asarray(4)
    assert x.twice().compute(scheduler="sync") == 8  # type: ignore[attr-defined]
    assert x.half.compute(scheduler="sync") == 2  # type: ignore[attr-defined]
