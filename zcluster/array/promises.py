"""What users' functions of blocks are told of a block, and what they promised about the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks, bounds, chunks_token, is_known
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name

__all__ = ["BlockInfos", "Checked"]


class Checked:
    """A function of blocks whose result must have a promised shape.

    It is called with the block's place in the grid and the promised shape, which is -1 where
    nothing is known.
    """

    __slots__ = ("dtype", "function", "infos", "takes_id")

    def __init__(
        self, function: Callable[..., Any], dtype: Any, takes_id: bool, infos: Any = None
    ) -> None:
        self.function = function
        self.dtype = dtype
        self.takes_id = takes_id
        self.infos = infos

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(
        self, *args: Any, promised_at: tuple[int, ...], promised: tuple[int, ...], **kwargs: Any
    ) -> Any:
        if self.takes_id:
            kwargs["block_id"] = promised_at
        if self.infos is not None:
            kwargs["block_info"] = self.infos.of(promised_at)
        block = self.function(*args, **kwargs)
        shape = np.shape(block)
        if len(shape) != len(promised) or any(
            had != length for had, length in zip(shape, promised, strict=True) if length >= 0
        ):
            wanted = tuple("?" if length < 0 else length for length in promised)
            raise InvalidArgument(
                f"{callable_name(self.function)} returned an array of shape {shape} for block "
                f"{promised_at}; promised was {_shape_text(wanted)}: say with chunks=, drop_axis= "
                "or new_axis= how it changes shapes"
            )
        return block

    def __zcluster_tokenize__(self) -> Any:
        return ("checked", self.function, str(self.dtype), self.takes_id, self.infos)


def _shape_text(shape: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


class BlockInfos:
    """Makes the `block_info` of a block: where it is, in each array and in the result.

    Attributes
    ----------
    inputs : sequence of (chunks, axes)
        Of each array argument: its place among the arguments, its chunks, and the axis of the
        result that each of its axes goes along.
    chunks : tuple of tuples
        Of the result.
    dtype : dtype
        Of the result.
    """

    __slots__ = ("_points", "chunks", "dtype", "inputs")

    def __init__(
        self, inputs: Sequence[tuple[int, Chunks, tuple[int, ...]]], chunks: Chunks, dtype: Any
    ) -> None:
        self.inputs = tuple(inputs)
        self.chunks = chunks
        self.dtype = dtype
        #: Where chunks begin, of the inputs and of the result.
        self._points = [_points(own) for own in (*[own for _, own, _ in inputs], chunks)]

    def __reduce__(self) -> Any:
        return BlockInfos, (self.inputs, self.chunks, self.dtype)

    def of(self, index: tuple[int, ...]) -> dict[Any, dict[str, Any]]:
        infos: dict[Any, dict[str, Any]] = {}
        for (place, chunks, axes), points in zip(self.inputs, self._points, strict=False):
            own = tuple(0 if axis < 0 else index[axis] for axis in axes)
            infos[place] = _info(chunks, points, own)
        infos[None] = _info(self.chunks, self._points[-1], index)
        infos[None]["chunk-shape"] = tuple(c[i] for c, i in zip(self.chunks, index, strict=True))
        infos[None]["dtype"] = self.dtype
        return infos

    def __zcluster_tokenize__(self) -> Any:
        inputs = [(place, chunks_token(chunks), axes) for place, chunks, axes in self.inputs]
        return ("infos", inputs, chunks_token(self.chunks), str(self.dtype))


def _points(chunks: Chunks) -> list[list[Any]]:
    return [
        bounds(lengths).tolist() if is_known(lengths) else [math.nan] * (len(lengths) + 1)
        for lengths in chunks
    ]


def _info(chunks: Chunks, points: list[list[Any]], index: tuple[int, ...]) -> dict[str, Any]:
    return {
        "shape": tuple(own[-1] for own in points),
        "num-chunks": tuple(map(len, chunks)),
        "array-location": [(own[i], own[i + 1]) for own, i in zip(points, index, strict=True)],
        "chunk-location": index,
    }
