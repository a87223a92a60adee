"""`einsum`: sums of products that are written down as labels of axes."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from zcluster.array.core import Array, asarray
from zcluster.array.linalg.contracting import Labels, contracted
from zcluster.array.manipulation import astype
from zcluster.errors import InvalidArgument

__all__ = ["einsum"]

_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def einsum(
    subscripts: Any,
    *operands: Any,
    dtype: Any = None,
    casting: str = "safe",
    order: str = "K",
    optimize: Any = False,
    split_every: Any = None,
    out: None = None,
) -> Array:
    """Return a sum of products of arrays by Einstein's convention.

    Parameters
    ----------
    subscripts : str
        A label for each axis of each operand, ``"ij,jk->ik"``; ``...`` stands for axes that are
        broadcast. Or the operands come with lists of integers, as in ``einsum(a, [0, 1], [0])``.
    *operands : array_like
    dtype : dtype, optional
        To calculate with.
    casting : str
        What casts to that dtype are allowed.
    order : str
        Accepted; blocks have the order that NumPy gives them.
    optimize : bool, str or list
        With more than two operands: multiply two at a time, in the order that `numpy.einsum_path`
        says. Needs memory for what is between, and often far fewer operations.
    split_every : object
        Accepted; how many products go into one task is chosen by their size.
    out : None
        Nothing is written into: take the result.

    Raises
    ------
    ValueError
        If subscripts and operands do not fit together.

    Examples
    --------
    >>> einsum("ij,ij->i", [[1, 2], [3, 4]], [[1, 0], [1, 1]]).compute()
    array([1, 7])
    """
    if out is not None:
        raise NotImplementedError("einsum(out=...) would write; use the array that it returns")
    arrays, labels, result = _parsed(subscripts, operands)
    kind = np.result_type(*[array.dtype for array in arrays])
    if dtype is not None:
        kind = np.dtype(dtype)
        arrays = [astype(one, kind, casting=casting) for one in arrays]
    if len(arrays) > 2 and optimize is not False:
        return _by_path(arrays, labels, result, kind, optimize)
    return contracted("einsum", arrays, labels, result, kind)


def _parsed(subscripts: Any, operands: Sequence[Any]) -> tuple[list[Array], list[Labels], Labels]:
    """Return the operands, with the labels of each and of the result as numbers."""
    if isinstance(subscripts, str):
        arrays = [asarray(one) for one in operands]
        inputs, arrow, wanted = subscripts.replace(" ", "").partition("->")
        terms: list[list[Any]] = [_term(text) for text in inputs.split(",")]
        told = _term(wanted) if arrow else None
    else:
        listed = [subscripts, *operands]
        arrays = [asarray(one) for one in listed[: len(listed) // 2 * 2 : 2]]
        terms = [list(one) for one in listed[1::2]]
        told = list(listed[-1]) if len(listed) % 2 else None
    if len(terms) != len(arrays):
        raise InvalidArgument(
            f"einsum: {len(terms)} subscripts for {len(arrays)} operands; expected as many"
        )
    spelled, spread = [], 0
    for place, (term, array) in enumerate(zip(terms, arrays, strict=True)):
        missing = array.ndim - (len(term) - term.count(Ellipsis))
        if term.count(Ellipsis) > 1 or missing < 0 or (missing and Ellipsis not in term):
            raise InvalidArgument(
                f"einsum: operand {place} has {array.ndim} dimensions, and its subscripts are "
                f"{_spelled(term)!r}; expected a label for each, or '...' for some of them"
            )
        spread = max(spread, missing)
        spelled.append((term, missing))
    dots = [("...", place) for place in range(spread)]
    labels = [_without_dots(term, dots[spread - missing :]) for term, missing in spelled]
    return arrays, *_numbered(labels, told, dots)


def _term(text: str) -> list[Any]:
    """Return the labels in a text; an ellipsis where it has one."""
    found: list[Any] = []
    for place, part in enumerate(text.split("...")):
        if place:
            found.append(Ellipsis)
        wrong = [letter for letter in part if letter not in _LETTERS]
        if wrong:
            raise InvalidArgument(
                f"einsum: found {wrong[0]!r} in the subscripts {text!r}; expected letters, '...', "
                "commas and '->'"
            )
        found += part
    return found


def _spelled(term: Sequence[Any]) -> str:
    return "".join("..." if one is Ellipsis else str(one) for one in term)


def _without_dots(term: Sequence[Any], dots: Sequence[Any]) -> list[Any]:
    return [one for label in term for one in (dots if label is Ellipsis else [label])]


def _numbered(
    labels: Sequence[Sequence[Any]], told: Sequence[Any] | None, dots: Sequence[Any]
) -> tuple[list[Labels], Labels]:
    """Return numbers in the place of labels, for the operands and for the result."""
    every = [label for own in labels for label in own]
    names = sorted({one for one in every if one not in dots}, key=_place)
    if told is None:
        result = [*dots, *(one for one in names if every.count(one) == 1)]
    else:
        result = _without_dots(told, dots)
        if dots and Ellipsis not in told:
            raise InvalidArgument(
                "einsum: '...' in the operands but not in the result; expected it there as well"
            )
    unknown = [one for one in result if one not in every]
    if unknown or len(set(result)) != len(result):
        raise InvalidArgument(
            f"einsum: the result's subscripts are {_spelled(result)!r}; expected labels of "
            "operands, each once"
        )
    numbers = {label: number for number, label in enumerate([*dots, *names])}
    return (
        [tuple(numbers[label] for label in own) for own in labels],
        tuple(numbers[label] for label in result),
    )


def _place(label: Any) -> Any:
    return _LETTERS.index(label) if isinstance(label, str) else label


def _by_path(
    arrays: Sequence[Array], labels: Sequence[Labels], result: Labels, dtype: Any, optimize: Any
) -> Array:
    """Multiply two operands at a time, in the order that NumPy finds."""
    stand_ins: list[Any] = []
    for array, own in zip(arrays, labels, strict=True):
        stand_ins += (np.broadcast_to(np.empty((), "f8"), array.shape), list(own))
    path, _ = np.einsum_path(*stand_ins, list(result), optimize=optimize)
    left = list(zip(arrays, labels, strict=True))
    for places in path[1:]:
        chosen = [left.pop(place) for place in sorted(places, reverse=True)]
        others = {label for _, own in left for label in own} | set(result)
        here = [label for _, own in chosen for label in own]
        kept = result if not left else tuple(x for x in dict.fromkeys(here) if x in others)
        made = contracted(
            "einsum", [one for one, _ in chosen], [own for _, own in chosen], kept, dtype
        )
        left.append((made, kept))
    return left[0][0]
