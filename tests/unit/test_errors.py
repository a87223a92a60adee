"""The tree of errors: what catches what, and that every one of them can travel."""

from __future__ import annotations

import copy
import pickle

import pytest

from zcluster import errors
from zcluster.errors import RemoteError, ZClusterError

CLASSES: list[type[ZClusterError]] = [getattr(errors, name) for name in errors.__all__]
STANDARD = {
    "InvalidArgument": ValueError,
    "NotSerializable": TypeError,
    "ClientClosed": RuntimeError,
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
        assert (str(again), again.type_name) == ("no words", "package.module.Strange")
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
