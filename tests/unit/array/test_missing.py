"""Every name that NumPy or Dask has and we have not leads to a way round."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zcluster.array
from zcluster.array.missing import WAYS_ROUND, missing, way_round
from zcluster.errors import NotAvailable

LISTED = {
    name.removeprefix("array.")
    for title, section in tomllib.loads(
        (Path(__file__).resolve().parents[3] / "docs" / "array_names.toml").read_text()
    ).items()
    if title != "versions"
    for name in section
}


def is_here(name: str) -> bool:
    """Tell whether a name exists below `zcluster.array`."""
    value: Any = zcluster.array
    for part in name.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


@pytest.mark.parametrize("name", ["put", "fft.fftfreq", "Array.sort", "random.permuted", "save"])
def test_a_missing_name_is_an_error_that_says_what_to_do(name: str) -> None:
    """Two kinds of error: code that asks with `hasattr` must hear no."""
    error = missing(name)
    assert isinstance(error, NotAvailable)
    assert isinstance(error, NotImplementedError)
    assert isinstance(error, AttributeError)
    assert str(error) == f"zcluster.array.{name} is not available: {WAYS_ROUND[name]} [Z027]"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "module 'zcluster.array' has no attribute 'nothing'"),
        ("linalg.nothing", "module 'zcluster.array.linalg' has no attribute 'nothing'"),
        ("Array.columns", "'Array' object has no attribute 'columns'"),
        ("random.Generator.nothing", "'Generator' object has no attribute 'nothing'"),
        ("__path__", "module 'zcluster.array' has no attribute '__path__'"),
        ("Array.__array_interface__", "'Array' object has no attribute '__array_interface__'"),
        ("_core", "module 'zcluster.array' has no attribute '_core'"),
    ],
)
def test_a_name_that_nobody_has_is_an_attribute_error(name: str, text: str) -> None:
    """So is what Python and notebooks ask every object for."""
    error = missing(name)
    assert type(error) is AttributeError
    assert str(error) == text


def test_every_listed_name_has_a_way_round() -> None:
    """Even those that are not in the table."""
    for name in sorted(one for one in LISTED if not is_here(one)):
        sentence = way_round(name)
        assert "{" not in sentence.replace("{axis: -1}", ""), name
        assert not sentence.endswith("."), name
        if not name.rpartition(".")[2].startswith("_"):
            assert isinstance(missing(name), NotAvailable), name


def test_no_name_of_the_table_is_here() -> None:
    """What it says of a name that came would be wrong, and nobody would read it."""
    assert [name for name in WAYS_ROUND if is_here(name)] == []


def test_the_table_has_listed_names_only() -> None:
    """A slip of the pen would never be found."""
    known = LISTED | {name.replace("Generator.", "").replace("RandomState.", "") for name in LISTED}
    assert set(WAYS_ROUND) - known == set()


def test_a_way_round_uses_what_there_is() -> None:
    """What it calls is a name of arrays, or of NumPy."""
    for sentence in set(WAYS_ROUND.values()):
        for name in re.findall(r"\bnumpy\.([\w.]+)", sentence):
            found = np
            for part in name.split("."):
                found = getattr(found, part)
        for name in re.findall(r"\bx\.(\w+)", sentence):
            assert f"Array.{name}" in LISTED, sentence
        for name in re.findall(r"(?<![\w.])((?:linalg|random)\.\w+|\w+)\(", sentence):
            assert name in LISTED | {"range", "len", "compute"}, sentence


def test_types_are_numpys_own() -> None:
    assert way_round("float16") == "use numpy.float16"
    assert isinstance(missing("float16"), NotAvailable)


def test_sentences_for_whole_modules() -> None:
    assert way_round("stats.skew").startswith("scipy.stats.skew(x.compute()), or")
    assert "numpy.fft.fft(x.compute())" in way_round("fft.fft")
    assert way_round("random.RandomState.beta") == way_round("random.beta")
    assert "default_rng(seed).beta(…)" in way_round("random.beta")
    assert way_round("random.Generator.permuted") == way_round("random.permuted")
    assert "block.view" in way_round("Array.view")
