"""The mean of a large random array, on a cluster of this machine; then its picture."""
# mypy: ignore-errors

import sys

import zcluster.array as da
from zcluster.distributed import Client


def main():
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    client = Client(n_workers=2, threads_per_worker=1, memory_limit="1GB")
    x = da.random.random((side, side), chunks=(side // 10, side // 10))
    mean = x.mean()
    print(mean)
    print(f"Mean of the array: {mean.compute()}")
    client.close()
    da.random.random((100, 100), chunks=(50, 50)).mean().visualize(filename="da_mean.svg")


if __name__ == "__main__":
    main()
