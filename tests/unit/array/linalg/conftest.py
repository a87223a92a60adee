"""What tests of linear algebra share: matrices of every kind in every chunking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

#: Square: even blocks, uneven ones, an empty chunk, chunks that differ by axis, and one block.
SQUARE: dict[str, Any] = {
    "even": (4, 4),
    "uneven": ((5, 1, 7), (5, 1, 7)),
    "empty": ((6, 0, 7), (6, 0, 7)),
    "crossed": ((4, 9), (2, 3, 8)),
    "rows": (3, 13),
    "columns": (13, 3),
    "one": (13, 13),
}


def _matrix(rows: int, columns: int, dtype: str = "f8", seed: int = 0) -> npt.NDArray[Any]:
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((rows, columns))
    if np.dtype(dtype).kind == "c":
        made = made + 1j * rng.standard_normal((rows, columns))
    return made.astype(dtype)


@pytest.fixture(scope="session")
def matrix() -> Callable[..., npt.NDArray[Any]]:
    """Makes a random matrix: ``matrix(rows, columns, dtype, seed)``."""
    return _matrix


@pytest.fixture(params=list(SQUARE))
def square_chunks(request: pytest.FixtureRequest) -> Any:
    """Chunks for a matrix of 13 by 13."""
    return SQUARE[request.param]


@pytest.fixture(params=["f4", "c16"])
def inexact(request: pytest.FixtureRequest) -> str:
    """A type that LAPACK knows: a short one and a long one, a real one and a complex one."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def near(agrees: Callable[..., None]) -> Callable[..., None]:
    """Like `agrees`, with a tolerance that is right for the type and for a few dozen operations."""

    def check(found: Any, expected: Any, factor: float = 1.0) -> None:
        kind = np.asarray(expected).dtype
        eps = float(np.finfo(kind).eps) if kind.kind in "fc" else 0.0
        scale = float(np.max(np.abs(expected), initial=1.0))
        agrees(found, expected, rtol=1e3 * eps * factor, atol=1e3 * eps * factor * scale)

    return check
