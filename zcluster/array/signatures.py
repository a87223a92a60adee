"""Signatures of generalised ufuncs, as NumPy writes them: ``"(i,j),(j)->(i)"``.

The names in a pair of parentheses are the **core dimensions** of an argument: its last axes, of
which the function sees all. Its other axes are **loop dimensions**, which are broadcast. A number
is a core dimension of that length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from zcluster.array.chunks import normalize_axis
from zcluster.errors import InvalidArgument

__all__ = ["Core", "Placed", "Signature", "parse", "placed"]

#: Names of the core dimensions of an argument or result.
Core = tuple[str, ...]

_ARGUMENT = re.compile(r"\(([^()]*)\)")
_NAME = re.compile(r"[A-Za-z_]\w*|\d+")


class Signature(NamedTuple):
    """The core dimensions of the arguments and of the results."""

    inputs: tuple[Core, ...]
    outputs: tuple[Core, ...]
    #: There is one result, which is returned as it is; else a tuple.
    is_single: bool


def parse(text: str) -> Signature:
    """Read a signature.

    Raises
    ------
    InvalidArgument
        If it is none; this is a ValueError too.

    Examples
    --------
    >>> parse("(i,j),(j)->(i)").inputs
    (('i', 'j'), ('j',))
    >>> parse("(i)->(),()").outputs
    ((), ())
    """
    squeezed = re.sub(r"\s+", "", text) if isinstance(text, str) else ""
    left, arrow, right = squeezed.partition("->")
    inputs, outputs = _cores(left), _cores(right)
    if not arrow or inputs is None or not outputs:
        raise InvalidArgument(
            f"{text!r} is no signature; expected core dimensions of arguments and results, such as "
            "'(i,j),(j)->(i)'"
        )
    return Signature(tuple(inputs), tuple(outputs), len(outputs) == 1)


def _cores(text: str) -> list[Core] | None:
    """Return what stands in each pair of parentheses; None if the text is something else."""
    found = _ARGUMENT.findall(text)
    if ",".join(f"({one})" for one in found) != text:
        return None
    cores: list[Core] = []
    for one in found:
        names = tuple(one.split(",")) if one else ()
        if not all(_NAME.fullmatch(name) for name in names):
            return None
        cores.append(names)
    return cores


class Placed(NamedTuple):
    """Where core dimensions are, from the front or the back."""

    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]


def placed(signature: Signature, axes: Any, axis: Any, keepdims: bool) -> Placed:
    """Return the axes of the core dimensions of each argument and result.

    Parameters
    ----------
    signature : Signature
    axes : list of tuple of int or None
        For each argument, and each result (which may be left out if none has core dimensions).
    axis : int or None
        The axis of the only core dimension, wherever it is.
    keepdims : bool
        The results have the core dimensions of the arguments, with length 1.

    Raises
    ------
    InvalidArgument
        If these make no sense together.
    """
    inputs, outputs = signature.inputs, signature.outputs
    if keepdims:
        if len(set(map(len, inputs))) > 1 or any(outputs) or not inputs:
            raise InvalidArgument(
                "keepdims=True goes with as many core dimensions in every argument and none in the "
                f"results; found {_text(inputs)} and {_text(outputs)}"
            )
        outputs = (inputs[0],) * len(outputs)
    if axis is not None:
        if axes is not None:
            raise InvalidArgument("axis= and axes= were both given; expected one of them")
        if len({name for core in inputs for name in core}) != 1 or any(
            len(core) > 1 for core in (*inputs, *outputs)
        ):
            raise InvalidArgument(
                f"axis={axis!r} goes with one core dimension that all share; found {_text(inputs)} "
                f"and {_text(signature.outputs)}: use axes="
            )
        axes = [(axis,) if core else () for core in (*inputs, *outputs)]
    if axes is None:
        return Placed([*map(_last, inputs)], [*map(_last, outputs)])
    given = [_as_tuple(one) for one in axes] if isinstance(axes, list) else None
    if given is not None and len(given) == len(inputs) and not any(signature.outputs):
        given += [given[0]] * len(outputs) if keepdims else [()] * len(outputs)
    cores = (*inputs, *outputs)
    if given is None or list(map(len, given)) != list(map(len, cores)):
        raise InvalidArgument(
            f"axes={axes!r}; expected a list with a tuple for each argument and result, as long as "
            f"its core dimensions: {_text(cores)}"
        )
    return Placed(given[: len(inputs)], given[len(inputs) :])


def _as_tuple(one: Any) -> tuple[int, ...]:
    return (int(one),) if isinstance(one, int | np.integer) else tuple(one)


def _last(core: Core) -> tuple[int, ...]:
    return tuple(range(-len(core), 0))


def _text(cores: Sequence[Core]) -> str:
    return ",".join(f"({','.join(core)})" for core in cores) or "nothing"


def order_to_end(axes: Sequence[int], ndim: int) -> list[int]:
    """Return the order of axes that brings some to the end.

    Raises
    ------
    InvalidArgument
        If one is named twice.

    Examples
    --------
    >>> order_to_end((0, -1), 3)
    [1, 0, 2]
    """
    last = [normalize_axis(axis, ndim) for axis in axes]
    if len(set(last)) != len(last):
        raise InvalidArgument(f"axes {tuple(axes)!r} name one twice; expected each once")
    return [*(axis for axis in range(ndim) if axis not in last), *last]
