"""Lazy calls: a sum over a tree, drawn before it is run.

Run it with ``python examples/delayed_tree.py``; the picture is ``tree.svg`` in this folder.
"""

from __future__ import annotations

from typing import Any

import zcluster
from zcluster.distributed import Client


@zcluster.delayed
def add(x: int, y: int) -> int:
    return x + y


def tree(values: list[Any]) -> Any:
    """Add neighbours until one value is left."""
    while len(values) > 1:
        pairs = list(zip(values[::2], values[1::2], strict=False))
        rest = values[2 * len(pairs) :]
        values = [add(x, y) for x, y in pairs] + rest
    return values[0]


def main() -> None:
    picture = tree(list(range(16))).visualize("tree.svg")
    print(f"tree.svg shows {picture.tasks} tasks; nothing has run yet")
    with Client(n_workers=2, threads_per_worker=1):
        print("the sum of 0 to 9999 is", tree(list(range(10_000))).compute())


if __name__ == "__main__":
    main()
