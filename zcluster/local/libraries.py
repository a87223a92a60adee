"""How many threads BLAS and OpenMP compute with while tasks run in several threads here.

They take all processors they see. With a task for each processor that is the square of what the
machine has, and their threads wait for each other in loops: products of matrices took three times
the processor time, and more where the machine had other work. So while a run has helpers, each
call computes with one thread. What a run of one thread does is left alone, and so is all where the
environment says how many threads there shall be.
"""

from __future__ import annotations

import os
import sys
from threading import Lock
from typing import Any

__all__ = ["begin_sharing", "end_sharing"]

#: Modules that load such libraries; with each of them the libraries are looked for again.
_LOADERS = ("numpy", "scipy.linalg", "sklearn", "torch")

_guard = Lock()
_runs = 0
_limits: Any = None
_controller: tuple[tuple[bool, ...], Any] | None = None


def begin_sharing() -> None:
    """Have libraries compute with one thread until as many calls of `end_sharing` were made."""
    global _runs, _limits
    with _guard:
        _runs += 1
        if _runs == 1 and "numpy" in sys.modules and "OMP_NUM_THREADS" not in os.environ:
            _limits = _found().limit(limits=1)


def end_sharing() -> None:
    """Say that a run is over; after the last one all is as it was."""
    global _runs, _limits
    with _guard:
        _runs -= 1
        if not _runs and _limits is not None:
            _limits.restore_original_limits()
            _limits = None


def _found() -> Any:
    """Return what controls the libraries that are loaded."""
    global _controller
    loaded = tuple(name in sys.modules for name in _LOADERS)
    if _controller is None or _controller[0] != loaded:
        # Not at the top: most programs of the command line never come here.
        from threadpoolctl import ThreadpoolController

        _controller = loaded, ThreadpoolController()
    return _controller[1]
