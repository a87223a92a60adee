"""Configuration as text, and variables in it."""

from __future__ import annotations

import pytest

from zcluster.config import deserialize, expand_environment_variables, serialize
from zcluster.errors import InvalidArgument


def test_configuration_travels_as_text() -> None:
    values = {"worker": {"threads": 2, "names": ["\u00e4", None, 0.5, True]}}
    text = serialize(values)
    assert text.isascii()
    assert not set(text) & set(" \n+/")
    assert deserialize(text) == deserialize(text.encode()) == values


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(InvalidArgument, match="type set is not JSON serializable; expected text"):
        serialize({"x": {1}})
    for wrong in ("{}", "abc", "eyJ3"):
        with pytest.raises(InvalidArgument, match=f"found '{wrong}', expected what config.seri"):
            deserialize(wrong)


def test_variables_are_replaced_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "there")
    monkeypatch.delenv("NOWHERE", raising=False)
    values = {"a": ["$PLACE/x", ("${PLACE}", 1)], "b": {"$NOWHERE"}, "c": None}
    assert expand_environment_variables(values) == {
        "a": ["there/x", ("there", 1)],
        "b": {"$NOWHERE"},
        "c": None,
    }
