"""Files and variables: how they are read, and what is said of what cannot be meant."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster import config
from zcluster.config.sources import flatten, nest, read_environment, read_text, user_file
from zcluster.errors import InvalidArgument

#: Nested dictionaries in the one spelling.
NESTED = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text("ab", min_size=1, max_size=3), inner, min_size=1),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


@given(NESTED)
def test_flattened_values_nest_as_they_were(values: dict[str, Any]) -> None:
    assert nest(flatten(values)) == values


@pytest.mark.parametrize("order", [1, -1])
def test_a_value_where_another_key_has_a_section_is_not_lost_on_the_way(order: int) -> None:
    flat = dict([("a", 1), ("a.b", 2)][::order])
    assert nest(flat) == {"a": {"b": 2}}


@pytest.mark.parametrize("key", ["", 3, None])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected text such as"):
        flatten({key: 1})


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("worker.threads", "2", 2),
        ("progress", "True", True),
        ("progress", "false", False),
        ("progress", "auto", "auto"),
        ("scheduler", "none", None),
        ("worker.memory-limit", "2GB", "2GB"),
        ("worker.memory-limit", "0.5", 0.5),
        ("logging.format", "3", "3"),
        ("anything.else", "[1, 2]", [1, 2]),
        ("anything.else", "f(x)", "f(x)"),
        ("anything.else", "", ""),
    ],
)
def test_a_variable_is_a_literal_or_text(key: str, text: str, value: Any) -> None:
    assert read_text(key, text) == value


def test_variables_of_other_purposes_are_left_alone() -> None:
    others = {
        "ZCLUSTER_SCHEDULER_FILE": "x",
        "ZCLUSTER_CONFIG": "/no",
        "ZCLUSTER_TEST_RUN": "x",
        "ZCLUSTER_": "x",
        "ZCLUSTERS": "x",
        "PATH": "x",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_environment(others) == []


def test_a_variable_with_a_name_of_its_own_sets_its_key() -> None:
    (source,) = read_environment({"ZCLUSTER_FULL_TRACEBACK": "1"})
    assert source.values == {"traceback.full": True}


def test_an_unknown_variable_is_warned_of_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZCLUSTER_WORKER__MEMORYLIMIT", "2GB")
    with pytest.warns(
        UserWarning,
        match=r"variable ZCLUSTER_WORKER__MEMORYLIMIT sets .* did you mean worker.memory-limit\?",
    ):
        config.refresh()


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZCLUSTER_CLIENT__UNRUNNABLE", "explode")
    with pytest.raises(
        InvalidArgument,
        match=r"variable ZCLUSTER_CLIENT__UNRUNNABLE sets client\.unrunnable to 'explode', "
        r"expected warn or raise",
    ):
        config.refresh()
    with pytest.raises(InvalidArgument, match="explode"):
        config.get("progress")  # it stays wrong until it is corrected
    monkeypatch.delenv("ZCLUSTER_CLIENT__UNRUNNABLE")
    assert config.get("progress") == "auto"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("worker = \n", "is no TOML"),
        ("[worker]\nthreads = 'many'\n", "x.toml sets worker.threads to 'many', expected a whole"),
        ("[worker]\nthreads = 0\n", "from 1 to 4096"),
        ("[client]\ntimeout = true\n", "expected seconds"),
        ("[client]\ntimeout = -1\n", "expected seconds"),
        ("[client]\ntimeout = nan\n", "expected seconds"),
        ("[worker]\nstore-share = 2\n", "expected a share"),
        ("[output]\nrate = '1XB'\n", "expected a size such as '64KiB': size '1XB' does not parse"),
        ("[output]\nforward = 'yes'\n", "expected true or false"),
        ("[logging]\nlevel = 'loud'\n", "debug, info, warning or error"),
        ("[logging]\nformat = 3\n", "expected text"),
        ("progress = 1\n", "expected auto, true or false"),
        ("scheduler = 3\n", "'sync', 'threads'"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, text: str, says: str) -> None:
    (folder / "x.toml").write_text(text)
    with pytest.raises(InvalidArgument, match=says) as error:
        config.refresh()
    assert str(folder / "x.toml") in str(error.value)


def test_bytes_that_are_no_text_are_no_toml(folder: Path) -> None:
    (folder / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match=r"x\.toml is no TOML"):
        config.refresh()


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "x.toml").mkdir()
    with pytest.raises(InvalidArgument, match=r"x\.toml cannot be read"):
        config.refresh()


def test_a_variable_that_names_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZCLUSTER_CONFIG", "/no/such/file")
    with pytest.raises(InvalidArgument, match=r"ZCLUSTER_CONFIG names '/no/such/file'"):
        config.refresh()


def test_the_user_s_folder_is_where_the_standard_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_file() == folder / "zcluster.toml"
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert user_file() == Path(os.path.expanduser("~/.config/zcluster/zcluster.toml"))
