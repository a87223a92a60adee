"""The tree of errors: what catches what, and that every one of them can travel."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest

from zcluster import errors
from zcluster.errors import InvalidArgument, RemoteError, ZClusterError

CLASSES: list[type[ZClusterError]] = [getattr(errors, name) for name in errors.__all__]
STANDARD = {
    "InvalidArgument": ValueError,
    "NotSerializable": TypeError,
    "NotAvailable": NotImplementedError,
    "ClientClosed": ValueError,
    "StartError": OSError,
    "UnknownKey": KeyError,
    "NotCallable": TypeError,
    "NoWorkers": TimeoutError,
    "StoreFull": MemoryError,
    "ResultNotSerializable": TypeError,
    "InvariantError": AssertionError,
}


def by_name(kind: type[ZClusterError]) -> str:
    return kind.__name__


@pytest.mark.parametrize("kind", CLASSES, ids=by_name)
def test_an_error_survives_a_pickle(kind: type[ZClusterError]) -> None:
    error = kind("what was found, and what to do")
    error.add_note("on node a")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert again.args == error.args
        assert str(again) == str(error)
        assert again.__notes__ == ["on node a"]


def test_a_remote_error_keeps_the_name_of_the_type() -> None:
    error = RemoteError("no words", "package.module.Strange")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (again.args, again.type_name) == (("no words",), "package.module.Strange")
    assert RemoteError("no words").type_name == ""


@pytest.mark.parametrize("kind", CLASSES, ids=by_name)
def test_every_error_is_of_the_tree_and_explained(kind: type[ZClusterError]) -> None:
    assert issubclass(kind, ZClusterError)
    assert kind.__doc__
    assert kind.__doc__ != ZClusterError.__doc__ or kind is ZClusterError


@pytest.mark.parametrize(("name", "standard"), STANDARD.items())
def test_code_that_knows_the_standard_errors_catches_ours(
    name: str, standard: type[Exception]
) -> None:
    with pytest.raises(standard, match="no good"):
        raise getattr(errors, name)("no good")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Each name stands below its parent, indented by one step more."""
    assert errors.__doc__ is not None
    parents: list[str] = []
    drawn: dict[str, str | None] = {}
    tree = errors.__doc__.partition("::\n\n")[2].partition("\n\n")[0]
    for line in tree.splitlines():
        name = line.strip("│├└─ ").partition(" ")[0]
        depth = (line.index(name) - 4) // 4
        drawn[name] = parents[depth - 1] if depth else None
        parents[depth:] = [name]
    actual = {
        kind.__name__: next((b.__name__ for b in kind.__bases__ if b in CLASSES), None)
        for kind in CLASSES
    }
    assert drawn == actual


def test_the_module_defines_nothing_that_it_does_not_export() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == set(errors.__all__)


# ----------------------------------------------------------------------------- codes


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text()


@pytest.mark.parametrize("kind", CLASSES, ids=by_name)
def test_a_text_ends_in_its_code_once(kind: type[ZClusterError]) -> None:
    error = kind("what was found")
    assert str(error) == f"what was found [{kind.code}]"
    assert str(kind(str(error))) == str(error), "it came over the wire as text"
    assert str(kind("")) == ""
    assert error.args == ("what was found",)


def test_a_text_that_goes_on_after_another_s_has_its_code_at_the_end_only() -> None:
    inner = InvalidArgument("x is 5, expected 1")
    assert str(InvalidArgument(f"limit: {inner}; 0 is possible")) == (
        "limit: x is 5, expected 1; 0 is possible [Z001]"
    )
    assert str(RemoteError("Bad: it\n\nTraceback\nBad: it\n")).endswith("\nBad: it [Z019]")


def test_each_class_has_a_code_of_its_own() -> None:
    codes = [kind.__dict__["code"] for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"Z\d{3}", code) for code in codes)


def test_the_page_explains_every_code_and_no_other() -> None:
    """Each error has a heading with its code and its name, in the order of the codes."""
    headings = re.findall(r"^## (Z\d{3}) `(\w+)`$", PAGE, re.MULTILINE)
    assert headings == sorted((kind.code, kind.__name__) for kind in CLASSES)
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        if re.match(r"Z\d{3} ", part):
            assert "**What to do**" in part, part.splitlines()[0]
