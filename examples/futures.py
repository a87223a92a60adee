"""Futures: calls that use each other's results, taken as they come, some of which fail.

Run it with ``python examples/futures.py``.
"""

from __future__ import annotations

import time

from zcluster.distributed import Client, as_completed


def load(number: int) -> list[int]:
    """Stand for reading a file; one of them is broken."""
    time.sleep(0.05)
    if number == 7:
        raise OSError(f"file {number} cannot be read")
    return list(range(number * 100))


def count(*parts: list[int]) -> int:
    return sum(map(len, parts))


def main() -> None:
    with Client(n_workers=2, threads_per_worker=2) as client:
        files = client.map(load, range(10))
        good = []
        for future in as_completed(files):
            error = future.exception()
            if error is None:
                good.append(future)
            else:
                print(f"{future.key}: {error}")
        # The lists stay on the cluster: what travels is the futures.
        total = client.submit(count, *good)
        print(f"{len(good)} files hold {total.result()} numbers")


if __name__ == "__main__":
    main()
