"""How many threads libraries compute with inside one task.

BLAS and OpenMP take all processors they see unless they are told otherwise: with a
slot for each processor that is the square of what the machine has. So a worker's
environment says one thread, unless its user says something else, and a task that
takes several slots (``threads=``) may use as many.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["default_to_one_thread", "thread_limit"]

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def default_to_one_thread() -> None:
    """Have libraries that this process loads later compute with one thread.

    Where the environment says a number already, that one holds.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        for name in _VARIABLES:
            os.environ.setdefault(name, "1")


@contextmanager
def thread_limit(threads: int) -> Iterator[None]:
    """Have libraries compute with so many threads in this block.

    The limits are of the process: they hold for tasks in its other slots as well.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    # For libraries that the task loads, and processes that it starts.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        if "numpy" in sys.modules or "scipy" in sys.modules:
            # Not at the top: it looks at all libraries of the process.
            from threadpoolctl import threadpool_limits

            with threadpool_limits(threads):
                yield
        else:
            yield
    finally:
        if before is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = before
